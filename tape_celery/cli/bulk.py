"""An act on all effects that match: shown first, and then done to exactly those that were shown.

The dry run prints a command with ``--expect``: how many there were, and a digest of their keys and versions. It is
refused as a whole when another set matches by then; and each row is acted on under the version that was read, so one
that moves in between is refused, and said.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import click

from tape_celery.cli import filters, tables
from tape_celery.cli.group import REFUSED, SOME_REFUSED
from tape_celery.errors import StoreUnavailable, TapeError
from tape_celery.explanation import foresight
from tape_celery.explanation.wording import counted, plain
from tape_celery.records import Effect
from tape_celery.store import inspection, paging
from tape_celery.store.paging import Filters
from tape_celery.tape import Tape

SHOWN = 20
"""How many rows a dry run shows to a person; JSON has them all."""
MOST_READ = 20 * paging.MOST
"""How many rows are looked at for those that may be acted on."""

options: Sequence[Callable[..., Any]] = (
    click.argument("key", required=False),
    *filters.of_effects,
    filters.limit(100, paging.MOST),
    click.option("--yes", is_flag=True, help="Do it to those that match; without it they are only shown."),
    click.option("--expect", metavar="SET", help="Which set was shown, as the dry run prints it. Goes with --yes."),
)
"""The options of an act that takes a KEY or filters."""


class Act(Protocol):
    """What is done to one row."""

    def __call__(self, key: str, /, *, seen_version: int | None) -> Any: ...


@dataclass(frozen=True)
class Selection:
    """The rows that an act is about, oldest first."""

    filters: Filters
    limit: int
    rows: Sequence[Effect]
    more: bool
    """There are more than ``limit``, or than were looked at."""

    @property
    def digest(self) -> str:
        """How many they are, and which, in which versions."""
        text = "\n".join(f"{row.effect_key} {row.version}" for row in self.rows)
        return f"{len(self.rows)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def run(
    tape: Tape, name: str, act: Act, *, own: Sequence[str], as_json: bool, asked: dict[str, Any], decides: str = ""
) -> int:
    """Show what ``act`` would be done to, or do it; returns the exit code.

    ``name`` is the command's, ``own`` its words beside the filters, ``decides`` the act's name in `foresight`.
    """
    yes, expect, limit = asked.pop("yes"), asked.pop("expect"), asked.pop("limit")
    if not any(value is not None for value in asked.values()):
        raise click.UsageError("name a KEY, or say which ones: --status, --connector, --run, --business-key, an age")
    if yes != (expect is not None):
        raise click.UsageError("--yes and --expect go together: without them it is a dry run, which prints them")
    tape.import_connectors()
    now = inspection.now_ms(tape.database)
    wanted = filters.asked(now, **asked)
    if wanted.recorded_before_ms is None:
        # What is recorded from now on was not shown.
        wanted = replace(wanted, recorded_before_ms=now)
    chosen = _select(tape, decides or name, wanted, limit, now)
    if not yes:
        _show(chosen, name, own, as_json)
        return 0
    if expect != chosen.digest:
        click.echo(f"Refused: {plain(expect)} was shown, and {chosen.digest} matches now; nothing was done", err=True)
        return REFUSED
    return _do(chosen, act, as_json)


def refuse(asked: dict[str, Any]) -> None:
    """Raise `click.UsageError` where filters stand beside a KEY."""
    if any(value not in (None, False) for name, value in asked.items() if name != "limit"):
        raise click.UsageError("a KEY takes no filters, and neither --yes nor --expect")


def _select(tape: Tape, act: str, wanted: Filters, limit: int, now: int) -> Selection:
    states = foresight.states_for(act)
    if wanted.status is not None and wanted.status not in states:
        raise click.UsageError(f"{act} is for what is {' or '.join(states)}, not {wanted.status}")
    rows: list[Effect] = []
    more = False
    for state in states if wanted.status is None else [wanted.status]:
        found, unread = _allowed(tape, act, filters.of_state(wanted, state), limit + 1, now)
        rows += found
        more = more or unread
    rows.sort(key=lambda row: row.effect_key)
    return Selection(wanted, limit, rows[:limit], more or len(rows) > limit)


def _allowed(tape: Tape, act: str, wanted: Filters, number: int, now: int) -> tuple[list[Effect], bool]:
    """The oldest of one state that the act is allowed on, and whether any were left unread."""
    rows: list[Effect] = []
    after, read = paging.FIRST, 0
    while True:
        page = paging.read_page(tape.database, wanted, after=after, limit=paging.MOST)
        # The last page is a whole one, and begins with some of the one before.
        found = sorted((row for row in page.effects if row.effect_key > after), key=lambda row: row.effect_key)
        read += len(found)
        rows += [row for row in found if foresight.after_act(row, act, now, tape._terms(row)) is not None]
        if len(rows) >= number or not page.newer or not found:
            return rows[:number], False
        if read >= MOST_READ:
            return rows, True
        after = found[-1].effect_key


def _show(chosen: Selection, name: str, own: Sequence[str], as_json: bool) -> None:
    sums = Counter((row.connector, str(row.status), row.reason) for row in chosen.rows)
    command = _command(chosen, name, own)
    if as_json:
        shown = [
            {"effect_key": row.effect_key, "version": row.version, "status": row.status, "connector": row.connector,
             "business_key": row.business_key, "reason": row.reason}
            for row in chosen.rows
        ]  # fmt: skip
        by = [{"connector": c, "status": s, "reason": r, "number": n} for (c, s, r), n in sums.most_common()]
        told = {"act": name, "dry_run": True, "number": len(shown), "more": chosen.more, "by": by, "rows": shown}
        tables.print_json({**told, "expect": chosen.digest, "command": command})
        return
    console = tables.console()
    if not chosen.rows:
        console.print("nothing matches that this may be done to")
        return
    console.print(f"dry run: {name} would be done to {counted(len(chosen.rows), 'effect')}")
    tables.print_sums(console, sums.most_common())
    tables.print_effects(console, chosen.rows[:SHOWN])
    if len(chosen.rows) > SHOWN:
        console.print(f"and {len(chosen.rows) - SHOWN} more of them")
    if chosen.more:
        console.print(f"there are more than --limit {chosen.limit}: these are the oldest, the others stay as they are")
    console.print("nothing was done; to do it:")
    click.echo(command)


def _command(chosen: Selection, name: str, own: Sequence[str]) -> str:
    """The command line that does what was shown."""
    argv = sys.argv
    started = argv[: argv.index("tape") + 1] if "tape" in argv else ["celery", "-A", "APP", "tape"]
    program = ["python", "-m", "celery"] if started[0].endswith("__main__.py") else [os.path.basename(started[0])]
    words = [*program, *started[1:], name, *own, *filters.as_options(chosen.filters), "--limit", str(chosen.limit)]
    return plain(shlex.join([*words, "--yes", "--expect", chosen.digest]))


def _do(chosen: Selection, act: Act, as_json: bool) -> int:
    done: list[dict[str, str]] = []
    refused: list[dict[str, str]] = []
    stopped = ""
    for row in chosen.rows:
        said = stopped and f"not tried: {stopped}"
        try:
            if not stopped:
                after = act(row.effect_key, seen_version=row.version)
                done.append({"effect_key": row.effect_key, "is": _outcome(after)})
        except StoreUnavailable as error:
            stopped = tables.error_line(error)
            said = f"not known: {stopped}"
        except TapeError as error:
            said = tables.error_line(error)
        except KeyboardInterrupt:
            stopped = "interrupted"
            said = f"not known: {stopped}"
        if said:
            refused.append({"effect_key": row.effect_key, "why": said})
        if not as_json:
            click.echo(f"{row.effect_key}: {said or 'is ' + done[-1]['is']}")
    if as_json:
        tables.print_json({"done": done, "refused": refused})
    else:
        click.echo(f"{len(done)} done, {len(refused)} refused")
    return SOME_REFUSED if refused else 0


def _outcome(after: Any) -> str:
    return str(after.status) if isinstance(after, Effect) else f"reissued as {after.id}"
