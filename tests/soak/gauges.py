"""Memory and file handles of the processes that live long, and whether they are flat."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil

SHORTEST_SECONDS = 120.0
"""A life that is shorter tells nothing about leaks."""
MOST_GROWTH_BYTES = 8 * 2**20
MOST_GROWTH_PART = 0.1
MOST_MORE_HANDLES = 12


@dataclass(frozen=True)
class Sample:
    """One look at one process."""

    at_seconds: float
    bytes: int
    handles: int


@dataclass(frozen=True)
class Trend:
    """What a process had after it had warmed up, and at the end."""

    name: str
    bytes_before: int
    bytes_after: int
    handles_before: int
    handles_after: int

    @property
    def is_flat(self) -> bool:
        """Whether neither memory nor handles grew more than they breathe."""
        most = self.bytes_before * (1 + MOST_GROWTH_PART) + MOST_GROWTH_BYTES
        return self.bytes_after <= most and self.handles_after <= self.handles_before + MOST_MORE_HANDLES

    def __str__(self) -> str:
        before, after = self.bytes_before / 2**20, self.bytes_after / 2**20
        return f"{self.name}: {before:.1f} to {after:.1f} MiB, {self.handles_before} to {self.handles_after} handles"


class Gauges:
    """Samples of the processes that ``living`` tells, by name and process id."""

    def __init__(self, living: Callable[[], Mapping[str, psutil.Process]]) -> None:
        self.samples: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)
        self._living = living
        self._began = time.monotonic()

    def watch(self, stop: threading.Event) -> None:
        """Sample once a second until ``stop``."""
        while not stop.wait(1.0):
            at = time.monotonic() - self._began
            with contextlib.suppress(psutil.NoSuchProcess):  # it ends just now: its successor is there the next time
                for name, process in self._living().items():
                    sample = Sample(at, process.memory_info().rss, process.num_fds())
                    self.samples[name, process.pid].append(sample)

    def trends(self) -> list[Trend]:
        """One for each process that lived for long enough."""
        found = [trend_of(name, samples) for (name, _), samples in self.samples.items()]
        return [trend for trend in found if trend is not None]


def trend_of(name: str, samples: Sequence[Sample]) -> Trend | None:
    """The medians of the second quarter of a life against those of the last."""
    if not samples or samples[-1].at_seconds - samples[0].at_seconds < SHORTEST_SECONDS:
        return None
    quarter = len(samples) // 4
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]

    def medians(part: Sequence[Sample]) -> tuple[int, int]:
        sizes = statistics.median(sample.bytes for sample in part)
        return int(sizes), int(statistics.median(sample.handles for sample in part))

    lived = f"{name}, {samples[-1].at_seconds - samples[0].at_seconds:.0f} s"
    return Trend(lived, medians(before)[0], medians(after)[0], medians(before)[1], medians(after)[1])
