"""The commands by which a person decides."""

from __future__ import annotations

import dataclasses

import click

from tape_celery.cli import tables
from tape_celery.cli.group import actor, as_json, command, reason
from tape_celery.records import RunStatus
from tape_celery.tape import Tape


@command(
    click.argument("key"),
    click.option("--as", "verdict", type=click.Choice(["confirmed", "failed", "observe"]), required=True),
    reason,
    actor,
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


@command(click.argument("key"), reason, actor, as_json)
def release(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Say that a HELD effect is meant, although it looks like another: it is sent."""
    after = tape.release(key, reason=reason, actor=actor)
    if as_json:
        tables.print_json(tables.as_dict(after))
    else:
        click.echo(f"{key} is {after.status}")


@command(click.argument("key"), reason, actor, as_json)
def reissue(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Issue a FAILED or CANCELLED effect again, as a fresh one; once at most."""
    successor = tape.reissue(key, reason=reason, actor=actor).id
    if as_json:
        tables.print_json({"effect_key": successor, "reissue_of": key})
    else:
        click.echo(f"{key} was reissued as {successor}")


@command(click.argument("run"), reason, actor, as_json)
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
