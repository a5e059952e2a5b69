"""The decorated effects of this process, by their registered names.

A row carries the registered name and never an import path, so whoever can write a row cannot choose what code runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tape_celery.records import Effect, Obligation


@dataclass(frozen=True)
class Authored:
    """What a decorated effect brings along: how to look, and how to undo, where its connector cannot."""

    status_check: Callable[[Effect], Any] | None = None
    compensate: Callable[[Obligation], Any] | None = None


by_name: dict[str, Authored] = {}
