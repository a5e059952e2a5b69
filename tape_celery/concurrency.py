"""Running connectors' methods: at once in threads, and coroutines on an event loop of the thread that runs them."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
