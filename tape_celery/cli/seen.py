"""Which version a person decides on: the one that they name, or the one that they are shown on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from tape_celery.cli import tables
from tape_celery.cli.group import REFUSED
from tape_celery.cli.looking import existing, print_run
from tape_celery.explanation.wording import plain
from tape_celery.store import inspection
from tape_celery.tape import Tape

FACTS = ("connector", "effect_name", "business_key", "run_id", "request", "effect_key", "kind", "payload")
"""What a row is about, and what never changes in it: it goes with any version."""


def _option(row: str, tells: str) -> Callable[..., Any]:
    return click.option(
        "--seen-version",
        type=click.IntRange(0),
        help=f"The version of the {row} that you have looked at, which `{tells}` tells: refused if it has moved since. "
        "On a terminal it may be left out: you are shown what there is, and asked.",
    )


of_key = _option("row", "show KEY")
of_run = _option("run", "run RUN")
of_connector = click.option(
    "--seen-version",
    type=click.IntRange(0),
    help="The version of what was said of the connector that you have looked at: refused if it has moved since.",
)
"""Whoever stops something need not look first."""


def version_of_key(tape: Tape, act: str, key: str, named: int | None, *, as_json: bool) -> int:
    """The version of an effect or an obligation that ``act`` is done on.

    Raises `click.UsageError` where none was named and nobody can be asked.
    """
    if named is not None:
        return named
    _refuse_without_terminal("show KEY", as_json)
    row = tape.get(key) or inspection.get_obligation(tape.database, key)
    if row is None:
        return 0  # the act says what is wrong with the key
    # Read later than the row, of which it takes what does not change.
    told = tape.explain(key)
    console = tables.console()
    tables.print_record(console, row, FACTS)
    console.print()
    tables.print_explanation(console, told)
    _ask(f"{act} {plain(key)}, which is {told.status} (version {told.version})?")
    return told.version


def version_of_run(tape: Tape, act: str, run: str, named: int | None, *, as_json: bool) -> int:
    """The version of a run that ``act`` is done on; raises as `version_of_key`, and `NoSuchRun`."""
    if named is not None:
        return named
    _refuse_without_terminal("run RUN", as_json)
    found = existing(tape, run)
    record = found.record
    print_run(found, as_json=False, record=record)
    _ask(f"{act} {plain(run)}, which is {record.status} (version {record.version})?")
    return record.version


def _refuse_without_terminal(tells: str, as_json: bool) -> None:
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            f"--seen-version is missing: name the version that you have looked at, which `tape {tells}` tells; only on "
            "a terminal, without --json, you are shown what there is and asked"
        )


def _ask(question: str) -> None:
    """Go on after a yes; after anything else nothing is done, and the exit code says so."""
    try:
        if click.confirm(question):
            return
    except click.Abort:
        click.echo()
    click.echo("nothing was done", err=True)
    raise click.exceptions.Exit(REFUSED)
