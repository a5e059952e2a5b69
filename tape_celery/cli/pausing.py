"""The commands that let a connector wait, and go on."""

from __future__ import annotations

import dataclasses

import click

from tape_celery.cli import tables
from tape_celery.cli.group import actor, as_json, command, reason
from tape_celery.tape import Tape


@command(click.argument("connector"), reason, actor, as_json)
def pause(tape: Tape, connector: str, reason: str, actor: str, as_json: bool) -> None:
    """Let nobody call CONNECTOR until it is resumed. What is under way ends; looks go on."""
    paused = tape.pause(connector, reason=reason, actor=actor)
    if as_json:
        tables.print_json(dataclasses.asdict(paused))
    else:
        click.echo(f"{connector} is paused; celery -A APP tape resume {connector} lets it go on")


@command(click.argument("connector"), reason, actor, as_json)
def resume(tape: Tape, connector: str, reason: str, actor: str, as_json: bool) -> None:
    """Let CONNECTOR be called again: the next sweeps hint what waited."""
    woken = tape.resume(connector, reason=reason, actor=actor)
    if as_json:
        tables.print_json({"connector": connector, "woken": woken})
    else:
        click.echo(f"{connector} goes on; {woken} rows were asleep")
