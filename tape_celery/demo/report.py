"""What people read at the end: where ledger and journal differ, who was killed, what was paid back, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tape_celery.demo.plan import Misbehaviour, Script
from tape_celery.demo.screen import COLOURS
from tape_celery.demo.verdict import Row, Verdict
from tape_celery.records import EffectStatus, JournalEntry, Obligation, ObligationStatus

PROBLEMS_SHOWN = 30
HOW = {
    Script.GOOD: "the answer came, and was recorded",
    Script.LOSES_ANSWER: "UNKNOWN; asked, the bank has it",
    Script.ERROR_AFTER: "UNKNOWN; asked, the bank has it",
    Script.SLOW: "UNKNOWN; asked, the bank has it",
    Script.BOOKS_LATE: "UNKNOWN; not there yet, and too early to believe that; asked again, the bank has it",
    Script.TWICE: "UNKNOWN; asked, the bank has it twice: the reversal of the second is owed, and paid",
    Script.ERROR_BEFORE: "UNKNOWN; asked again after the settle time, the bank does not have it: FAILED is the truth",
    Script.UNAVAILABLE: "UNKNOWN; asked again after the settle time, the bank does not have it: FAILED is the truth",
    Script.REFUSES: "the bank said no: FAILED at once",
    Script.BUSY: "the bank said that it did nothing: sent again when it said",
}
"""How a wire comes out of each script; whatever a kill does to it ends the same."""


def report(
    console: Console,
    verdict: Verdict,
    *,
    plan: Mapping[str, Misbehaviour],
    obligations: Sequence[Obligation],
    killed: Sequence[str],
    journal_of: Callable[[str], Sequence[JournalEntry]],
) -> None:
    """Print it all.

    ``killed``: the wires that were in flight when the worker was killed. ``journal_of`` takes an effect key.
    """
    console.print()
    _what_the_bank_did(console, verdict, plan)
    _where_they_differ(console, verdict, plan)
    _obligations(console, obligations)
    _killed(console, verdict, plan, killed, journal_of)
    _verdict(console, verdict, obligations)


def _what_the_bank_did(console: Console, verdict: Verdict, plan: Mapping[str, Misbehaviour]) -> None:
    table = Table(title="What the bank did to the wires, and what became of them", title_justify="left", expand=False)
    table.add_column("the bank")
    table.add_column("wires", justify="right")
    table.add_column("became")
    table.add_column("stand", justify="right")
    table.add_column("how", overflow="fold")
    groups: dict[Script, list[Row]] = {}
    for row in verdict.rows:
        groups.setdefault(plan[row.wire.business_key].script, []).append(row)
    for script, rows in sorted(groups.items(), key=lambda group: -len(group[1])):
        counts = Counter(str(row.status or "not in the journal") for row in rows)
        became = ", ".join(f"{count} {status}" for status, count in counts.items())
        table.add_row(script, str(len(rows)), became, str(sum(len(row.standing) for row in rows)), HOW[script])
    console.print(table)


def _where_they_differ(console: Console, verdict: Verdict, plan: Mapping[str, Misbehaviour]) -> None:
    if not verdict.differing:
        console.print("The ledger is the journal, line by line.")
        return
    table = Table(title="Where the ledger is not line by line the journal", title_justify="left", expand=False)
    for name in ("wire", "creditor", "amount", "journal", "booked as", "reversed", "stands", "why"):
        table.add_column(name, justify="right" if name == "amount" else "left", overflow="fold")
    for row in verdict.differing:
        why = Text(plan[row.wire.business_key].script)
        if row.problems:
            why = Text("; ".join(row.problems), style="bold red")
        table.add_row(
            row.wire.business_key,
            row.wire.creditor,
            f"{row.wire.amount} {row.wire.currency}",
            _status(row),
            " ".join(row.booked),
            " ".join(row.taken_back),
            " ".join(row.standing),
            why,
        )
    console.print(table)


def _obligations(console: Console, obligations: Sequence[Obligation]) -> None:
    if not obligations:
        return
    table = Table(title="Obligations: reversals that were owed", title_justify="left", expand=False)
    for name in ("booking", "why", "state", "calls"):
        table.add_column(name)
    for owed in obligations:
        colour = "green" if owed.status is ObligationStatus.COMPENSATED else "bold red"
        table.add_row(owed.external_ref, owed.kind, Text(owed.status, style=colour), str(owed.attempt))
    console.print(table)


def _killed(
    console: Console,
    verdict: Verdict,
    plan: Mapping[str, Misbehaviour],
    killed: Sequence[str],
    journal_of: Callable[[str], Sequence[JournalEntry]],
) -> None:
    if not killed:
        return
    table = Table(title="In the hands of the dispatch worker when it was killed", title_justify="left", expand=False)
    for name in ("wire", "the bank", "its way", "stands in the ledger"):
        table.add_column(name, overflow="fold")
    rows = {row.wire.business_key: row for row in verdict.rows}
    unheard = [row.wire.business_key for row in verdict.rows if _never_sent(row, plan[row.wire.business_key].script)]
    for business_key in dict.fromkeys([*killed, *unheard]):
        row = rows[business_key]
        entries = journal_of(row.effect.effect_key) if row.effect else ()
        bank = plan[business_key].script if business_key in killed else "never heard of it"
        table.add_row(business_key, bank, _way(entries), " ".join(row.standing) or "no")
    console.print(table)


def _verdict(console: Console, verdict: Verdict, obligations: Sequence[Obligation]) -> None:
    confirmed, failed = verdict.with_status(EffectStatus.CONFIRMED), verdict.with_status(EffectStatus.FAILED)
    absent = sum(1 for row in failed if row.effect and row.effect.absent)
    twice = sum(1 for row in confirmed if len(row.booked) > 1)
    lines = [
        f"{len(verdict.rows)} wires submitted: {len(confirmed)} CONFIRMED, {len(failed)} FAILED.",
        f"{twice} were booked twice by the bank; {len(obligations)} reversals were owed.",
        f"FAILED are {len(failed) - absent} that the bank refused, and {absent} that it does not have, asked after the "
        "settle time.",
        "",
    ]
    if verdict.holds:
        lines.append(
            "VERDICT: it holds. Every CONFIRMED wire is booked exactly once net of reversals, every FAILED wire not at "
            "all, nothing is left unsettled, nothing is owed, and the audit is empty."
        )
        lines.append("A FAILED wire moved no money: a person or the app may issue it again.")
    else:
        lines.append(f"VERDICT: it does NOT hold; {len(verdict.problems)} problems:")
        lines += [f"  {problem}" for problem in verdict.problems[:PROBLEMS_SHOWN]]
        if len(verdict.problems) > PROBLEMS_SHOWN:
            lines.append(f"  … and {len(verdict.problems) - PROBLEMS_SHOWN} more")
    colour = "green" if verdict.holds else "bold red"
    console.print(Panel(Text("\n".join(lines)), border_style=colour, width=min(console.width, 110)))


def _status(row: Row) -> Text:
    return Text(row.status, style=COLOURS[row.status]) if row.status else Text("nothing", style="bold red")


def _never_sent(row: Row, script: Script) -> bool:
    """Whether the worker died with the wire claimed and not sent: the bank would have booked it."""
    absent = row.effect is not None and row.effect.absent
    return absent and not row.booked and script not in (Script.ERROR_BEFORE, Script.UNAVAILABLE)


def _way(entries: Sequence[JournalEntry]) -> str:
    way: list[str] = []
    for entry in entries:
        if entry.status and (not way or way[-1] != entry.status):
            way.append(entry.status)
    return " → ".join(way)
