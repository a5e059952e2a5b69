"""Many slow calls in one worker process: how many are under way at once, what each costs in memory, and what all take.

    python -m benchmarks.slow_calls                         1,000 calls of 2 s each, 500 at once
    python -m benchmarks.slow_calls --calls 200 --hold 1    a shorter one

One worker process of 500 threads (`--pool threads -c 500`), PostgreSQL, Redis, HTTPConnector; the upstream holds each
POST. Asked for by delay_many, by .delay() one by one, and by delay_many for one task of 500 calls. Memory is resident
memory of the worker process at its most, less that after a first call, by the most calls that were under way.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.installation import Installation, installed
from benchmarks.machine import machine
from tests.servers import Process

AT_ONCE = 500
WAYS = (
    ("delay_many, -c 500", AT_ONCE, 20, True),
    (".delay(), -c 500", AT_ONCE, 20, False),
    ("delay_many, -c 1, tape_chunk_size 500", 1, AT_ONCE, True),
)
"""What it is called, threads of the worker's pool, tape_chunk_size, whether it is asked for in bulk."""


class Most:
    """The most that one worker process used while it was watched."""

    def __init__(self, worker: Process, installation: Installation) -> None:
        self._process = psutil.Process(worker.pid)
        self._installation = installation
        self.rss = self.threads = self.connections = 0
        self.processes = 1 + len(self._process.children(recursive=True))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look ten times a second."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(0.1):
            self.rss = max(self.rss, self._process.memory_info().rss)
            self.threads = max(self.threads, self._process.num_threads())
            remote = [connection.raddr.port for connection in self._process.net_connections() if connection.raddr]
            self.connections = max(self.connections, remote.count(self._installation.postgres.port))


@dataclass(frozen=True)
class Figures:
    """One way of asking."""

    way: str
    processes: int
    at_once: int
    seconds: float
    memory: float
    """Bytes for each call under way."""
    threads: int
    connections: int
    """To PostgreSQL, of the worker process."""
    repeated: int

    def row(self) -> str:
        cells = [self.way, self.processes, self.at_once, f"{self.seconds:.1f}", f"{self.memory / 1024:.0f}"]
        return f"| {' | '.join(map(str, [*cells, self.threads, self.connections, self.repeated]))} |"


HEAD = "| | processes | at once | seconds | KiB a call | threads | connections | too many |\n" + 8 * "| --- " + "|"


def measure(way: str, threads: int, chunk: int, bulk: bool, *, calls: int, hold: float) -> Figures:
    """Measure one way of asking."""
    with installed(hold=hold, chunk_size=chunk) as installation:
        worker = installation.worker("tape.dispatch", pool="threads", concurrency=threads)
        installation.worker("tape.observe,tape.compensate,tape.sweep", concurrency=1)
        installation.beat()
        ask(installation, range(1), bulk=False)
        installation.finish(1)
        most = Most(worker, installation)
        before = psutil.Process(worker.pid).memory_info().rss
        with most.watching():
            began = time.monotonic()
            ask(installation, range(1, calls + 1), bulk=bulk)
            installation.finish(calls + 1)
            seconds = time.monotonic() - began
        counts = installation.upstream.counts()
        return Figures(
            way,
            processes=most.processes,
            at_once=counts["most"],
            seconds=seconds,
            memory=(most.rss - before) / counts["most"],
            threads=most.threads,
            connections=most.connections,
            repeated=counts["requests"] - counts["distinct"],
        )


def ask(installation: Installation, numbers: range, *, bulk: bool) -> None:
    """One effect a number."""
    asked = [{"connector": "wire", "request": {"number": n}, "business_key": f"wire-{n}"} for n in numbers]
    if bulk:
        for start in range(0, len(asked), AT_ONCE):
            installation.tape.effect.delay_many(asked[start : start + AT_ONCE])
        return
    for one in asked:
        installation.tape.effect.delay(**one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--hold", type=float, default=2.0, metavar="SECONDS", help="what each takes (%(default)s)")
    asked = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, {machine()}\n{asked.calls:,} calls of {asked.hold:g} s each\n\n{HEAD}")
    for way in WAYS:
        print(measure(*way, calls=asked.calls, hold=asked.hold).row(), flush=True)


if __name__ == "__main__":
    main()
