"""The group of commands, and what they share.

A module of commands imports `command` from here, and is named in the package's ``__init__``. Each command is a few
lines over `Tape`; errors are one line and exit code 64 and up, so that 1, 2 and 3 keep their meaning.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import click

from tape_celery import intent, people
from tape_celery.cli import tables, watching
from tape_celery.errors import StoreUnavailable, TapeError
from tape_celery.tape import tape_of

SOME_REFUSED = 3
"""Exit code of an act on many rows of which some were refused."""
MISUSED = 64
"""Exit code of a command line that cannot be read."""
REFUSED = 65
"""Exit code of an act or a question that was refused."""
PROPOSED = 66
"""Exit code of an act that waits for a second person."""
STORE_AWAY = 69
"""Exit code where the store could not be reached."""

as_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
reason = click.option(
    "--reason",
    required=True,
    help="Why, for those who read the journal; tape_reason_min_characters or more, 10 where it is not set.",
)
actor = click.option(
    "--actor",
    default=lambda: getpass.getuser(),
    show_default="the user",
    callback=lambda _context, _option, name: people.human(name),
    help="Who decides it: human:NAME in the journal.",
)
watch = click.option(
    "--watch",
    "every",
    type=click.FloatRange(min=0.2),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Look again every 2 s, or as many, until Ctrl-C. With --json a line each time.",
)
"""For a command that only looks; the body does not get it."""


def _misused(error: click.UsageError) -> click.UsageError:
    error.exit_code = MISUSED  # type: ignore[misc]  # click reads it of the instance
    return error


class _Command(click.Command):
    """A command whose misuse has an exit code of its own: click's is 2, which says here that something is STUCK."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _misused(error) from None


class _Group(click.Group):
    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            raise _misused(error) from None


@click.group(cls=_Group)
def tape() -> None:
    """Effects: what should happen once, what became of it, what is stuck.

    Exit codes: 0 done, 1 and 2 what a command says of its findings, 3 some of many were refused, 64 the command line
    cannot be read, 65 refused (one line says why), 66 proposed, and waits for a second person, 69 the store cannot be
    reached.
    """


def command(*options: Callable[..., Any]) -> Callable[[Callable[..., int | None]], click.Command]:
    """A command of the group that gets the app's Tape first; what it returns is the exit code."""

    def decorate(body: Callable[..., int | None]) -> click.Command:
        @wraps(body)
        @click.pass_context
        def run(context: click.Context, /, every: float | None = None, **arguments: Any) -> None:
            try:
                its_tape = tape_of(context.obj.app)
                if "reason" in arguments:
                    intent.persons_reason(arguments["reason"], its_tape.settings.reason_min_characters)
                look = partial(body, its_tape, **arguments)
                code = look() if every is None else watching.repeat(look, every)
            except click.UsageError as error:
                raise _misused(error) from None
            except StoreUnavailable as error:
                click.echo(tables.error_line(error), err=True)
                context.exit(STORE_AWAY)
            except TapeError as error:
                click.echo(tables.error_line(error), err=True)
                context.exit(REFUSED)
            context.exit(code or 0)

        decorated: Any = run
        for option in reversed(options):
            decorated = option(decorated)
        named = body.__name__.removesuffix("_").replace("_", "-")
        return tape.command(name=named, cls=_Command)(decorated)

    return decorate
