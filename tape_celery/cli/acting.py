"""The commands by which a person decides: on one effect, one obligation, or one run."""

from __future__ import annotations

import click

from tape_celery.cli import tables
from tape_celery.cli.group import actor, as_json, command, reason
from tape_celery.cli.looking import print_run
from tape_celery.explanation.wording import plain
from tape_celery.records import Effect, Obligation
from tape_celery.tape import Tape

key = click.argument("key")


@command(
    key,
    click.option(
        "--as",
        "verdict",
        type=click.Choice(["confirmed", "failed", "observe"]),
        required=True,
        help="It landed, it did not, or look again.",
    ),
    reason,
    actor,
    click.option("--external-ref", default="", help="The upstream's record, where it is confirmed."),
    as_json,
)
def resolve(tape: Tape, key: str, verdict: str, reason: str, actor: str, external_ref: str, as_json: bool) -> None:
    """Decide an UNKNOWN or STUCK effect or obligation, or ask for another look at it.

    `explain KEY` says what to check first.
    """
    _tell(tape.resolve(key, verdict, reason=reason, actor=actor, external_ref=external_ref), as_json)


@command(key, reason, actor, as_json)
def observe(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Look again at an UNKNOWN or STUCK effect or obligation, as soon as a worker can; calls nothing twice."""
    _tell(tape.resolve(key, "observe", reason=reason, actor=actor), as_json)


@command(key, reason, actor, as_json)
def cancel(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Ask for an effect not to happen.

    What was not sent is CANCELLED; what is under way is followed to its outcome, and undone where it landed and can be.
    """
    _tell(tape.cancel(key, reason=reason, actor=actor), as_json, noted="its cancel is noted")


@command(key, reason, actor, as_json)
def release(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Say that a HELD effect is meant, although it looks like another: it is sent."""
    _tell(tape.release(key, reason=reason, actor=actor), as_json)


@command(key, reason, actor, as_json)
def reissue(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Issue a FAILED or CANCELLED effect again, as a fresh one; once at most."""
    successor = tape.reissue(key, reason=reason, actor=actor).id
    if as_json:
        tables.print_json({"effect_key": successor, "reissue_of": key})
    else:
        click.echo(f"{plain(key)} was reissued as {successor}")


@command(key, reason, actor, as_json)
def owe(tape: Tape, key: str, reason: str, actor: str, as_json: bool) -> None:
    """Have one CONFIRMED effect undone by its inverse: its obligation is registered, once."""
    owed = tape.owe(key, reason=reason, actor=actor)
    if as_json:
        tables.print_json(tables.as_dict(owed))
    else:
        click.echo(f"obligation {owed.obligation_key} to undo {plain(key)} is {owed.status}")


@command(click.argument("run"), reason, actor, as_json)
def compensate_run(tape: Tape, run: str, reason: str, actor: str, as_json: bool) -> int:
    """Close a run and undo what was confirmed in it, newest first; shows what is in it, and what it owes.

    Exit code: 0 it is over or goes its way, 2 it is STUCK.
    """
    tape.import_connectors()
    return print_run(tape.compensate_run(run, reason=reason, actor=actor), as_json=as_json)


@command(click.argument("run"), reason, actor, as_json)
def cancel_run(tape: Tape, run: str, reason: str, actor: str, as_json: bool) -> int:
    """Close a run and cancel what was not sent in it; what is under way may land, and what is confirmed stays."""
    tape.import_connectors()
    return print_run(tape.cancel_run(run, reason=reason, actor=actor), as_json=as_json)


def _tell(after: Effect | Obligation, as_json: bool, noted: str = "") -> None:
    if as_json:
        tables.print_json(tables.as_dict(after))
        return
    row_key = after.effect_key if isinstance(after, Effect) else after.obligation_key
    still = f"; {noted}" if noted and after.status != "CANCELLED" else ""
    click.echo(f"{plain(row_key)} is {after.status}{still}")
