"""The group of commands, and what they share.

A module of commands imports `command` from here, and is named in the package's ``__init__``. Each command is a few
lines over `Tape`; errors are one line and exit code 64 and up, so that 1 and 2 keep their meaning.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from tape_celery.errors import TapeError
from tape_celery.tape import tape_of

REFUSED = 65
"""Exit code of an act or a question that was refused."""

as_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
reason = click.option("--reason", required=True, help="Why, for those who read the journal.")
actor = click.option("--actor", default=lambda: getpass.getuser(), show_default="the user", help="Who decides it.")


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
