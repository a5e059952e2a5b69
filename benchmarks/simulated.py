"""A clock, and what processes wait for: cores, a queue, a log on disk. A process is a generator of what it waits for.

Nothing here knows of effects. Time is in seconds, and is computed, not waited for.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

Resume = Callable[..., None]
Wait = Callable[[Resume], None]
"""Called with what goes on once it is over."""
Process = Generator[Wait, Any, None]


class Clock:
    """What happens next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._ahead: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Have ``act`` called then."""
        heapq.heappush(self._ahead, (time, next(self._numbers), act))

    def pause(self, seconds: float) -> Wait:
        """Wait for so long."""
        return lambda resume: self.at(self.now + seconds, resume)

    def start(self, process: Process) -> None:
        """Let ``process`` go on whenever what it waits for is over."""

        def go_on(got: Any = None) -> None:
            try:
                wait = process.send(got)
            except StopIteration:
                return
            wait(go_on)

        go_on()

    def run(self, until: Callable[[], bool]) -> None:
        """Let time pass until that is so, or nothing happens any more."""
        while self._ahead and not until():
            self.now, _, act = heapq.heappop(self._ahead)
            act()


class Machine:
    """Cores, shared evenly by all that compute; each has one of them at the most.

    Every computation goes on at the same pace, so one number, how much each has done since the start, tells who is
    ready first.
    """

    def __init__(self, clock: Clock, cores: float) -> None:
        self.cores = cores
        self.busy = 0.0
        """Core seconds so far."""
        self._clock = clock
        self._numbers = itertools.count()
        self._running: list[tuple[float, int, Resume]] = []
        self._done = self._since = 0.0
        self._plan_number = 0

    def compute(self, seconds: float) -> Wait:
        """Wait for so much time of one core."""

        def wait(resume: Resume) -> None:
            self._advance()
            heapq.heappush(self._running, (self._done + seconds, next(self._numbers), resume))
            self._plan()

        return wait

    def _pace(self) -> float:
        return min(1.0, self.cores / len(self._running))

    def _advance(self) -> None:
        if self._running:
            passed = self._clock.now - self._since
            self._done += passed * self._pace()
            self.busy += passed * min(len(self._running), self.cores)
        self._since = self._clock.now

    def _plan(self) -> None:
        self._plan_number = number = self._plan_number + 1
        if self._running:
            left = max(0.0, self._running[0][0] - self._done)
            self._clock.at(self._clock.now + left / self._pace(), lambda: self._first_is_ready(number))

    def _first_is_ready(self, number: int) -> None:
        if number != self._plan_number:  # somebody came or went since this was planned
            return
        self._advance()
        _, _, resume = heapq.heappop(self._running)
        self._plan()
        resume()


class Queue:
    """First come, first served."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiting: deque[Resume] = deque()

    def put(self, item: Any) -> None:
        if self._waiting:
            self._waiting.popleft()(item)
        else:
            self._items.append(item)

    def take(self) -> Wait:
        """Wait for an item, and get it."""

        def wait(resume: Resume) -> None:
            if self._items:
                resume(self._items.popleft())
            else:
                self._waiting.append(resume)

        return wait


class Log:
    """A log on a disk: a sync takes its time, and all commits that wait meanwhile share the next one."""

    def __init__(self, clock: Clock, sync_seconds: float) -> None:
        self.syncs = 0
        self._clock = clock
        self._sync_seconds = sync_seconds
        self._under_way: list[Resume] = []
        self._waiting: list[Resume] = []

    def commit(self) -> Wait:
        """Wait until it is on the disk."""

        def wait(resume: Resume) -> None:
            if not self._sync_seconds:
                resume()
                return
            self._waiting.append(resume)
            if not self._under_way:
                self._sync()

        return wait

    def _sync(self) -> None:
        self._under_way, self._waiting = self._waiting, []
        self.syncs += 1
        self._clock.at(self._clock.now + self._sync_seconds, self._synced)

    def _synced(self) -> None:
        ready, self._under_way = self._under_way, []
        for resume in ready:
            resume()
        if self._waiting and not self._under_way:
            self._sync()
