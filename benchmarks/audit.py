"""What an audit costs: its live part, and the full one, batch by batch and from a watermark.

    python -m benchmarks.audit --rows 1000000                       on SQLite and PostgreSQL
    python -m benchmarks.audit --rows 1000000 --store postgresql://…   on an empty database of your own

The live part is to stay under a second with a million effects; the full one is to be resumable.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.filling import count, fill
from benchmarks.machine import machine
from tape_celery.schema import effects, journal, obligations
from tape_celery.store import audit
from tape_celery.store.database import Database
from tests.servers import PostgresServer

GRACE_SECONDS = 60.0
LIVE_TIMES = 20


@dataclass(frozen=True)
class Figures:
    """What was measured on one store."""

    store: str
    effects: int
    journal: int
    obligations: int
    fill: float
    live_first: float
    live_median: float
    live_most: float
    overdue_found: int
    overdue: float
    full: float
    batches: int
    batch_median: float
    batch_most: float
    resumed: float
    violations: int

    def rows(self) -> Iterator[tuple[str, str]]:
        """What each is, and its value."""
        yield "effects, journal entries, obligations", f"{self.effects:,}, {self.journal:,}, {self.obligations:,}"
        yield "filling", f"{self.fill:.1f} s"
        yield "live part, first time", f"{self.live_first * 1000:.1f} ms"
        yield f"live part, median and most of {LIVE_TIMES}", f"{_ms(self.live_median)}, {_ms(self.live_most)}"
        yield f"live part that finds {self.overdue_found:,} overdue", _ms(self.overdue)
        yield f"full audit, in {self.batches:,} batches", f"{self.full:.1f} s"
        yield "one batch, median and most", f"{_ms(self.batch_median)}, {_ms(self.batch_most)}"
        yield "the second half alone, from a watermark", f"{self.resumed:.1f} s"
        yield "violations", f"{self.violations:,}"


def measure(url: str, rows: int) -> Figures:
    """Fill the empty store at ``url`` and audit it."""
    database, filling = timed(lambda: fill(url, rows))
    live = [timed(lambda: audit.overdue(database, grace_seconds=GRACE_SECONDS))[1] for _ in range(LIVE_TIMES + 1)]
    database.shift_ms = 7_200_000  # now those that waited for their time have missed it
    late, overdue = timed(lambda: audit.overdue(database, grace_seconds=GRACE_SECONDS))
    database.shift_ms = 0
    watermarks, spans, violations = [], [], 0
    for batch, span in timed_each(audit.batches(database)):
        watermarks.append(batch.watermark)
        spans.append(span)
        violations += len(batch.violations)
    half = watermarks[(len(watermarks) - 1) // 2]
    _, resumed = timed(lambda: list(audit.batches(database, after=half)))
    figures = Figures(
        store=version(database),
        effects=count(database, effects),
        journal=count(database, journal),
        obligations=count(database, obligations),
        fill=filling,
        live_first=live[0],
        live_median=statistics.median(live[1:]),
        live_most=max(live[1:]),
        overdue_found=len(late),
        overdue=overdue,
        full=sum(spans),
        batches=len(spans),
        batch_median=statistics.median(spans),
        batch_most=max(spans),
        resumed=resumed,
        violations=violations,
    )
    database.close()
    return figures


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the seconds that it took."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def timed_each(parts: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Each part, and the seconds that it took."""
    while True:
        part, span = timed(lambda: next(parts, None))
        if part is None:
            return
        yield part, span


def version(database: Database) -> str:
    """The database and its version."""
    if database.url.get_backend_name() == "sqlite":
        return f"SQLite {_scalar(database, 'SELECT sqlite_version()')}"
    return " ".join(str(_scalar(database, "SELECT version()")).split()[:2])


def _scalar(database: Database, question: str) -> Any:
    return database.read(lambda connection: connection.execute(text(question)).scalar_one())


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


@contextlib.contextmanager
def stores(given: str | None) -> Iterator[list[str]]:
    """The URLs of the stores to be filled; those that were made for this are gone afterwards."""
    if given:
        yield [given]
        return
    with tempfile.TemporaryDirectory() as directory, PostgresServer() as server:
        yield [f"sqlite:///{Path(directory) / 'tape.db'}", server.fresh_database()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many effects (default: %(default)s)")
    parser.add_argument("--store", help="the URL of an empty database; default: SQLite and PostgreSQL of our own")
    asked = parser.parse_args()
    print(machine())
    with stores(asked.store) as urls:
        for url in urls:
            figures = measure(url, asked.rows)
            print(f"\n{figures.store}")
            for what, value in figures.rows():
                print(f"  {what:<52}{value:>36}")


if __name__ == "__main__":
    main()
