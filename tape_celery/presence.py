"""What a worker says of itself, in the store: that it is there, what it knows and consumes, how wrong its clock is.

It is said from the worker's main thread, where nothing forks meanwhile, over a connection that is closed afterwards:
no child inherits one. Whatever goes wrong is logged once, and never stops a worker.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from sqlalchemy.exc import SQLAlchemyError

from tape_celery import __version__
from tape_celery.bounded import Bounded
from tape_celery.connectors import base
from tape_celery.errors import StoreUnavailable, TapeError
from tape_celery.loggers import logger_for
from tape_celery.records import WORKER_SAYS_SECONDS, Worker
from tape_celery.store import fleet
from tape_celery.store.database import Database

if TYPE_CHECKING:
    from tape_celery.tape import Tape

logger = logger_for(__name__)

PATIENCE_SECONDS = 2.0
"""How long a worker is kept from its work, at the most, by a store that does not answer."""


class Presence:
    """What one worker says, time and again."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database.hurried(PATIENCE_SECONDS)
        self._name = name
        self._said: Worker | None = None
        self._bounded = Bounded(PATIENCE_SECONDS, thread_name="tape-presence")
        self._away = False

    def say(self, queues: Sequence[str]) -> None:
        """Say it now. Never raises for the store."""

        def write() -> None:
            self._said = fleet.say(
                self._database,
                self._name,
                version=__version__,
                connectors=base.names(),
                queues=queues,
                key_ids=self._database.cipher.key_ids if self._database.cipher else (),
                started_at_ms=None if self._said is None else self._said.started_at_ms,
                wall_ms=lambda: time.time() * 1000,
            )

        self._try(write)

    def leave(self) -> None:
        """Take back what was said, at the end. Never raises for the store."""
        if (said := self._said) is not None:
            self._try(lambda: fleet.leave(self._database, said))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            self._within_bounds(work)
            if self._away:
                logger.info("the store knows of this worker again")
            self._away = False
        except (TapeError, SQLAlchemyError) as error:
            if not self._away:
                logger.warning("the store does not know of this worker, which goes on: %s", error)
            self._away = True

    def _within_bounds(self, work: Callable[[], None]) -> None:
        """Run ``work``, and leave it to itself where a server does not answer in time."""
        if self._database.is_file:
            # A child must never be forked while another thread has the file open; and waits for it are bounded.
            self._and_close(work)
            return
        try:
            self._bounded.run(lambda: self._and_close(work))
        except TimeoutError as error:
            raise StoreUnavailable(f"{self._database!r}: {error}") from None

    def _and_close(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._database.close()


class Saying(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery's classes have no types
    """A step of a worker's consumer: it says what there is to say once the worker is ready, and regularly after."""

    requires = ("celery.worker.consumer:Tasks",)
    presence_of: Callable[[str], Presence | None]

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._presence: Presence | None = None
        self._entry: Any = None

    def start(self, consumer: Any) -> None:
        """At the start, and at each new connection to the broker."""
        self._presence = self._presence or type(self).presence_of(consumer.hostname)
        if self._presence is None:
            return

        def say() -> None:
            if self._presence is not None and consumer.task_consumer is not None:
                self._presence.say([queue.name for queue in consumer.task_consumer.queues])

        consumer.call_soon(say)
        # Some pools have a thread for the timer; what is called soon is called by the main one.
        self._entry = consumer.timer.call_repeatedly(WORKER_SAYS_SECONDS, consumer.call_soon, (say,))

    def stop(self, consumer: Any) -> None:
        """At the end, and when the connection to the broker is lost."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None


class Presences:
    """The presences of one Tape's workers: one in a process, but for tests."""

    def __init__(self, tape: weakref.ref[Tape]) -> None:
        self._tape = tape
        self._by_name: dict[str, Presence] = {}

    def of(self, name: str) -> Presence | None:
        """That of the worker ``name``; ``None`` where its Tape is gone."""
        tape = self._tape()
        if tape is not None and name not in self._by_name:
            self._by_name[name] = Presence(tape.database, name)
        return self._by_name.get(name)

    def leave(self, name: str) -> None:
        """The worker ``name`` ends."""
        if (presence := self._by_name.pop(name, None)) is not None:
            presence.leave()


def step_for(presences: Presences) -> type[Saying]:
    """The step for the workers of one Tape; Celery makes an object of it in each."""
    name = f"tape_celery.presence.{id(presences)}"
    return type("Saying", (Saying,), {"presence_of": staticmethod(presences.of), "name": name})
