"""The commands.

Each is a few lines over `Tape`; errors are one line and exit code 64 and up, so that 1 and 2 keep their meaning.
"""

from __future__ import annotations

import dataclasses
import getpass
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from tape_celery.cli import tables
from tape_celery.connectors import base
from tape_celery.errors import NoSuchEffect, TapeError
from tape_celery.records import EffectStatus, ObligationStatus, RunStatus, Violation
from tape_celery.store import inspection
from tape_celery.tape import Tape, tape_of

REFUSED = 65
"""Exit code of an act or a question that was refused."""

COUNTED = 1_000
"""How many of a state are counted where nobody asks for all."""

as_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")


@click.group()
def tape() -> None:
    """Effects: what should happen once, what became of it, what is stuck."""


def command(*options: Callable[..., Any]) -> Callable[[Callable[..., int | None]], click.Command]:
    """A command of the group that gets the app's Tape first; what it returns is the exit code."""

    def decorate(body: Callable[..., int | None]) -> click.Command:
        @wraps(body)
        @click.pass_context
        def run(context: click.Context, /, **arguments: Any) -> None:
            try:
                code = body(tape_of(context.obj.app), **arguments)
            except TapeError as error:
                click.echo(f"{type(error).__name__}: {error}", err=True)
                context.exit(REFUSED)
            context.exit(code or 0)

        decorated: Any = run
        for option in reversed(options):
            decorated = option(decorated)
        return tape.command(name=body.__name__.removesuffix("_").replace("_", "-"))(decorated)

    return decorate


@command()
def migrate(tape: Tape) -> None:
    """Create or upgrade the store's schema."""
    tape.migrate()
    click.echo("the schema is up to date")


@command(click.option("--exact", is_flag=True, help=f"Count beyond {COUNTED:,} too: as slow as much is kept."), as_json)
def status(tape: Tape, exact: bool, as_json: bool) -> int:
    """Counts by state. Exit code: 0 nothing waits for anyone, 1 something is UNKNOWN, 2 something is STUCK or HELD."""
    tape.import_connectors()
    at_most = None if exact else COUNTED
    effects, owed, known = tape.counts(at_most), tape.obligation_counts(at_most), base.names()
    if as_json:
        found = {"effects": effects, "obligations": owed}
        told = {name: [dataclasses.asdict(count) for count in counts] for name, counts in found.items()}
        tables.print_json({**told, "connectors_known_here": known})
    else:
        console = tables.console()
        tables.print_counts(console, "effects", effects, known)
        if owed:
            tables.print_counts(console, "obligations", owed, known)
        strange = sorted({count.connector for count in effects if count.connector not in known and _is_open(count)})
        if strange:
            named = ", ".join(map(tables.safe, strange))
            console.print(f"no connector here is named {named}: a worker that knows it has to run")
    states = {count.status for count in (*effects, *owed)}
    return 2 if states & {EffectStatus.STUCK, EffectStatus.HELD} else 1 if EffectStatus.UNKNOWN in states else 0


