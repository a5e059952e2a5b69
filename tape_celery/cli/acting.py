"""The commands by which a person decides: on one effect, one obligation, or one run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from tape_celery.cli import bulk, proposing, seen, tables
from tape_celery.cli.group import actor, as_json, command, reason
from tape_celery.cli.looking import print_run
from tape_celery.errors import NeedsSecondPerson
from tape_celery.explanation.wording import plain
from tape_celery.handle import EffectHandle
from tape_celery.tape import Tape

key = click.argument("key")


@command(
    click.option(
        "--as",
        "verdict",
        type=click.Choice(["confirmed", "failed", "observe"]),
        required=True,
        help="It landed, it did not, or look again.",
    ),
    click.option("--external-ref", default="", help="The upstream's record, where it is confirmed."),
    *bulk.options,
    reason,
    actor,
    seen.of_key,
    as_json,
)
def resolve(tape: Tape, verdict: str, external_ref: str, reason: str, actor: str, **asked: Any) -> int | None:
    """Decide an UNKNOWN or STUCK effect or obligation, or all effects that match; or ask for another look.

    `explain KEY` says what to check first. With filters in place of KEY it is a dry run, which prints the command that
    does it. Exit code: 3 some of many were refused.
    """
    act = partial(tape.resolve, verdict=verdict, reason=reason, actor=actor, external_ref=external_ref)
    if asked["key"] is None and external_ref:
        raise click.UsageError("--external-ref names one record, so it goes with one KEY")
    decides = "observe" if verdict == "observe" else f"resolve-{verdict}"
    return _one_or_many(tape, "resolve", act, ["--as", verdict], reason, actor, asked, decides=decides)


@command(*bulk.options, reason, actor, seen.of_key, as_json)
def observe(tape: Tape, reason: str, actor: str, **asked: Any) -> int | None:
    """Look again at an UNKNOWN or STUCK effect or obligation, or at all effects that match, as soon as a worker can.

    It calls nothing twice. With filters in place of KEY it is a dry run, which prints the command that does it. Exit
    code: 3 some of many were refused.
    """
    act = partial(tape.resolve, verdict="observe", reason=reason, actor=actor)
    return _one_or_many(tape, "observe", act, [], reason, actor, asked)


@command(*bulk.options, reason, actor, seen.of_key, as_json)
def cancel(tape: Tape, reason: str, actor: str, **asked: Any) -> int | None:
    """Ask for an effect not to happen, or for all that match.

    What was not sent is CANCELLED; what is under way is followed to its outcome, and undone where it landed and can be.
    With filters in place of KEY it is a dry run, which prints the command that does it. Exit code: 3 some of many were
    refused.
    """
    act = partial(tape.cancel, reason=reason, actor=actor)
    return _one_or_many(tape, "cancel", act, [], reason, actor, asked, noted="its cancel is noted")


@command(*bulk.options, reason, actor, seen.of_key, as_json)
def release(tape: Tape, reason: str, actor: str, **asked: Any) -> int | None:
    """Say that a HELD effect is meant, although it looks like another, or that all are that match: they are sent.

    With filters in place of KEY it is a dry run, which prints the command that does it. Exit code: 3 some of many were
    refused.
    """
    act = partial(tape.release, reason=reason, actor=actor)
    return _one_or_many(tape, "release", act, [], reason, actor, asked)


@command(*bulk.options, reason, actor, seen.of_key, as_json)
def reissue(tape: Tape, reason: str, actor: str, **asked: Any) -> int | None:
    """Issue a FAILED or CANCELLED effect again, as a fresh one, or all that match; each once at most.

    With filters in place of KEY it is a dry run, which prints the command that does it. Exit code: 3 some of many were
    refused.
    """
    act = partial(tape.reissue, reason=reason, actor=actor)
    return _one_or_many(tape, "reissue", act, [], reason, actor, asked)


@command(key, reason, actor, seen.of_key, as_json)
def owe(tape: Tape, key: str, reason: str, actor: str, seen_version: int | None, as_json: bool) -> int | None:
    """Have one CONFIRMED effect undone by its inverse: its obligation is registered, once."""
    seen_version = seen.version_of_key(tape, "owe", key, seen_version, as_json=as_json)
    said: dict[str, Any] = {"reason": reason, "actor": actor, "seen_version": seen_version}
    try:
        owed = tape.owe(key, **said)
    except NeedsSecondPerson as needs:
        return proposing.instead(tape, needs, "owe", key, as_json=as_json, **said)
    if as_json:
        tables.print_json(tables.as_dict(owed))
    else:
        click.echo(f"obligation {owed.obligation_key} to undo {plain(key)} is {owed.status}")
    return None


@command(click.argument("run"), reason, actor, seen.of_run, as_json)
def compensate_run(tape: Tape, run: str, reason: str, actor: str, seen_version: int | None, as_json: bool) -> int:
    """Close a run and undo what was confirmed in it, newest first; shows what is in it, and what it owes.

    Exit code: 0 it is over or goes its way, 2 it is STUCK.
    """
    tape.import_connectors()
    seen_version = seen.version_of_run(tape, "compensate-run", run, seen_version, as_json=as_json)
    said: dict[str, Any] = {"reason": reason, "actor": actor, "seen_version": seen_version}
    try:
        closed = tape.compensate_run(run, **said)
    except NeedsSecondPerson as needs:
        return proposing.instead(tape, needs, "compensate_run", run, as_json=as_json, **said)
    return print_run(closed, as_json=as_json)


@command(click.argument("run"), reason, actor, seen.of_run, as_json)
def cancel_run(tape: Tape, run: str, reason: str, actor: str, seen_version: int | None, as_json: bool) -> int:
    """Close a run and cancel what was not sent in it; what is under way may land, and what is confirmed stays."""
    tape.import_connectors()
    seen_version = seen.version_of_run(tape, "cancel-run", run, seen_version, as_json=as_json)
    return print_run(tape.cancel_run(run, reason=reason, actor=actor, seen_version=seen_version), as_json=as_json)


def _one_or_many(
    tape: Tape,
    name: str,
    act: partial[Any],
    own: Sequence[str],
    reason: str,
    actor: str,
    asked: dict[str, Any],
    *,
    decides: str = "",
    noted: str = "",
) -> int | None:
    """Do ``act`` to the KEY that was given, or show and do it to all that match the filters."""
    key, seen_version, as_json = asked.pop("key"), asked.pop("seen_version"), asked.pop("as_json")
    if key is None:
        if seen_version is not None:
            raise click.UsageError("--seen-version is of one KEY; many are held to their versions by --expect")
        words = [*own, "--reason", reason, "--actor", actor]
        return bulk.run(tape, name, act, own=words, as_json=as_json, asked=asked, decides=decides)
    bulk.refuse(asked)
    seen_version = seen.version_of_key(tape, decides or name, key, seen_version, as_json=as_json)
    try:
        after = act(key, seen_version=seen_version)
    except NeedsSecondPerson as needs:
        proposed = act.func.__name__
        return proposing.instead(tape, needs, proposed, key, as_json=as_json, seen_version=seen_version, **act.keywords)
    if isinstance(after, EffectHandle):
        if as_json:
            tables.print_json({"effect_key": after.id, "reissue_of": key})
        else:
            click.echo(f"{plain(key)} was reissued as {after.id}")
    elif as_json:
        tables.print_json(tables.as_dict(after))
    else:
        still = f"; {noted}" if noted and after.status != "CANCELLED" else ""
        click.echo(f"{plain(key)} is {after.status}{still}")
    return None
