"""The handle of an effect: a Celery `AsyncResult` whose truth is the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from celery import states
from celery.backends.base import BaseBackend
from celery.result import AsyncResult, assert_will_not_block
from typing_extensions import TypeVar

from tape_celery import values
from tape_celery.errors import (
    EffectCancelled,
    EffectFailed,
    EffectPruned,
    EffectStuck,
    EffectTimeout,
    NoSuchEffect,
    OutcomeError,
    ResponseMismatch,
)
from tape_celery.records import Effect, EffectStatus, JournalEntry
from tape_celery.store.tombstones import PRUNED

if TYPE_CHECKING:
    from tape_celery.tape import Tape

T = TypeVar("T", default=dict[str, Any])
U = TypeVar("U")

CELERY_STATES = {
    EffectStatus.PENDING: states.PENDING,
    EffectStatus.DISPATCHING: states.STARTED,
    EffectStatus.UNKNOWN: states.STARTED,
    EffectStatus.CONFIRMED: states.SUCCESS,
    EffectStatus.FAILED: states.FAILURE,
    EffectStatus.STUCK: states.FAILURE,
    EffectStatus.CANCELLED: states.REVOKED,
    EffectStatus.HELD: states.PENDING,
}
"""Each state in Celery's words, so that `ready`, `successful` and `GroupResult` work."""

_ERRORS: dict[EffectStatus, type[OutcomeError]] = {
    EffectStatus.FAILED: EffectFailed,
    EffectStatus.CANCELLED: EffectCancelled,
    EffectStatus.STUCK: EffectStuck,
}


