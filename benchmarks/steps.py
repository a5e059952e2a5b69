"""What each step of one effect costs, counted: statements, round trips, commits and messages, alone and in chunks.

    python -m benchmarks.steps

On PostgreSQL, in one process. Statements are those that SQLAlchemy executes, and those of a pipeline; round trips are
counted where libpq turns from sending to receiving, BEGIN, COMMIT and ROLLBACK among them; a commit is one of a
transaction that may write.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from celery import Celery
from psycopg.pq import Trace
from sqlalchemy import event

from benchmarks.machine import machine
from tape_celery import Tape, connectors
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.publisher import Publisher
from tape_celery.store import pipelining
from tests.servers import PostgresServer

COLUMNS = ("statements", "round trips", "commits", "messages")
CHUNK = 20
MANY = 500
TIMES = 20
SETTLED_MS = 3_600_000
"""After so long a lost answer is due to be looked at."""


@dataclass
class Tally:
    """What was counted, by step and column."""

    directory: Path
    step: str = ""
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)

    def listen(self, engine: Any) -> None:
        """Count what goes over this engine, and every message of a publisher."""
        event.listen(engine, "before_cursor_execute", lambda *_: self._count("statements"))
        event.listen(engine, "commit", self._committed)
        event.listen(engine, "connect", self._connected)
        execute, committed = pipelining._execute, pipelining._committed

        def counted_execute(*given: Any) -> Any:
            self._count("statements")
            return execute(*given)

        def counted_committed(connection: Any, run: Any) -> Any:
            def counted_run(driver: Any, progress: Any) -> Any:
                result = run(driver, progress)
                if progress.commits:  # else it has only read
                    self._count("commits")
                return result

            return committed(connection, counted_run)

        pipelining._execute, pipelining._committed = counted_execute, counted_committed
        send = Publisher._send

        def counted(publisher: Any, connection: Any, hint: Any) -> None:
            self._count("messages")
            send(publisher, connection, hint)

        Publisher._send = counted  # type: ignore[method-assign]

    def during(self, step: str, work: Callable[[], Any]) -> Any:
        """Count what ``work`` does as that of ``step``; a connector's call may name another step meanwhile."""
        self._settle()
        self.step = step
        try:
            return work()
        finally:
            self._settle()
            self.step = ""

    def turn(self, step: str) -> None:
        """From here on it is another step."""
        if self.step != step:
            self._settle()
            self.step = step

    def _count(self, column: str, number: int = 1) -> None:
        self.counted[self.step, column] += number

    def _committed(self, connection: Any) -> None:
        if not connection.get_execution_options().get("tape_read_only"):
            self._count("commits")

    def _connected(self, dbapi_connection: Any, _: Any) -> None:
        path = self.directory / f"{id(dbapi_connection)}.trace"
        self._traces = [*getattr(self, "_traces", []), path.open("w")]
        dbapi_connection.pgconn.trace(self._traces[-1].fileno())
        dbapi_connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)

    def _settle(self) -> None:
        """Give the round trips since the last time to the step that made them."""
        now = sum(_round_trips(path) for path in self.directory.glob("*.trace"))
        before, self._known = getattr(self, "_known", 0), now
        self._count("round trips", now - before)


def _round_trips(path: Path) -> int:
    ways = [line[0] for line in path.read_text().splitlines() if line[:1] in ("F", "B")]
    return sum(before == "F" and after == "B" for before, after in pairwise(ways))


class _Stub:
    """Confirms at once, or loses the answer where it is asked to, and says that the claim is over."""

    name = "wire"

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def dispatch(self, effect: Any) -> DispatchResult:
        self._claimed()
        return DispatchResult("unknown" if effect.request.get("lost") else "confirmed", external_ref="w-1")

    def observe(self, effect: Any) -> ObservationResult:
        self._claimed()
        return ObservationResult("confirmed", external_ref="w-1")

    def compensate(self, obligation: Any) -> CompensationResult:
        self._claimed()
        return CompensationResult("compensated")

    def _claimed(self) -> None:
        if self._tally.step == "claim":
            self._tally.turn("seal")


