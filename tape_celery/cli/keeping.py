"""The commands that keep the store: its schema, its sweeps, its audit, what is old; and the demo."""

from __future__ import annotations

import dataclasses
import time

import click

from tape_celery.cli import chain as chains
from tape_celery.cli import group, tables
from tape_celery.cli.group import as_json, command
from tape_celery.explanation.wording import plain
from tape_celery.records import Violation
from tape_celery.tape import Tape


@command()
def migrate(tape: Tape) -> None:
    """Create or upgrade the store's schema."""
    tape.migrate()
    click.echo("the schema is up to date")


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


@command(
    click.option("--limit", type=click.IntRange(1), help="The most rows that are encrypted."),
    click.option("--dry-run", is_flag=True, help="Count what would be encrypted, and leave it."),
    as_json,
)
def reencrypt(tape: Tape, limit: int | None, dry_run: bool, as_json: bool) -> None:
    """Encrypt all that is stored under the newest key; exit code 1: something is left."""
    report = tape.reencrypt(limit=limit, dry_run=dry_run)
    if as_json:
        tables.print_json(dataclasses.asdict(report))
    else:
        told = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in dataclasses.asdict(report).items())
        click.echo(f"{'to be encrypted' if dry_run else 'encrypted'}: {told}")
    if report.moved or report.unreadable:
        raise SystemExit(1)


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
    click.option("--chain", is_flag=True, help="Verify the journal's digests instead."),
    click.option("--heads", metavar="FILE", help="With --chain: a new file for what each chain ends with."),
    click.option(
        "--against",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="With --chain: such a file from earlier, whose heads must still be there.",
    ),
    as_json,
)
def audit(
    tape: Tape,
    live: bool,
    after: str,
    seconds: float | None,
    chain: bool,
    heads: str | None,
    against: str | None,
    as_json: bool,
) -> int:
    """Rows that break an invariant; with --chain, entries of the journal that are not as they were written.

    Exit code: 0 none, 2 some. A large store may be audited in parts: --seconds bounds one, and the watermark that it
    tells goes to the next.
    """
    if (heads or against) and not chain:
        raise click.UsageError("--heads and --against go with --chain")
    if live and chain:
        raise click.UsageError("--live does not go with --chain")
    ends = None if seconds is None else time.monotonic() + seconds
    if chain:
        return chains.audit(tape, after=after, ends=ends, heads_to=heads, against=against, as_json=as_json)
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
            click.echo(f"{plain(violation.key)}: violates: {violation.invariant} ({plain(violation.detail)})")
        click.echo(f"{len(found)} violations" + (f"; go on with --after {watermark}" if watermark else ""))
    return 2 if found else 0


@group.tape.command()
@click.option("--wires", type=click.IntRange(20, 300), default=300, show_default=True, help="How many wires to send.")
@click.option("--seed", type=int, default=None, help="Repeats a run's misfortunes.")
@click.option("--keep", is_flag=True, help="Keep the directory to look around afterwards.")
@click.pass_context
def demo(context: click.Context, wires: int, seed: int | None, keep: bool) -> None:
    """Send wires to a bank that misbehaves, kill a worker in mid-call, and compare the books."""
    from tape_celery import demo as show_case

    context.exit(show_case.run(wires=wires, seed=seed, keep=keep))