class StoreBackend(BaseBackend):  # type: ignore[misc]  # Celery ships no types
    """The result backend of handles: it reads the store and writes nothing, whatever backend the app has."""

    supports_failure_expires = True  # there is nothing here that expires

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape.app, serializer="json", accept=["json"])  # whatever the app writes its results by
        self._tape = tape

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """The effect's row in Celery's words, read at each call; raises `NoSuchEffect`."""
        effect = self._tape.get(task_id) or self._tape.pruned(task_id)
        if effect is None:
            raise NoSuchEffect(task_id)
        result: Any = effect.response if effect.status is EffectStatus.CONFIRMED else None
        if effect.status in _ERRORS:
            result = _ERRORS[effect.status](task_id, effect.status, effect.reason)
        status = CELERY_STATES[effect.status]
        return {"task_id": task_id, "status": status, "result": result, "traceback": None, "children": []}

    def task_result_exists(self, task_id: str) -> bool:
        """Whether such an effect was recorded."""
        return (self._tape.get(task_id) or self._tape.pruned(task_id)) is not None

    def store_result(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        """Refused: what becomes of an effect is written by nobody but the engine."""
        raise NotImplementedError(f"the result of effect {task_id} is its row in the store")


class EffectHandle(AsyncResult, Generic[T]):  # type: ignore[misc]  # Celery ships no types
    """One effect, as a caller sees it, whose response is a ``T`` (a dict where nothing else was said).

    Needs no result backend; every answer is read from the store.
    """

    def __init__(self, effect_key: str, tape: Tape, response: Any = None) -> None:
        super().__init__(effect_key, backend=tape.results, app=tape.app)
        self._tape = tape
        self._response = response

    def __copy__(self) -> EffectHandle[T]:
        return EffectHandle(self.id, self._tape, self._response)

    def into(self, response: type[U]) -> EffectHandle[U]:
        """The same effect, whose `get` returns the response as a ``response``: a dataclass, a pydantic model, …

        Raises `InvalidIntent` for a type that no response can be read as.
        """
        return EffectHandle(self.id, self._tape, values.check_kind(response))

    def __reduce__(self) -> Any:
        raise TypeError("a handle cannot be pickled; keep its id, and make it again with tape.handle(id)")

    @property
    def effect(self) -> Effect | None:
        """The effect's row as it is now; ``None`` where there is none, or none any more."""
        return self._tape.get(self.id)

    @property
    def journal(self) -> list[JournalEntry]:
        """What happened to the effect so far, oldest first."""
        return self._tape.journal(self.id)

    @property
    def status(self) -> EffectStatus:
        """The row's state, or that in which it was pruned; raises `NoSuchEffect` where there was never any."""
        return self._existing().status

    @overload
    def get(self, timeout: float | None = ..., propagate: Literal[True] = ..., **options: Any) -> T: ...
    @overload
    def get(self, timeout: float | None = ..., propagate: bool = ..., **options: Any) -> T | OutcomeError: ...
    def get(  # type: ignore[override, unused-ignore]
        self, timeout: float | None = None, propagate: bool = True, interval: float = 0.05, **options: Any
    ) -> Any:
        """Wait until the effect is decided and return the upstream's response: a dict, or what `into` or
        ``@effect(response=…)`` said.

        ``timeout`` is in seconds (``None``: for ever). Raises `EffectFailed`, `EffectCancelled`, `EffectStuck`,
        `ResponseMismatch`, `EffectPruned` for a CONFIRMED one whose response is gone, `NoSuchEffect`, and
        `EffectTimeout` when it is not decided in time; with ``propagate=False`` the first five are returned.
        """
        if options.get("disable_sync_subtasks", True):
            assert_will_not_block()
        for pause in _pauses(timeout, interval):
            effect = self._existing()
            if _decided(effect):
                return self._result(effect, propagate)
            time.sleep(pause)
        raise EffectTimeout(self.id, effect.status, f"not decided within {timeout:g} s")

    @overload
    async def aget(self, timeout: float | None = ..., propagate: Literal[True] = ..., interval: float = ...) -> T: ...
    @overload
    async def aget(
        self, timeout: float | None = ..., propagate: bool = ..., interval: float = ...
    ) -> T | OutcomeError: ...
    async def aget(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.05) -> Any:
        """`get` for async code: the event loop goes on meanwhile. Being cancelled changes nothing for the effect."""
        for pause in _pauses(timeout, interval):
            effect = await asyncio.to_thread(self._existing)
            if _decided(effect):
                return self._result(effect, propagate)
            await asyncio.sleep(pause)
        raise EffectTimeout(self.id, effect.status, f"not decided within {timeout:g} s")

    wait = get

    def forget(self) -> None:
        """Nothing to forget: the store keeps the effect."""

    def cancel(self, *, reason: str, actor: str, seen_version: int | None = None) -> Effect:
        """Ask for the effect not to happen; see `Tape.cancel`."""
        return self._tape.cancel(self.id, reason=reason, actor=actor, seen_version=seen_version)

    def revoke(self, *args: Any, **options: Any) -> None:
        """Cancel the effect durably, as `Tape.cancel` does; Celery's own options do not apply."""
        self._tape.cancel(self.id, reason="revoked through its handle, as a Celery task", actor="handle")

    def _existing(self) -> Effect:
        effect = self.effect or self._tape.pruned(self.id)
        if effect is None:
            raise NoSuchEffect(self.id)
        return effect

    def _result(self, effect: Effect, propagate: bool) -> Any:
        """The response of a decided effect as the type that was asked for, or its error."""
        error: OutcomeError
        if effect.status is EffectStatus.CONFIRMED and effect.reason == PRUNED:
            error = EffectPruned(effect.effect_key, effect.status, effect.reason)
        elif effect.status is EffectStatus.CONFIRMED:
            try:
                return effect.response if self._response is None else values.decoded(self._response, effect.response)
            except values.Mismatch as mismatch:
                error = ResponseMismatch(effect.effect_key, effect.status, str(mismatch))
        else:
            error = _ERRORS[effect.status](effect.effect_key, effect.status, effect.reason)
        if propagate:
            raise error
        return error

    def _get_task_meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = self.backend.get_task_meta(self.id)
        return meta


def _decided(effect: Effect) -> bool:
    return effect.status is EffectStatus.CONFIRMED or effect.status in _ERRORS


def _pauses(timeout: float | None, interval: float) -> Iterator[float]:
    """How many seconds to wait after each look; there is a last look when the time is over."""
    give_up = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if give_up is None else max(0.0, give_up - time.monotonic())
        yield interval if left is None else min(interval, left)
        if left == 0:
            return
        interval = min(interval * 1.5, 1.0)
