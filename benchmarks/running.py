"""One contestant, up and warm: its place, its workers, its producer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import psutil

from benchmarks.contestants import Contestant, Place, find
from benchmarks.upstream import Upstream
from tests.servers import PostgresServer, Processes, RedisServer, until
from tests.servers.processes import clean_environment

WARM_UP = 50
"""POSTs that are made before anything is measured: connections are open then, and every process has been used."""
PATIENCE_SECONDS = 600.0


@dataclass
class Run:
    """What is running."""

    upstream: Upstream
    to_producer: IO[str]
    from_producer: IO[str]
    logs: Path
    database: str
    asked_for: int = 0

    def submit(self, count: int) -> tuple[float, float]:
        """Have so many submitted; when that began and ended, on the monotonic clock."""
        began, ended = self.ask("submit", self.asked_for, count)
        self.asked_for += count
        return began, ended

    def trickle(self, count: int, pause: float) -> dict[int, tuple[float, float]]:
        """Have so many submitted, each after a pause of so many seconds; when each began and ended, by number."""
        spans = self.ask("trickle", self.asked_for, count, pause)
        found = {self.asked_for + index: tuple(span) for index, span in enumerate(spans)}
        self.asked_for += count
        return found

    def finish(self) -> float:
        """Wait until all that was asked for is over; when that was seen."""
        until(self._all_came, timeout=PATIENCE_SECONDS, interval=0.02, what="the upstream to have seen all")
        until(self._all_over, timeout=PATIENCE_SECONDS, interval=0.02, what="all to be over")
        return time.monotonic()

    def ask(self, *words: Any) -> Any:
        """One word to the producer, and its answer."""
        self.to_producer.write(json.dumps(words) + "\n")
        self.to_producer.flush()
        line = self.from_producer.readline()
        if not line:
            raise RuntimeError(f"the producer has ended: {(self.logs / 'producer.log').read_text()[-3000:]}")
        return json.loads(line)

    def _all_came(self) -> bool:
        return self.upstream.counts()["distinct"] >= self.asked_for

    def _all_over(self) -> bool:
        over = self.ask("finished")
        return over is None or over >= self.asked_for


@contextlib.contextmanager
def running(name: str, postgres: PostgresServer, redis: RedisServer, **settings: object) -> Iterator[Run]:
    """``name`` with an empty database, an empty broker and an upstream of its own; all of it is gone afterwards.

    ``settings`` are those of the Tape, where it is one.
    """
    contestant = find(name)
    redis.flush()
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as directory, contextlib.ExitStack() as stack:
        place = Path(directory)
        upstream = stack.enter_context(Upstream(place))
        database = postgres.fresh_database()
        stack.callback(postgres.drop_database, database)
        here = Place(upstream.url, database, redis.url, place)
        environment = {
            **here.environment(),
            **contestant.environment(here),
            **{f"TAPE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        run = Run(upstream, *stack.enter_context(_producer(name, environment, place)), place, database)
        run.ask("prepare")
        _start_workers(stack, contestant, environment, place)
        run.submit(WARM_UP)
        run.finish()
        yield run


def cpu_seconds() -> dict[int, float]:
    """Processor time so far of everything that was started here, servers among it, by process."""
    found: dict[int, float] = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def _start_workers(
    stack: contextlib.ExitStack, contestant: Contestant, environment: dict[str, str], place: Path
) -> None:
    processes = Processes(place / "workers")
    stack.callback(processes.close)
    for number, worker in enumerate(contestant.workers()):
        process = processes.python(*worker.arguments, env=environment, name=f"worker{number}")
        if worker.ready:
            process.wait_for(worker.ready, 60)


@contextlib.contextmanager
def _producer(name: str, environment: dict[str, str], place: Path) -> Iterator[tuple[IO[str], IO[str]]]:
    with (place / "producer.log").open("w") as log:
        producer = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "benchmarks.producer", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=clean_environment(environment),
            cwd=place,
            text=True,
        )
    try:
        yield cast(IO[str], producer.stdin), cast(IO[str], producer.stdout)
    finally:
        producer.kill()
        producer.wait()
