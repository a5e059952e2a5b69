"""What the tests of the commands do to their Tape."""

from __future__ import annotations

from typing import Any

from tape_celery import Tape
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.store import inspection


class Scripted:
    name = "scripted"
    answer: Any = DispatchResult("unknown")
    look: Any = ObservationResult("stuck")
    can_observe = True
    can_compensate = True

    def dispatch(self, effect: Any) -> Any:
        return self.answer

    def observe(self, effect: Any) -> Any:
        return self.look

    def compensate(self, obligation: Any) -> Any:
        return CompensationResult("compensated")


def stuck(tape: Tape) -> str:
    key = tape.effect.delay("scripted", {"amount": 1}, business_key="b-1").id
    tape.dispatch(key)
    Scripted.can_observe = False
    tape.observe(key)
    Scripted.can_observe = True
    return str(key)


def seen(tape: Tape, key: str, *, of_run: bool = False) -> tuple[str, str]:
    """The option that says that it was looked at as it is now; of what is not there, its version is 0."""
    row = tape.run(key).record if of_run else tape.get(key) or inspection.get_obligation(tape.database, key)
    return "--seen-version", str(row.version if row is not None else 0)
