"""``--watch``: a look that is taken again and again, on a terminal in place and on a pipe one after the other."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from tape_celery.cli import tables
from tape_celery.errors import StoreUnavailable


def wait(seconds: float) -> None:
    """Until the next look."""
    time.sleep(seconds)


def repeat(look: Callable[[], int | None], seconds: float) -> int:
    """Take ``look`` until Ctrl-C; returns what the last one returned.

    A store that is away for a while is said and asked again; any other error of ours is raised.
    """
    terminal = Console()
    return _live(look, seconds, terminal) if terminal.is_terminal else _lines(look, seconds)


def _lines(look: Callable[[], int | None], seconds: float) -> int:
    code = 0
    with contextlib.suppress(KeyboardInterrupt), tables.printing(tables.Output(one_line=True)):
        while True:
            code = _look(look, code)
            sys.stdout.flush()
            wait(seconds)
    return code


def _live(look: Callable[[], int | None], seconds: float, terminal: Console) -> int:
    """On the terminal's other screen, as pagers do it; what was seen last stays on the first one."""
    code, shown = 0, Text()
    with contextlib.suppress(KeyboardInterrupt), Live(console=terminal, screen=True, auto_refresh=False) as live:
        while True:
            page = io.StringIO()
            console = Console(file=page, force_terminal=True, width=terminal.width)
            with contextlib.redirect_stdout(page), tables.printing(tables.Output(console=console)):
                code = _look(look, code)
            shown = Text.from_ansi(page.getvalue())
            live.update(Text.assemble(f"every {seconds:g} s, until Ctrl-C\n", shown), refresh=True)
            wait(seconds)
    terminal.print(shown)
    return code


def _look(look: Callable[[], int | None], before: int) -> int:
    try:
        return look() or 0
    except StoreUnavailable as error:
        click.echo(tables.error_line(error))
        return before
