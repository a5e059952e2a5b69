"""One installation of tape_celery on PostgreSQL and Redis, with as many workers as asked for; this process produces."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from benchmarks.contestants import told
from benchmarks.upstream import Upstream
from tape_celery import Tape, connectors
from tape_celery.app import make_app
from tape_celery.connectors.http import HTTPConnector
from tape_celery.schema import effects
from tests.servers import PostgresServer, Process, Processes, RedisServer, until

APP = "tape_celery.app"
_ENDED = select(effects.c.status, func.count()).group_by(effects.c.status)


@dataclass
class Installation:
    """What is running."""

    tape: Tape
    """In this process."""
    upstream: Upstream
    postgres: PostgresServer
    processes: Processes
    environment: Mapping[str, str]

    def worker(self, queues: str, *, pool: str = "prefork", concurrency: int) -> Process:
        """Start a worker, and wait until it takes work."""
        return self.processes.worker(APP, queues=queues, pool=pool, concurrency=concurrency, env=self.environment)

    def beat(self) -> Process:
        """Start beat."""
        return self.processes.beat(APP, env=self.environment)

    def confirmed(self) -> int:
        """How many effects are CONFIRMED."""
        return self.states().get("CONFIRMED", 0)

    def states(self) -> dict[str, int]:
        """How many effects are in each state."""
        return {str(status): count for status, count in self.tape.database.read(lambda c: c.execute(_ENDED).all())}

    def finish(self, effects: int, *, timeout: float = 300.0) -> None:
        """Wait until so many are CONFIRMED."""
        until(lambda: self.confirmed() >= effects, timeout=timeout, interval=0.1, what=f"{effects} to be CONFIRMED")


@contextlib.contextmanager
def installed(*, hold: float = 0.0, mail_queue: str = "", **settings: Any) -> Iterator[Installation]:
    """An empty one; all of it is gone afterwards.

    It has two connectors, ``wire`` and ``mail``, the latter with a ``mail_queue`` of its own where one is given.
    ``hold``: how long the upstream of both holds each POST, in seconds.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, contextlib.ExitStack() as stack:
        place = Path(directory)
        postgres = stack.enter_context(PostgresServer())
        redis = stack.enter_context(RedisServer())
        upstream = stack.enter_context(Upstream(place, hold=hold))
        url = postgres.fresh_database()
        environment = {
            "BENCH_UPSTREAM": upstream.url,
            "BENCH_MAIL_QUEUE": mail_queue,
            "TAPE_STORE_URL": url,
            "TAPE_BROKER_URL": redis.url,
            "TAPE_CONNECTORS": "benchmarks.installation",
            **{f"TAPE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        _register(upstream.url, mail_queue)
        stack.callback(connectors.clear)
        tape = make_app(environment)[1]
        stack.callback(tape.database.close)
        tape.migrate()
        processes = Processes(place / "processes")
        stack.callback(processes.close)
        yield Installation(tape, upstream, postgres, processes, environment)


def _register(url: str, mail_queue: str) -> None:
    connectors.register(HTTPConnector("wire", url))
    connectors.register(HTTPConnector("mail", url, dispatch_queue=mail_queue))


if told("UPSTREAM"):
    _register(told("UPSTREAM"), told("MAIL_QUEUE"))
