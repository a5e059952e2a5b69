"""The commands of acts that take two people: `confirm`, `withdraw`, `proposals`; and how an act becomes a proposal."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

from tape_celery.cli import tables
from tape_celery.cli.group import PROPOSED, actor, as_json, command, watch
from tape_celery.cli.looking import print_run
from tape_celery.errors import NeedsSecondPerson
from tape_celery.explanation.wording import plain
from tape_celery.handle import EffectHandle
from tape_celery.records import Obligation, Proposal
from tape_celery.runs import EffectRun
from tape_celery.tape import Tape


@command(click.argument("proposal"), actor, as_json)
def confirm(tape: Tape, proposal: str, actor: str, as_json: bool) -> int | None:
    """Do what another person proposed: you are the second one. Refused where the row has moved since."""
    tape.import_connectors()
    after = tape.confirm(proposal, actor=actor)
    if isinstance(after, EffectRun):
        return print_run(after, as_json=as_json)
    if isinstance(after, EffectHandle):
        told = {"effect_key": after.id}
        line = f"it was reissued as {after.id}"
    else:
        told = tables.as_dict(after)
        key = after.obligation_key if isinstance(after, Obligation) else after.effect_key
        line = f"{plain(key)} is {after.status}"
    if as_json:
        tables.print_json(told)
    else:
        click.echo(line)
    return None


@command(click.argument("proposal"), actor, as_json)
def withdraw(tape: Tape, proposal: str, actor: str, as_json: bool) -> None:
    """Take a proposal back, or turn it down: nothing is done, and another act may be proposed."""
    after = tape.withdraw(proposal, actor=actor)
    if as_json:
        tables.print_json(dataclasses.asdict(after))
    else:
        click.echo(f"{plain(after.proposal_key)} is {after.status}")


@command(click.argument("key", required=False), as_json, watch)
def proposals(tape: Tape, key: str | None, as_json: bool) -> None:
    """What waits for a second person: of one effect, obligation or run, or all of it."""
    found = tape.proposals(key)
    if as_json:
        tables.print_json([dataclasses.asdict(one) for one in found])
    elif found:
        table = Table(box=box.SIMPLE)
        for title in ("proposal", "act", "of", "by", "why"):
            table.add_column(title, overflow="fold")
        for one in found:
            row = (one.proposal_key, words(one), one.subject_key, one.actor, one.reason)
            table.add_row(*(Text(plain(text)) for text in row))
        tables.console().print(table)
    else:
        click.echo("nothing waits for a second person")


def instead(
    tape: Tape, needs: NeedsSecondPerson, act: str, key: str, *, as_json: bool, seen_version: int | None, **said: Any
) -> int:
    """Propose an act that one person may not do alone; the exit code says that it was not done."""
    proposal = tape.propose(act, key, seen_version=seen_version, **said)
    if as_json:
        tables.print_json(dataclasses.asdict(proposal))
    else:
        click.echo(tables.error_line(needs), err=True)
        click.echo(
            f"proposed as {proposal.proposal_key}; a second person confirms with: confirm {proposal.proposal_key}"
        )
    return PROPOSED


def words(proposal: Proposal) -> str:
    """The act in words."""
    verdict = proposal.arguments.get("verdict")
    return proposal.act.replace("_", "-") + (f" as {verdict}" if verdict else "")
