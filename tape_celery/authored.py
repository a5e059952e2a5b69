"""The decorated effects of this process, by their registered names.

A row carries the registered name and never an import path, so whoever can write a row cannot choose what code runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tape_celery.errors import InvalidIntent
from tape_celery.records import Effect, Obligation


@dataclass(frozen=True)
class Authored:
    """What a decorated effect brings along: how to look, and how to undo, where its connector cannot."""

    status_check: Callable[[Effect], Any] | None = None
    compensate: Callable[[Obligation], Any] | None = None
    origin: tuple[str, str] = ("", "")
    """The file and the name of the decorated function."""


by_name: dict[str, Authored] = {}


def register(name: str, authored: Authored) -> None:
    """Make an effect known to this process; one whose module is loaded again takes its own place.

    Raises `InvalidIntent` where another function has the name: a row could not tell which of the two it means.
    """
    known = by_name.get(name)
    if known is not None and known.origin != authored.origin:
        raise InvalidIntent(
            f"the effect name {name} is taken by {known.origin[1]} in {known.origin[0]}; "
            f"{authored.origin[1]} in {authored.origin[0]} needs a name of its own"
        )
    by_name[name] = authored
