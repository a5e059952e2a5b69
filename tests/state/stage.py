"""A stage for the transition table: one scripted connector, one store, and a way to bring an effect into any state.

Nothing here imitates the product: every state is reached by the product's own verbs, on a real database, with its
clock moved.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from celery import Celery

from tape_celery import Tape, connectors
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.engine import Outcome
from tape_celery.records import Effect, EffectStatus, JournalEntry, Obligation
from tape_celery.store import claims
from tape_celery.store.rows import EFFECTS, OBLIGATIONS

S = EffectStatus
CONFIRMED = DispatchResult("confirmed", "ref-1", {"ok": True})
FAILED = DispatchResult("failed", error={"reason": "refused"})
LOST = DispatchResult("unknown")
UNSENT = DispatchResult("unknown", error={"sent": False})
RETRY = DispatchResult("failed", retry_at_ms=1)
MAY_HAVE = DispatchResult("failed", error={"may_have_landed": True}, retry_at_ms=1)


class Scripted:
    """A connector that answers what the test put in, and remembers what it was asked."""

    name = "scripted"

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.looks: list[Any] = []
        self.inverses: list[Any] = []
        self.dispatched: list[Effect] = []
        self.observed: list[Effect] = []
        self.compensated: list[Obligation] = []
        self.can_observe = True
        self.can_compensate = True
        self.total_seconds = 0.0
        self.idempotency_window_seconds = 86_400.0
        self.compensation_semantics = "non_idempotent"

    def dispatch(self, effect: Effect) -> Any:
        self.dispatched.append(effect)
        return _next(self.answers, effect)

    def observe(self, effect: Effect) -> Any:
        self.observed.append(effect)
        return _next(self.looks, effect)

    def compensate(self, obligation: Obligation) -> Any:
        self.compensated.append(obligation)
        return _next(self.inverses, obligation)


def _next(script: list[Any], given: Any) -> Any:
    answer = script.pop(0)
    if isinstance(answer, BaseException):
        raise answer
    return answer(given) if callable(answer) else answer


class Stage:
    """One Tape over one store that has its schema, its connector, and verbs that read like the table."""

    def __init__(self, store_url: str, **settings: Any) -> None:
        self.connector = Scripted()
        connectors.register(self.connector)
        settings = {"settle_seconds": 30, "lease_seconds": 30, **settings}
        app = Celery(f"stage-{uuid.uuid4().hex}", broker="memory://", set_as_current=False)
        self.tape = Tape(app, store_url=store_url, **settings)

    def close(self) -> None:
        self.tape.database.close()
        connectors.clear()

    def move_time(self, seconds: float) -> None:
        """Move the database's clock, as this Tape sees it."""
        self.tape.database.shift_ms += round(seconds * 1000)

    def record(self, semantics: str = "non_idempotent", **keywords: Any) -> str:
        given = {"business_key": f"bk-{uuid.uuid4().hex}", **keywords}
        return str(self.tape.effect.delay("scripted", {"amount": 1}, semantics=semantics, **given).id)

    def get(self, key: str) -> Effect:
        effect = self.tape.get(key)
        assert effect is not None
        return effect

    def kinds(self, key: str) -> list[str]:
        return [entry.kind for entry in self.tape.journal(key)]

    def last(self, key: str) -> JournalEntry:
        return self.tape.journal(key)[-1]

    def dispatch(self, key: str, answer: Any) -> Outcome:
        self.connector.answers.append(answer)
        outcome = self.tape.dispatch(key)[key]
        self.connector.answers.clear()
        return outcome

    def observe(self, key: str, look: Any) -> Outcome:
        self.connector.looks.append(look)
        outcome = self.tape.observe(key)[key]
        self.connector.looks.clear()
        return outcome

    def compensate(self, key: str, inverse: Any) -> Outcome:
        self.connector.inverses.append(inverse)
        outcome = self.tape.compensate(key)[key]
        self.connector.inverses.clear()
        return outcome

    def claim(self, key: str) -> Effect:
        """Leave the effect DISPATCHING under a claim, as a worker that is at work or dead leaves it."""
        claimed = claims.claim(
            self.tape.database, EFFECTS, [key], verb="call", reach=self.tape.engine.reach(), actor="worker"
        )
        assert len(claimed) == 1
        return claimed[0]

    def claim_obligation(self, key: str) -> Obligation:
        claimed = claims.claim(
            self.tape.database, OBLIGATIONS, [key], verb="call", reach=self.tape.engine.reach(), actor="worker"
        )
        assert len(claimed) == 1
        return claimed[0]

    def lapse(self, seconds: float = 31) -> None:
        """Let every lease run out and sweep."""
        self.move_time(seconds)
        self.tape.sweep()

    def meanwhile(self, act: Callable[[], Any], answer: Any) -> Callable[[Effect], Any]:
        """An answer that comes after ``act`` happened while the call was under way.

        Late, if ``act`` ended the claim.
        """

        def answering(_: Effect) -> Any:
            act()
            return answer

        return answering


def obs(status: str, ref: str = "", **response: Any) -> ObservationResult:
    """What a look saw."""
    return ObservationResult(status, ref, response)  # type: ignore[arg-type]


def comp(status: str, **error: Any) -> CompensationResult:
    """What an inverse answered."""
    return CompensationResult(status, error=error)  # type: ignore[arg-type]
