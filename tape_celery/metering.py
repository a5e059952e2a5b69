"""What a process counts of its own work, and how the children of a worker tell their parent.

Counts and spans are added up where they arise. The process that made the `Meter` holds the totals; a process forked
from it holds what it has not told yet, and tells it by a pipe: one line a series, so many lines a write as the kernel
keeps in one piece. What the pipe does not take is told with the next. So a child that is killed takes with it what it
did not tell at most, and totals never go down. Of keys, run ids and reasons nothing is counted.
"""

from __future__ import annotations

import json
import os
import select
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tape_celery.records import Effect, Obligation

MOST_BYTES = 4096
"""What the kernel writes to a pipe in one piece: PIPE_BUF is at least that on Linux."""


@dataclass(frozen=True)
class Metric:
    """One metric that processes count: with ``bounds``, a histogram of seconds."""

    name: str
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()


TRANSITIONS = Metric(
    "tape_transitions_total",
    ("record", "connector", "from", "to", "kind"),
    "Journal entries of effects and obligations but the first of each; kind=late is late evidence",
)
CALLS = Metric(
    "tape_call_seconds",
    ("connector", "verb", "result"),
    "How long calls and looks of the connector took, by what they came to",
    bounds=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
UNKNOWN = Metric(
    "tape_unknown_seconds",
    ("connector", "to"),
    "From the end of the call whose answer was lost until the effect left UNKNOWN",
    bounds=(1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400),
)
LOST_RACES = Metric(
    "tape_lost_races_total",
    ("where",),
    "Rows that somebody else had when they were to be claimed, sealed or swept",
)
HINTS = Metric("tape_hints_total", ("task", "result"), "Messages to our tasks that the broker took or did not take")
SWEEPS = Metric(
    "tape_sweep_seconds",
    (),
    "How long passes of the sweep took",
    bounds=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
SWEPT = Metric("tape_swept_rows_total", ("what",), "What passes of the sweep did, in rows")
BREAKER_OPENINGS = Metric(
    "tape_breaker_openings_total", ("connector", "verb"), "How often a breaker opened, or opened again after its probe"
)

METRICS = (TRANSITIONS, CALLS, UNKNOWN, LOST_RACES, HINTS, SWEEPS, SWEPT, BREAKER_OPENINGS)
_BY_NAME = {metric.name: metric for metric in METRICS}

Series = tuple[str, tuple[str, ...]]
"""A metric's name, and the values of its labels."""
Totals = dict[Metric, dict[tuple[str, ...], list[float]]]
"""What was counted, by metric and the values of its labels."""


class Meter:
    """Adds up what is counted, for the process that made it and all that are forked from it. Safe to use by threads.

    Counting never raises and never waits.
    """

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        self._pid = os.getpid()
        self._reset()
        _meters.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[Series, list[float]] = {}
        """Of a count its sum; of a histogram how many fell into each bucket, and the sum of all."""

    # --- counting ---

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        """Count ``by`` more; in a child it is told by the next `send`."""
        if by:
            with self._lock:
                self._add((metric.name, labels), [by])

    def span(self, metric: Metric, seconds: float, *labels: str) -> None:
        """Note one span of time; in a child it is told by the next `send`."""
        with self._lock:
            sums = self._sums.setdefault((metric.name, labels), [0.0] * (len(metric.bounds) + 2))
            sums[bisect_left(metric.bounds, seconds)] += 1
            sums[-1] += max(0.0, seconds)

    def _add(self, series: Series, more: list[float]) -> None:
        sums = self._sums.get(series)
        self._sums[series] = more if sums is None else [one + other for one, other in zip(sums, more, strict=True)]

    # --- telling ---

    def send(self) -> None:
        """In a child: tell the parent what was counted. What it cannot take now is told next time."""
        if self._pid == os.getpid():
            return
        with self._lock:
            for told, lines in self._writes():
                try:
                    os.write(self._write_end, lines)
                except OSError:  # full; or there is no parent any more
                    return
                for series in told:
                    del self._sums[series]

    def _writes(self) -> Iterator[tuple[list[Series], bytes]]:
        told, lines = list[Series](), b""
        for series, sums in list(self._sums.items()):
            line = json.dumps([*series, sums]).encode() + b"\n"
            if lines and len(lines) + len(line) > MOST_BYTES:
                yield told, lines
                told, lines = [], b""
            told.append(series)
            lines += line
        if lines:
            yield told, lines

    def receive(self, wait_seconds: float = 0.0) -> None:
        """In the process that holds the totals: take what children have told, and wait for it at most so long."""
        waiting = select.poll()
        waiting.register(self._read_end, select.POLLIN)
        if not waiting.poll(round(wait_seconds * 1000)):
            return
        with self._lock:
            while True:
                try:
                    lines = os.read(self._read_end, 16 * MOST_BYTES)
                except BlockingIOError:
                    return
                while not lines.endswith(b"\n"):  # writes are whole, a read need not be
                    lines += os.read(self._read_end, MOST_BYTES)
                for line in lines.splitlines():
                    name, labels, sums = json.loads(line)
                    self._add((name, tuple(labels)), sums)

    def lines(self) -> list[list[Any]]:
        """What was counted so far, a line a series, as JSON can say it; `totals_of` reads it."""
        with self._lock:
            return [[name, list(labels), list(sums)] for (name, labels), sums in self._sums.items()]

    def totals(self) -> Totals:
        """What was counted so far."""
        return totals_of(self.lines())

    def close(self) -> None:
        """Let go of the pipe; nothing may be received after it."""
        os.close(self._read_end)
        os.close(self._write_end)
        _meters.discard(self)

    def after_fork(self) -> None:
        """In a child: the totals are the parent's, and so is reading."""
        if self._pid == os.getppid():
            os.close(self._read_end)
        self._reset()


def totals_of(lines: Iterable[Any]) -> Totals:
    """What the `Meter.lines` of a process say; metrics of which nobody here knows are left out.

    Raises `ValueError` or `TypeError` for what is none of it.
    """
    found: Totals = {metric: {} for metric in METRICS}
    for name, labels, sums in lines:
        metric = _BY_NAME.get(name)
        if metric is None:
            continue
        if len(labels) != len(metric.labels) or len(sums) != (len(metric.bounds) + 2 if metric.bounds else 1):
            raise ValueError(f"{name} has labels {labels!r} and sums {sums!r}")
        found[metric][tuple(map(str, labels))] = [float(one) for one in sums]
    return found


def count_entry(meter: Meter, record: Effect | Obligation, before: str, kind: str) -> None:
    """Count the journal entry ``kind`` that made ``record`` what it is, which was in the state ``before``."""
    what = "effect" if isinstance(record, Effect) else "obligation"
    meter.count(TRANSITIONS, what, record.connector, before, record.status, kind)


_meters: weakref.WeakSet[Meter] = weakref.WeakSet()


def _after_fork() -> None:
    for meter in list(_meters):
        meter.after_fork()


os.register_at_fork(after_in_child=_after_fork)
