"""What each step takes with few and with many effects that are over: it is to be flat in what is kept.

    python -m benchmarks.flatness                                   10 thousand against a million
    python -m benchmarks.flatness --rows 100000 --only sqlite       a shorter one

Medians. Each repetition takes every step on both stores, one right after the other, so that a noisy neighbour disturbs
both alike. Then a sweep with more and more that is due, on the larger store: it is to be linear in that.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.filling import fill
from benchmarks.kept import Store
from benchmarks.machine import machine
from tests.servers import PostgresServer

FEW, MANY = 10_000, 1_000_000
MOST = 1.5
"""The most times as long that a step may take."""
TIMES = 31
WAITING = 1000
"""How many effects of each store wait for a time that does not come."""
DUE = (100, 200, 400)

Spans = dict[str, tuple[list[float], list[float]]]


def filled(url: str, rows: int) -> Store:
    """A store with that many effects that are over."""
    fill(url, rows, waiting=WAITING).close()
    return Store(url, rows)


def measure(few: Store, many: Store, times: int) -> Spans:
    """The seconds of each step on both, without those of the first time."""
    spans: Spans = defaultdict(lambda: ([], []))
    for number in range(times + 1):
        for (name, small), (_, large) in zip(few.steps(), many.steps(), strict=True):
            own = spans[name]
            for place, work in [(0, small), (1, large)][:: 1 if number % 2 else -1]:
                span = timed(work)
                if number:
                    own[place].append(span)
    return spans


def timed(work: Callable[[], Any]) -> float:
    """The seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def table(spans: Spans, few: int, many: int) -> str:
    """Medians, and their ratio."""
    lines = [f"| | {few:,} kept | {many:,} kept | ratio | |", "| --- | --- | --- | --- | --- |"]
    for name, (small, large) in spans.items():
        a, b = statistics.median(small), statistics.median(large)
        verdict = "" if b / a <= MOST else "**not flat**"
        lines.append(f"| {name} | {a * 1000:.2f} ms | {b * 1000:.2f} ms | {b / a:.2f} | {verdict} |")
    return "\n".join(lines)


def sweeps(store: Store, times: int) -> str:
    """What a sweep takes by what is due."""
    lines = ["| due | a whole sweep | per row |", "| --- | --- | --- |"]
    for number in DUE:
        spans = []
        for _ in range(times):
            store.recorded(number)
            spans.append(timed(store.tape.sweep))
        span = statistics.median(spans)
        lines.append(f"| {number} | {span * 1000:.1f} ms | {span / number * 1e6:.0f} µs |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=MANY, help="of the larger store (default: %(default)s)")
    parser.add_argument("--times", type=int, default=TIMES, help="repetitions (default: %(default)s)")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="default: both")
    asked = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as directory, PostgresServer() as server:
        places: dict[str, Callable[[int], str]] = {
            "sqlite": lambda rows: f"sqlite:///{Path(directory) / str(rows)}.db",
            "postgresql": lambda rows: server.fresh_database(),
        }
        for kind, url in places.items():
            if asked.only in (None, kind):
                few, many = (filled(url(rows), rows) for rows in (FEW, asked.rows))
                print(f"\n{kind}\n\n{table(measure(few, many, asked.times), FEW, asked.rows)}")
                print(f"\n{sweeps(many, 5)}", flush=True)
                for store in (few, many):
                    store.database.close()


if __name__ == "__main__":
    main()
