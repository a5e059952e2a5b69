"""Rows as tables for people (rich) and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, get_args

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tape_celery import flow
from tape_celery.doctor import Finding, Severity
from tape_celery.explanation import Explanation
from tape_celery.explanation.wording import plain
from tape_celery.flow import Flow
from tape_celery.records import Effect, JournalEntry, Obligation, Worker, shown
from tape_celery.store.inspection import Count

BODIES = ("request_json", "payload_json", "response_json", "error_json")
HIDDEN = (*BODIES, "claim_nonce")
COLOURS = {
    "CONFIRMED": "green",
    "COMPENSATED": "green",
    "FAILED": "red",
    "STUCK": "bold red",
    "UNKNOWN": "yellow",
    "CANCELLED": "dim",
    "HELD": "yellow",
}


def as_dict(record: Effect | Obligation) -> dict[str, Any]:
    """A record for ``--json``: its fields, with the bodies decoded."""
    plain = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in HIDDEN}
    columns = [column for column in BODIES if hasattr(record, column)]
    return {**plain, **{column.removesuffix("_json"): shown(record, column) for column in columns}}


def of_flow(one: Flow) -> dict[str, Any]:
    """What is said of a connector, for ``--json``."""
    plain = {f.name: getattr(one, f.name) for f in fields(one) if f.name != "said_json"}
    said = {what: asdict(one.said(what)) for what in get_args(flow.What)}
    return {**plain, "rate": flow.shown_rate(one), "said": said}


@dataclass(frozen=True)
class Output:
    """Where a command prints, and how."""

    console: Console | None = None
    """``None``: standard output."""
    one_line: bool = False
    """JSON on one line, for who reads line by line."""


_STANDARD = Output()
_output: ContextVar[Output] = ContextVar("tape_celery_output", default=_STANDARD)


@contextmanager
def printing(output: Output) -> Iterator[None]:
    """Print so inside the block."""
    token = _output.set(output)
    try:
        yield
    finally:
        _output.reset(token)


def console() -> Console:
    """The terminal; wide where there is none, so that keys stay whole in a file or a pipe."""
    found = _output.get().console or Console()
    return found if found.is_terminal else Console(width=220)


def print_json(value: Any) -> None:
    """Plain JSON on standard output."""
    print(json.dumps(value, indent=None if _output.get().one_line else 2, default=str))


def error_line(error: Exception) -> str:
    """An error on one line, whatever is in its text."""
    return plain(f"{type(error).__name__}: {error}")


def print_effects(console: Console, effects: Sequence[Effect]) -> None:
    """One line an effect."""
    table = _table("effect", "connector", "state", "business key", "attempt", "reason", "updated")
    for effect in effects:
        table.add_row(
            safe(effect.effect_key),
            safe(effect.connector),
            coloured(effect.status),
            safe(effect.business_key),
            f"{effect.attempt}/{effect.max_attempts}",
            safe(effect.reason),
            moment(effect.updated_at_ms),
        )
    console.print(table)


def print_record(console: Console, record: Effect | Obligation, only: Collection[str] | None = None) -> None:
    """Every field that says something, or ``only`` these, one a line."""
    table = Table(show_header=False, box=None)
    for name, value in as_dict(record).items():
        if value not in (None, "", {}, False) and (only is None or name in only):
            shown = moment(value) if name.endswith("_ms") and isinstance(value, int) else safe(_text(value))
            table.add_row(name, coloured(str(value)) if name == "status" else shown)
    console.print(table)


def print_journal(console: Console, entries: Sequence[JournalEntry]) -> None:
    """The history, oldest entry first."""
    table = _table("#", "when", "what", "from", "to", "token", "by", "evidence")
    for entry in entries:
        told = {k: v for k, v in entry.evidence.items() if k not in ("terms", "nonce", "event") and v not in ("", None)}
        table.add_row(
            str(entry.seq),
            moment(entry.at_ms),
            safe(entry.kind),
            safe(entry.from_status),
            coloured(entry.status),
            str(entry.token),
            safe(entry.actor),
            safe(json.dumps(told)),
        )
    console.print(table)


def print_obligations(console: Console, obligations: Sequence[Obligation]) -> None:
    """One line an obligation."""
    table = _table("obligation", "effect", "connector", "kind", "state", "undoes", "attempt", "reason", "updated")
    for owed in obligations:
        whose = (safe(owed.obligation_key), safe(owed.effect_key), safe(owed.connector))
        row = (safe(owed.kind), coloured(owed.status), safe(owed.external_ref), f"{owed.attempt}/{owed.max_attempts}")
        table.add_row(*whose, *row, safe(owed.reason), moment(owed.updated_at_ms))
    console.print(table)


def print_sums(console: Console, sums: Sequence[tuple[tuple[str, str, str], int]]) -> None:
    """How many rows there are of each connector, state and reason."""
    table = _table("number", "connector", "state", "reason")
    for (connector, status, reason), number in sums:
        table.add_row(str(number), safe(connector), coloured(status), safe(reason))
    console.print(table)


def print_counts(console: Console, title: str, counts: Sequence[Count], known: Sequence[str]) -> None:
    """How many rows each connector has in each state."""
    table = _table("connector", "state", "number", "oldest", "known here", title=title)
    for count in counts:
        here = "yes" if count.connector in known else "[yellow]no[/]"
        number = f"{count.number}{'+' if count.more else ''}"
        table.add_row(safe(count.connector), coloured(count.status), number, moment(count.oldest_ms), here)
    console.print(table)


def print_workers(console: Console, workers: Sequence[Worker], now_ms: int) -> None:
    """One line a worker."""
    table = _table("worker", "alive", "seen", "since", "clock", "connectors", "queues", "version")
    for worker in workers:
        table.add_row(
            safe(worker.name),
            "[green]yes[/]" if worker.alive(now_ms) else "[red]no[/]",
            f"{max(0, now_ms - worker.seen_at_ms) / 1000:.0f} s ago",
            moment(worker.started_at_ms),
            f"{worker.clock_ahead_ms / 1000:+.3f} s",
            safe(", ".join(worker.connectors)),
            safe(", ".join(worker.queues)),
            safe(worker.version),
        )
    console.print(table)


def print_explanation(console: Console, told: Explanation) -> None:
    """In paragraphs: what it is, why, what happened, what comes next, what may be done."""
    _paragraph(console, f"{safe(told.key)} is {coloured(told.status)} (version {told.version}, {moment(told.at_ms)})")
    _paragraph(console, f"[bold]{safe(told.headline)}[/]")
    _paragraph(console, f"\n{safe(told.why)}")
    console.print("\n[bold]What happened[/]")
    for sentence in told.happened:
        _paragraph(console, safe(sentence), indent=2)
    console.print("\n[bold]What comes next by itself[/]")
    for coming in told.next:
        when = "" if coming.at_ms is None else "now  " if coming.at_ms <= told.at_ms else f"{moment(coming.at_ms)}  "
        _paragraph(console, f"{when}{safe(coming.what)}", indent=2)
    console.print("\n[bold]What you may do now[/]")
    for act in told.acts:
        mark = "[green]safe[/]" if act.safe else "[yellow]check first[/]"
        _paragraph(console, f"[bold]{act.name}[/] ({mark})  {safe(act.when)}", indent=2)
    if not told.acts:
        _paragraph(console, "Nothing.", indent=2)


def _paragraph(console: Console, text: str, indent: int = 0) -> None:
    """Wrapped and indented on a terminal; one line each elsewhere, for those who search."""
    if console.is_terminal:
        console.print(Padding(Text.from_markup(text), (0, 0, 0, indent)))
    else:
        console.print(" " * indent + text, soft_wrap=True)


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """What the doctor found: each thing that is wrong in words, then one line for each that is fine."""
    colours = {Severity.PROBLEM: "bold red", Severity.WARNING: "yellow", Severity.FINE: "green"}
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        told = safe(finding.seen)
        if finding.severity is not Severity.FINE:
            told = f"[bold]{told}[/]\n{safe(finding.means)}\n[cyan]->[/] {safe(finding.repair)}\n"
        table.add_row(f"[{colours[finding.severity]}]{finding.severity}[/]", safe(finding.name), told)
    console.print(table)
    number = {severity: sum(f.severity is severity for f in findings) for severity in Severity}
    console.print(", ".join(f"{count} {severity}" for severity, count in number.items()))


def coloured(status: str) -> str:
    """A state in its colour."""
    colour = COLOURS.get(status, "")
    return f"[{colour}]{status}[/]" if colour else safe(str(status))


def moment(at_ms: int) -> str:
    """An instant, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("effect", "obligation", "state"))
    return table


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def safe(text: str) -> str:
    """Text from outside: no control characters, and no markup of ours."""
    return escape(plain(text))
