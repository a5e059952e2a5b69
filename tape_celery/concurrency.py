"""Running connectors' methods: at once in threads, and coroutines on an event loop of the thread that runs them."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")

MOST_CALLS_AT_ONCE = 500
"""Over all passes of one process; threads are started as they are needed."""

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
        """Yield lists of what ``perform`` returned, as calls end."""
        if len(records) == 1 and not _in_event_loop():
            yield [perform(records[0])]
            return
        executor = self._own_executor()
        running: set[Future[U]] = {executor.submit(perform, record) for record in records}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield [future.result() for future in done]

    def _own_executor(self) -> ThreadPoolExecutor:
        """This process's threads: threads do not survive a fork."""
        with self._lock:
            if self._executor is None or self._pid != os.getpid():
                self._executor = ThreadPoolExecutor(MOST_CALLS_AT_ONCE, thread_name_prefix="tape-call")
                self._pid = os.getpid()
            return self._executor


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Room:
    """Room for the calls of chunks, taken before their rows are claimed.

    So what is claimed is called at once: no lease runs while its call waits for a thread, and a process that dies
    leaves no more UNKNOWN than it was calling. A single call needs none: its caller's thread is all it takes.
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
