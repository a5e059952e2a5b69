"""A group of a Tape's methods, in a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tape_celery.tape import Tape


class TapePart:
    """A base class of `Tape`, with some of its methods; they reach the rest of it through ``_tape``."""

    @property
    def _tape(self) -> Tape:
        return cast("Tape", self)