def measure(url: str, directory: Path) -> list[tuple[str, str, list[float]]]:
    """Step, way, and the columns for one effect."""
    app = Celery("steps", broker="memory://", set_as_current=False)
    tape = Tape(app, store_url=url, chunk_size=CHUNK)
    tape.migrate()
    tally = Tally(directory)
    connectors.register(_Stub(tally))
    tape.database.close()
    tally.listen(tape.database._engine)
    _one_pass(tape, tally, [_asked(tape, "warm")])
    tally.counted.clear()
    found: list[tuple[str, str, list[float]]] = []

    def told(way: str, steps: tuple[str, ...], effects: int) -> None:
        for step in steps:
            found.append((step, way, [tally.counted[step, column] / effects for column in COLUMNS]))
        tally.counted.clear()

    alone = [tally.during("record, and hint", lambda n=n: _asked(tape, f"one-{n}")) for n in range(TIMES)]
    told(".delay()", ("record, and hint",), TIMES)
    many = [{"connector": "wire", "request": {"number": n}, "business_key": f"many-{n}"} for n in range(MANY)]
    handles = tally.during("record, and hint", lambda: tape.effect.delay_many(many))
    told(f"delay_many of {MANY}", ("record, and hint",), MANY)
    steps = ("claim", "seal", "follow-up")
    for key in alone:
        _one_pass(tape, tally, [key])
    told("alone", steps, TIMES)
    keys = [handle.id for handle in handles]
    for start in range(0, MANY, CHUNK):
        _one_pass(tape, tally, keys[start : start + CHUNK])
    told(f"in chunks of {CHUNK}", steps, MANY)
    for name, lost, verb in (("a look", True, tape.engine.observe), ("an inverse", False, tape.engine.compensate)):
        keys = [_asked(tape, f"{name}-{n}", lost=lost) for n in range(TIMES)]
        tape.follow_up(tape.engine.dispatch(keys))
        if verb == tape.engine.compensate:
            keys = [tape.owe(key, reason="an inverse", actor="steps").obligation_key for key in keys]
        tape.database.shift_ms += SETTLED_MS
        tally.counted.clear()
        for key in keys:
            _one_pass(tape, tally, [key], verb)
        told(f"of {name}, alone", steps, TIMES)
    tape.sweep()
    tally.counted.clear()
    tally.during("sweep", tape.sweep)
    told("nothing is due, a pass", ("sweep",), 1)
    for n in range(MANY):
        _asked(tape, f"unsent-{n}")
    tape.database.shift_ms += SETTLED_MS
    tally.counted.clear()
    tally.during("sweep", tape.sweep)
    told(f"{MANY} hints were lost", ("sweep",), MANY)
    return found


def _asked(tape: Tape, name: str, *, lost: bool = False) -> str:
    handle = tape.effect.delay("wire", {"number": 1, "name": name, "lost": lost}, business_key=name)
    tape._publishing().flush()  # alone: its hint does not ride with others
    return handle.id


def _one_pass(tape: Tape, tally: Tally, keys: list[str], verb: Callable[[list[str]], Any] | None = None) -> None:
    """What a task of ours does with one hint; `tape.dispatch`, unless ``verb`` is that of another."""
    report = tally.during("claim", lambda: (verb or tape.engine.dispatch)(keys))
    tally.during("follow-up", lambda: tape.follow_up(report))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(machine(), "\n")
    with PostgresServer() as postgres, tempfile.TemporaryDirectory() as directory:
        found = measure(postgres.fresh_database(), Path(directory))
    print(f"| step, per effect | way | {' | '.join(COLUMNS)} |\n{'| --- ' * (2 + len(COLUMNS))}|")
    for step, way, numbers in found:
        print(f"| {step} | {way} | {' | '.join(f'{number:.2f}'.rstrip('0').rstrip('.') for number in numbers)} |")


if __name__ == "__main__":
    main()