@command(
    click.option("--status", "state", type=click.Choice(list(EffectStatus))),
    click.option("--connector"),
    click.option("--run", "run_id"),
    click.option("--business-key"),
    click.option("--limit", type=click.IntRange(1, inspection.MOST), default=50, show_default=True),
    as_json,
)
def list_(
    tape: Tape,
    state: str | None,
    connector: str | None,
    run_id: str | None,
    business_key: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Effects, newest first."""
    found = tape.effects(status=state, connector=connector, run_id=run_id, business_key=business_key, limit=limit)
    if as_json:
        tables.print_json([tables.as_dict(effect) for effect in found])
    else:
        tables.print_effects(tables.console(), found)


@command(click.argument("key"), as_json)
def show(tape: Tape, key: str, as_json: bool) -> None:
    """One effect or obligation: its row, its journal, what it owes."""
    record = tape.get(key) or inspection.get_obligation(tape.database, key) or tape.pruned(key)
    if record is None:
        raise NoSuchEffect(key)
    journal, owed = tape.journal(key), tape.obligations(effect_key=key)
    if as_json:
        entries = [dataclasses.asdict(entry) for entry in journal]
        told = {**tables.as_dict(record), "journal": entries, "obligations": [tables.as_dict(debt) for debt in owed]}
        tables.print_json(told)
        return
    console = tables.console()
    tables.print_record(console, record)
    tables.print_journal(console, journal)
    if owed:
        tables.print_obligations(console, owed)


@command(
    click.argument("key"),
    click.option("--as", "verdict", type=click.Choice(["confirmed", "failed", "observe"]), required=True),
    click.option("--reason", required=True, help="Why, for those who read the journal."),
    click.option("--actor", default=lambda: getpass.getuser(), show_default="the user"),
    click.option("--external-ref", default=""),
    as_json,
)
def resolve(tape: Tape, key: str, verdict: str, reason: str, actor: str, external_ref: str, as_json: bool) -> None:
    """Decide an UNKNOWN or STUCK effect, or ask for another look at it."""
    after = tape.resolve(key, verdict, reason=reason, actor=actor, external_ref=external_ref)
    if as_json:
        tables.print_json(tables.as_dict(after))
    else:
        click.echo(f"{key} is {after.status}")


@command(
    click.argument("key"),
    click.option("--reason", required=True, help="Why, for those who read the journal."),
    click.option("--actor", default=lambda: getpass.getuser(), show_default="the user"),
    as_json,
)
def release(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Say that a HELD effect is meant, although it looks like another: it is sent."""
    after = tape.release(key, reason=reason, actor=actor)
    if as_json:
        tables.print_json(tables.as_dict(after))
    else:
        click.echo(f"{key} is {after.status}")


@command(
    click.argument("key"),
    click.option("--reason", required=True, help="Why, for those who read the journal."),
    click.option("--actor", default=lambda: getpass.getuser(), show_default="the user"),
    as_json,
)
def reissue(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Issue a FAILED or CANCELLED effect again, as a fresh one; once at most."""
    successor = tape.reissue(key, reason=reason, actor=actor).id
    if as_json:
        tables.print_json({"effect_key": successor, "reissue_of": key})
    else:
        click.echo(f"{key} was reissued as {successor}")


@command(
    click.argument("run"),
    click.option("--reason", required=True, help="Why, for those who read the journal."),
    click.option("--actor", default=lambda: getpass.getuser(), show_default="the user"),
    as_json,
)
def compensate_run(tape: Tape, run: str, reason: str, actor: str, as_json: bool) -> int:
    """Close a run and undo what was confirmed in it, newest first; shows what is in it, and what it owes.

    Exit code: 0 it is over or goes its way, 2 it is STUCK.
    """
    tape.import_connectors()
    closed = tape.compensate_run(run, reason=reason, actor=actor)
    record, effects, owed = closed.record, closed.effects, closed.obligations
    if as_json:
        listed = {"effects": [*map(tables.as_dict, effects)], "obligations": [*map(tables.as_dict, owed)]}
        tables.print_json({**dataclasses.asdict(record), **listed})
    else:
        click.echo(f"run {run} is {record.status}" + (f": {record.reason}" if record.reason else ""))
        tables.print_effects(tables.console(), effects)
        if owed:
            tables.print_obligations(tables.console(), owed)
    return 2 if record.status is RunStatus.STUCK else 0


@command(
    click.option("--older-than", "days", type=float, metavar="DAYS", help="Default: tape_retention_days."),
    click.option("--limit", type=click.IntRange(1), help="The most effects that are pruned."),
    click.option("--dry-run", is_flag=True, help="Count the effects that would go, and leave them."),
    click.option("--export", "file", metavar="FILE", help="A new file for what goes, as JSON lines."),
    as_json,
)
def prune(tape: Tape, days: float | None, limit: int | None, dry_run: bool, file: str | None, as_json: bool) -> None:
    """Remove what ended long ago and owes nothing; its keys stay taken."""
    report = dataclasses.asdict(tape.prune(days, limit=limit, dry_run=dry_run, export_to=file))
    if as_json:
        tables.print_json(report)
    elif dry_run:
        click.echo(f"{report['effects']} effects could be pruned")
    else:
        click.echo("pruned: " + ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in report.items()))


@command(
    click.argument("file"),
    click.option("--older-than", "days", type=float, metavar="DAYS", help="Only what could be pruned now."),
    as_json,
)
def export(tape: Tape, file: str, days: float | None, as_json: bool) -> None:
    """Write effects, with all that belongs to them, to a new FILE as JSON lines."""
    report = dataclasses.asdict(tape.export(file, older_than_days=days))
    if as_json:
        tables.print_json(report)
    else:
        watermark = report.pop("watermark")
        told = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in report.items())
        click.echo(f"exported: {told}" + (f"; the last is {watermark}" if watermark else ""))


@command(as_json)
def sweep(tape: Tape, as_json: bool) -> None:
    """One pass of every sweep, here and now."""
    report = dataclasses.asdict(tape.sweep())
    if as_json:
        tables.print_json(report)
    else:
        click.echo(", ".join(f"{number} {name.replace('_', ' ')}" for name, number in report.items()))


@command(
    click.option("--live", is_flag=True, help="Also what has been overdue for longer than a few sweeps."),
    click.option("--after", default="", metavar="WATERMARK", help="Go on where an earlier audit stopped."),
    click.option("--seconds", type=click.FloatRange(min=0), help="Stop after the batch that is under way then."),
    as_json,
)
def audit(tape: Tape, live: bool, after: str, seconds: float | None, as_json: bool) -> int:
    """Rows that break an invariant. Exit code: 0 none, 2 some.

    A large store may be audited in parts: --seconds bounds one, and the watermark that it tells goes to the next.
    """
    ends = None if seconds is None else time.monotonic() + seconds
    found: list[Violation] = []
    watermark = ""
    for batch in tape.audit_batches(after):
        found += batch.violations
        watermark = batch.watermark
        if ends is not None and time.monotonic() >= ends:
            break
    if live:
        found += tape.overdue()
    if as_json:
        shown = [dataclasses.asdict(violation) for violation in found]
        tables.print_json({"violations": shown, "watermark": watermark})
    else:
        for violation in found:
            click.echo(f"{violation.key}: violates: {violation.invariant} ({violation.detail})")
        click.echo(f"{len(found)} violations" + (f"; go on with --after {watermark}" if watermark else ""))
    return 2 if found else 0


@tape.command()
@click.option("--wires", type=click.IntRange(20, 300), default=300, show_default=True, help="How many wires to send.")
@click.option("--seed", type=int, default=None, help="Repeats a run's misfortunes.")
@click.option("--keep", is_flag=True, help="Keep the directory to look around afterwards.")
@click.pass_context
def demo(context: click.Context, wires: int, seed: int | None, keep: bool) -> None:
    """Send wires to a bank that misbehaves, kill a worker in mid-call, and compare the books."""
    from tape_celery import demo as show_case

    context.exit(show_case.run(wires=wires, seed=seed, keep=keep))


def _is_open(count: inspection.Count) -> bool:
    return count.status in (*(s for s in EffectStatus if not s.settled), *ObligationStatus)
