"""Running connectors' methods: at once in threads, and coroutines on an event loop of the thread that runs them."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

MOST_CALLS_AT_ONCE = 500
"""Over all passes of one process; threads are started as they are needed."""
LOOK_SECONDS = 0.005
"""How often is looked whether calls wait for answers, so that more threads should join in."""
ENOUGH = 2
"""Calls that a thread ends between two looks, if what it does is work and not waiting."""
GROWTH = 4
"""How many times as many threads there are after each look that found them waiting."""
GATHER_SECONDS = 0.02
"""For how long what has ended waits for more that could be sealed with it."""

_loops = threading.local()


def awaited(value: Any) -> Any:
    """``value``, or what it comes to when it is awaited, on this thread's own event loop."""
    if not inspect.isawaitable(value):
        return value

    async def result() -> Any:
        return await value

    own: _OwnLoop | None = getattr(_loops, "own", None)
    if own is None or own.pid != os.getpid():
        own = _loops.own = _OwnLoop()
    return own.loop.run_until_complete(result())


class _OwnLoop:
    """The event loop of one thread, which is closed when that thread ends."""

    def __init__(self) -> None:
        self.loop, self.pid = asyncio.new_event_loop(), os.getpid()

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self.loop.close()
        else:
            _inherited.append(self.loop)


_inherited: list[asyncio.AbstractEventLoop] = []
"""Loops of the parent, kept for ever after a fork: closing one would take its files out of the parent's selector."""


class CallThreads:
    """Runs the calls of a chunk at once; a single one runs in the caller's thread, where time limits reach it."""

    def __init__(self) -> None:
        self._pid = 0
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def each(self, perform: Callable[[T], U], records: Sequence[T]) -> Iterator[list[U]]:
        """Yield lists of what ``perform`` returned, as calls end; what ends at about the same time is one list."""
        if len(records) == 1 and not _in_event_loop():
            yield [perform(records[0])]
            return
        calls = _Calls(perform, records)
        try:
            yield from calls.run(self._own_executor())
        finally:
            calls.left.clear()  # whoever stops here wants no call that has not begun

    def _own_executor(self) -> ThreadPoolExecutor:
        """This process's threads: threads do not survive a fork."""
        with self._lock:
            if self._executor is None or self._pid != os.getpid():
                self._executor = ThreadPoolExecutor(MOST_CALLS_AT_ONCE, thread_name_prefix="tape-call")
                self._pid = os.getpid()
            return self._executor


class _Calls(Generic[T, U]):
    """The calls of one chunk. They begin in one thread, which is the fastest for what is answered at once, and as long
    as threads wait for answers others join in: after some milliseconds all that is left is under way."""

    def __init__(self, perform: Callable[[T], U], records: Sequence[T]) -> None:
        self._perform = perform
        self.left = deque(records)
        self._ended: deque[U] = deque()

    def run(self, executor: ThreadPoolExecutor) -> Iterator[list[U]]:
        threads = {executor.submit(self._work)}
        known, first = 0, math.inf
        while threads:
            over, threads = wait(threads, timeout=self._patience(), return_when=FIRST_COMPLETED)
            for thread in over:
                thread.result()
            ended = len(self._ended)
            if self.left and ended - known < ENOUGH * len(threads):
                more = min((GROWTH - 1) * len(threads), len(self.left))
                threads |= {executor.submit(self._work) for _ in range(more)}
            known, first = ended, min(first, time.monotonic()) if ended else math.inf
            if ended and (not threads or time.monotonic() - first >= GATHER_SECONDS):
                yield [self._ended.popleft() for _ in range(ended)]
                known, first = 0, math.inf

    def _patience(self) -> float | None:
        if self.left:
            return LOOK_SECONDS
        return GATHER_SECONDS if self._ended else None

    def _work(self) -> None:
        while self.left:
            try:
                record = self.left.popleft()
            except IndexError:  # another thread was quicker
                return
            self._ended.append(self._perform(record))


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Room:
    """Room for the calls of chunks, taken before their rows are claimed.

    So what is claimed is called within milliseconds, or in its turn where the upstream answers at once: no lease runs
    while its call waits for a thread, and a process that dies leaves no more UNKNOWN than the chunks it was at.
    A single call needs none: its caller's thread is all it takes.
    """

    def __init__(self, places: int) -> None:
        self._all = places
        self._own = _Places(places)

    @contextmanager
    def taken(self, calls: int) -> Iterator[Callable[[int], None]]:
        """Wait until there is room for so many calls; yields what gives that of some back, the end the rest."""
        own = self._own
        if own.pid != os.getpid():
            own = self._own = _Places(self._all)
        left = calls if calls > 1 else 0

        def give_back(ended: int) -> None:
            nonlocal left
            given = min(ended, left)
            left -= given
            own.put(given)

        own.take(left)
        try:
            yield give_back
        finally:
            give_back(left)


class _Places:
    """Those that are free in one process."""

    def __init__(self, free: int) -> None:
        self.pid = os.getpid()
        self._free = free
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    def take(self, count: int) -> None:
        if count:
            with self._turn, self._changed:  # a turn each: who wants many is not passed by for ever
                self._changed.wait_for(lambda: self._free >= count)
                self._free -= count

    def put(self, count: int) -> None:
        if count:
            with self._changed:
                self._free += count
                self._changed.notify()
