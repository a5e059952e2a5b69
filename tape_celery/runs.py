"""`with tape.run("order-42") as run:`, and `async with`: what is called inside belongs together, and is undone so."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeGuard

from celery.exceptions import Retry

from tape_celery import intent, outcomes
from tape_celery.errors import TapeError
from tape_celery.loggers import logger_for
from tape_celery.records import Effect, Obligation, Run, RunStatus
from tape_celery.store import inspection, runs

if TYPE_CHECKING:
    from tape_celery.tape import Tape

logger = logger_for(__name__)

_blocks: ContextVar[tuple[EffectRun, ...]] = ContextVar("tape_celery_runs", default=())


class EffectRun:
    """A run of one Tape, by its id: what it is now, and what can be done with it.

    As a block it gives its id to every effect that is made inside, by this thread or `asyncio` task and the tasks that
    it starts (not by threads that it starts), unless the effect is given another; of nested blocks the inner one does.
    Entering it raises `RunClosed` where the run is closed. Left normally, the run stays open: its effects go on, and it
    may be entered again. An exception out of the block compensates the run, as `compensate` does, and goes on its way;
    so a person who reads the run's effects sees why. Not so Celery's `Retry`, and what ends a process or a task
    (`SystemExit`, `KeyboardInterrupt`, `asyncio.CancelledError`): they leave the run open, as a killed process does.

    ``async with`` does the same for async code, and the event loop goes on meanwhile. Whoever is cancelled while their
    exception compensates the run cannot stop that: it is closed all the same.
    """

    def __init__(self, tape: Tape, run_id: str, *, actor: str) -> None:
        self.run_id = intent.check_run_id(run_id)
        self._tape = tape
        self._actor = actor

    def __repr__(self) -> str:
        return f"<run {self.run_id!r} of {self._tape!r}>"

    @property
    def record(self) -> Run:
        """The run as its row stands; an open one where nobody has closed it."""
        return runs.get(self._tape.database, self.run_id)

    @property
    def status(self) -> RunStatus:
        """Its state, as the store has it now."""
        return self.record.status

    @property
    def reason(self) -> str:
        """What a STUCK run waits for, else ``""``."""
        return self.record.reason

    @property
    def effects(self) -> list[Effect]:
        """Its effects, newest first, 10,000 at most.

        An effect that was made in another run, and was handed to this one because it had the same key, is that run's.
        """
        return self._tape.effects(run_id=self.run_id, limit=inspection.MOST)

    @property
    def obligations(self) -> list[Obligation]:
        """What it owes and owed, oldest first."""
        return self._tape.obligations(run_id=self.run_id)

    def compensate(
        self, *, reason: str, actor: str, seen_version: int | None = None, within: Collection[str] | None = None
    ) -> EffectRun:
        """`Tape.compensate_run`."""
        told: dict[str, Any] = {"reason": reason, "actor": actor, "seen_version": seen_version, "within": within}
        return self._tape.compensate_run(self.run_id, **told)

    def cancel(
        self, *, reason: str, actor: str, seen_version: int | None = None, within: Collection[str] | None = None
    ) -> EffectRun:
        """`Tape.cancel_run`."""
        told: dict[str, Any] = {"reason": reason, "actor": actor, "seen_version": seen_version, "within": within}
        return self._tape.cancel_run(self.run_id, **told)

    def __enter__(self) -> EffectRun:
        self._refuse_closed()
        _blocks.set((*_blocks.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _blocks.set(_blocks.get()[:-1])
        if _is_failure(error):
            self._failed(error)

    async def __aenter__(self) -> EffectRun:
        await asyncio.to_thread(self._refuse_closed)
        # Here and not in the thread: the block is the caller's.
        _blocks.set((*_blocks.get(), self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _blocks.set(_blocks.get()[:-1])
        if _is_failure(error):
            await asyncio.to_thread(self._failed, error)

    def _refuse_closed(self) -> None:
        self._tape.database.read(lambda connection: runs.refuse_closed(connection, self.run_id))

    def _failed(self, error: Exception) -> None:
        why = outcomes.reason_of(outcomes.describe(error))
        try:
            if self.status is RunStatus.OPEN:
                self._tape.close_run(self.run_id, RunStatus.COMPENSATING, reason=why, actor=self._actor)
        except TapeError as trouble:
            # What the app raised is what its caller must see.
            said = f"run {self.run_id!r} could not be compensated: {outcomes.reason_of(outcomes.describe(trouble))}"
            logger.error("%s", said)
            error.add_note(said)


def _is_failure(error: BaseException | None) -> TypeGuard[Exception]:
    return isinstance(error, Exception) and not isinstance(error, Retry)


def surrounding(tape: Tape) -> str | None:
    """The id of the innermost run of ``tape`` in whose block this is."""
    return next((block.run_id for block in reversed(_blocks.get()) if block._tape is tape), None)
