"""Our loggers: whatever text from outside is in a record of theirs, no formatter makes two lines of it.

People's reasons, upstreams' words and exceptions' messages may hold line ends and what steers a terminal; the journal
keeps a reason as it was given, and its record in the log shows those characters written out, as ``\\n`` and ``\\x1b``.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any


def printable(text: str) -> str:
    """``text`` on one line: what cannot be printed is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def logger_for(module: str) -> logging.Logger:
    """The logger of one of our modules, by its ``__name__``; its records are of one line each, but for tracebacks."""
    logger = logging.getLogger(module)
    logger.addFilter(_on_one_line)  # of a logger, not of a handler: those are the app's
    return logger


def _on_one_line(record: logging.LogRecord) -> bool:
    """Escape what ``record`` tells, in place. The template stays apart from what it tells, for who groups by it."""
    record.msg = printable(str(record.msg))
    told = record.args
    if isinstance(told, Mapping):
        record.args = {name: _escaped(value) for name, value in told.items()}
    elif told:
        record.args = tuple(_escaped(value) for value in told)
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = _traceback(record.exc_info[1])  # formatters take it where it is there
    return True


class _Escaped:
    """A value whose text is escaped when it is asked for, by a handler, which bears it if that raises."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __str__(self) -> str:
        return printable(str(self._value))

    def __repr__(self) -> str:
        return printable(repr(self._value))


def _escaped(value: Any) -> Any:
    if isinstance(value, int | float):
        return value
    return printable(value) if type(value) is str else _Escaped(value)


def _traceback(error: BaseException) -> str:
    """As Python writes it, cause first, but each message on one line of its own."""
    chain: list[traceback.TracebackException] = []
    one: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
    while one is not None:
        chain.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    lines: list[str] = []
    for one in reversed(chain):
        lines += ["Traceback (most recent call last):" if not lines else "Traceback of what came of it:"]
        lines += [line for frame in one.stack.format() for line in frame.rstrip("\n").split("\n")]
        said, *notes = [line.rstrip("\n") for line in one.format_exception_only()]
        lines += [said, *(f"  | {note}" for note in notes)]
    return "\n".join(map(printable, lines))
