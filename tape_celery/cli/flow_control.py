"""The commands that say how much of a connector may go: nothing, as much as a limit lets, as long as it works."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from tape_celery import flow
from tape_celery.cli import tables
from tape_celery.cli.group import actor, as_json, command, reason
from tape_celery.cli.seen import of_connector as seen
from tape_celery.errors import InvalidIntent
from tape_celery.explanation import controls
from tape_celery.flow import Flow
from tape_celery.store import standing
from tape_celery.tape import Tape

looks = click.option("--looks", is_flag=True, help="Of looks, instead of calls.")
off = click.option("--off", is_flag=True, help="Take it away.")


def _rate(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    try:
        flow.parse_rate(text or "")
    except InvalidIntent as error:
        raise click.BadParameter(str(error)) from None
    return text


def _share(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """``50%`` or ``0.5``."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise click.BadParameter(f"must read like 50% or 0.5, above 0 and up to 100%, not {text!r}")
    return share


@command(click.argument("connector"), looks, reason, actor, seen, as_json)
def pause(tape: Tape, connector: str, looks: bool, as_json: bool, **said: Any) -> None:
    """Let nobody call CONNECTOR until it is resumed. What is under way ends; looks go on.

    With --looks nobody looks, and calls go on.
    """
    paused = tape.pause(connector, looks=looks, **said)
    if as_json:
        tables.print_json(dataclasses.asdict(paused))
    else:
        what, again = (f"looks of {connector} are", " --looks") if looks else (f"{connector} is", "")
        click.echo(f"{what} paused; celery -A APP tape resume {connector}{again} lets it go on")


@command(click.argument("connector"), looks, reason, actor, seen, as_json)
def resume(tape: Tape, connector: str, looks: bool, as_json: bool, **said: Any) -> None:
    """Let CONNECTOR be called again: the next sweeps hint what waited."""
    woken = tape.resume(connector, looks=looks, **said)
    if as_json:
        tables.print_json({"connector": connector, "looks": looks, "woken": woken})
    else:
        click.echo(f"{f'looks of {connector} go' if looks else f'{connector} goes'} on; {woken} rows were asleep")


@command(
    click.argument("connector"),
    click.option("--at-once", type=click.IntRange(0, flow.MOST_AT_ONCE), help="Over all workers; 0 takes it away."),
    click.option("--rate", callback=_rate, help='Like 10/second, 100/minute, "5/2 hours"; "" takes it away.'),
    click.option(
        "--waiting",
        type=click.IntRange(0, flow.MOST_WAITING),
        help="How many may wait before no more are recorded; 0: any number.",
    ),
    looks,
    off,
    reason,
    actor,
    seen,
    as_json,
)
def limit(
    tape: Tape,
    connector: str,
    at_once: int | None,
    rate: str | None,
    waiting: int | None,
    off: bool,
    as_json: bool,
    **said: Any,
) -> None:
    """Let no more calls of CONNECTOR be under way over all workers, or be begun in a time, or wait.

    What is not given stays as it is. What waits keeps its place, and uses no attempt. While as many effects wait as
    --waiting says, the producer who asks for another one gets QueueFull.
    """
    if waiting and said["looks"]:
        raise click.UsageError("--waiting is about what is to be sent, and not for looks")
    if all(given is None for given in (at_once, rate, waiting)) != off:
        raise click.UsageError("give --at-once, --rate or --waiting, or else --off")
    wanted: dict[str, Any] = {"at_once": at_once, "rate": rate, "waiting": waiting}
    if off:
        wanted = {"at_once": 0, "rate": "", "waiting": 0}
    _tell(tape, tape.limit(connector, **wanted, **said), as_json)


@command(
    click.argument("connector"),
    click.option(
        "--share", callback=_share, metavar="SHARE", help="Of calls in trouble, like 50%, that opens it.  [50%]"
    ),
    click.option("--least", type=click.IntRange(1, flow.MOST_COUNT), help="Of fewer calls nothing is concluded.  [10]"),
    click.option("--window", "window_seconds", type=float, metavar="SECONDS", help="In which is counted.  [60]"),
    click.option("--open", "open_seconds", type=float, metavar="SECONDS", help="Before a probe goes.  [30]"),
    looks,
    off,
    reason,
    actor,
    seen,
    as_json,
)
def breaker(
    tape: Tape,
    connector: str,
    looks: bool,
    off: bool,
    reason: str,
    actor: str,
    seen_version: int | None,
    as_json: bool,
    **chosen: float | None,
) -> None:
    """Stop calling CONNECTOR for a while once so many of its calls are in trouble: UNKNOWN or failed.

    Then one effect goes, the probe, and if it is seen at the upstream everything goes on. Setting it closes it.
    """
    wanted: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if off and wanted:
        raise click.UsageError("--off goes with no other choice")
    if off:
        wanted = {"share": 0}
    said: dict[str, Any] = {"looks": looks, "reason": reason, "actor": actor, "seen_version": seen_version}
    _tell(tape, tape.breaker(connector, **said, **wanted), as_json)


def _tell(tape: Tape, after: Flow, as_json: bool) -> None:
    if as_json:
        tables.print_json(tables.of_flow(after))
        return
    tape.import_connectors()
    found = standing.read(tape.database, tape.engine.reach().lease_ms, connector=after.connector)
    lines = [line for one in found if one.flow.verb == after.verb for line in controls.lines(one)]
    for line in lines or [f"{controls.whose(after)}: neither limit nor breaker"]:
        click.echo(line)
