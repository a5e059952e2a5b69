"""How instants, spans and texts from outside are written in a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from tape_celery.loggers import printable

LONGEST = 300
"""The most characters of a text from outside that a sentence takes in; keys are never cut."""


def at(at_ms: int) -> str:
    """An instant, in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(ms: int) -> str:
    """About how long: ``0.4 s``, ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    seconds = max(ms, 0) / 1000
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def plain(text: str) -> str:
    """Text from outside on one line, whole: what cannot be printed is escaped."""
    return printable(text)


def short(text: str) -> str:
    """`plain`, and no longer than a sentence can bear."""
    shown = plain(text[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "…"


def because(reason: str) -> str:
    """A reason in brackets, or nothing."""
    return f" ({short(reason)})" if reason else ""


def listed(words: Iterable[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, final = words
    return f"{', '.join(most)} {last} {final}" if most else final


def counted(number: int, what: str) -> str:
    """``1 look``, ``2 looks``."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def times(number: int) -> str:
    """``once``, ``2 times``."""
    return "once" if number == 1 else f"{number} times"


def record(ref: str) -> str:
    """A record at the upstream."""
    return f"record {plain(ref)}" if ref else "a record without a reference"
