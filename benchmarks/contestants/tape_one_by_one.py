"""tape_celery on PostgreSQL and Redis, `.delay()` one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from benchmarks.contestants import Contestant, Place, Worker
from tape_celery.schema import effects

_CELERY = ("-m", "celery", "-A", "tape_celery.app")
_CONFIRMED = select(func.count()).select_from(effects).where(effects.c.status == "CONFIRMED")


class TapeOneByOne(Contestant):
    """The ready app with its defaults.

    Its workers are prefork, as plain Celery's are, and one has all queues but dispatch; the Procfile, which is made
    for honcho, has a worker with a pool of threads for each queue.
    """

    title = "tape_celery, .delay() one by one"
    setup = (
        "The ready app tape_celery.app with its defaults, HTTPConnector, a business_key each: a dispatch worker "
        "(prefork, 2 processes), a worker for the other three queues (1 process), and beat."
    )

    def environment(self, place: Place) -> Mapping[str, str]:
        return {
            "TAPE_STORE_URL": place.postgres,
            "TAPE_BROKER_URL": place.redis,
            "TAPE_CONNECTORS": "benchmarks.contestants.connector",
        }

    def workers(self) -> Sequence[Worker]:
        others = "tape.observe,tape.compensate,tape.sweep"
        return [
            Worker(
                (*_CELERY, "worker", "-Q", "tape.dispatch", "-c", "2", "-n", "dispatch@%h", "-l", "INFO"), " ready."
            ),
            Worker((*_CELERY, "worker", "-Q", others, "-c", "1", "-n", "others@%h", "-l", "INFO"), " ready."),
            Worker((*_CELERY, "beat", "-l", "INFO", "-s", "schedule", "--pidfile", ""), "beat: Starting..."),
        ]

    def prepare(self) -> None:
        from tape_celery.app import tape

        tape.migrate()

    def submit(self, numbers: Sequence[int]) -> None:
        from tape_celery.app import tape

        for number in numbers:
            tape.effect.delay("wire", {"number": number}, business_key=f"wire-{number}")

    def finished(self) -> int | None:
        from tape_celery.app import tape

        found: int = tape.database.read(lambda connection: connection.execute(_CONFIRMED).scalar_one())
        return found


contestant = TapeOneByOne()
