"""Where the product takes time, chance and threads from outside, and what it gets instead while a simulation runs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tape_celery import client, concurrency, engine, failpoints, intent, lease
from tape_celery import tape as tape_module
from tape_celery.store import claims, database, moves
from tests.simulation.world import NEVER, Thread, running


@contextmanager
def installed() -> Iterator[None]:
    """The product runs on the virtual clock, the seed's chances and greenlets."""
    clock = SimpleNamespace(time_ns=lambda: running().wall_ms * 1_000_000, sleep=lambda s: running().pause(s * 1000))
    dice = SimpleNamespace(random=lambda: running().ids.random())
    ids = SimpleNamespace(uuid4=lambda: uuid.UUID(int=running().ids.getrandbits(128), version=4))
    system = SimpleNamespace(urandom=lambda n: running().ids.randbytes(n))
    patches = [
        (failpoints, "reach", _reach),
        (engine, "monotonic", _monotonic),
        (lease, "monotonic", _monotonic),
        (lease, "threading", SimpleNamespace(Event=_Event, Thread=_Thread)),
        (engine, "time", clock),
        (engine, "random", dice),
        (database, "time", clock),
        (database, "random", dice),
        (claims, "uuid", ids),
        (moves, "uuid", ids),
        (intent, "time", clock),
        (intent, "os", system),
        (concurrency, "ThreadPoolExecutor", _Executor),
        (concurrency, "wait", _wait),
        (concurrency, "time", SimpleNamespace(monotonic=_monotonic)),
        (client, "process_actor", actor),
        (tape_module, "process_actor", actor),
    ]
    with ExitStack() as stack:
        for target, name, given in patches:
            stack.enter_context(mock.patch.object(target, name, given))
        yield


def actor() -> str:
    """Who runs."""
    here = running().here
    return "hub" if here is None else here.process.name


def _reach(name: str) -> None:
    world = running()
    if world.here is not None and name.endswith(".checked"):
        world.here.checked_ms = world.now_ms
    if name == "run.closed" and world.run_closed_ms is None:
        world.run_closed_ms = world.database_ms
    world.point(name)


def _monotonic() -> float:
    return running().now_ms / 1000


class _Event:
    """`threading.Event` between greenlets."""

    def __init__(self) -> None:
        self._set = False
        self.waiting: list[Thread] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for thread in self.waiting:
            thread.wakes_ms = 0
        self.waiting.clear()

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            wait_for([self], NEVER if timeout is None else timeout * 1000)
        return self._set


def wait_for(events: list[_Event], ms: float) -> None:
    """Sleep until one of ``events`` is set, or for ``ms``."""
    world = running()
    here = world.here
    assert here is not None
    for event in events:
        event.waiting.append(here)
    world.pause(ms)
    for event in events:
        if here in event.waiting:
            event.waiting.remove(here)


class _Thread:
    """`threading.Thread` as a greenlet of the same process."""

    def __init__(self, *, target: Callable[[], None], name: str, daemon: bool) -> None:
        self._target = target
        self._ended = _Event()

    def start(self) -> None:
        world = running()
        assert world.here is not None
        world.spawn(world.here.process, self._run)

    def _run(self) -> None:
        self._target()
        self._ended.set()

    def join(self) -> None:
        self._ended.wait()


class _Future:
    def __init__(self, number: int) -> None:
        self.number = number
        self.ended = _Event()
        self._error: Exception | None = None

    def run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._error = error
        self.ended.set()

    def result(self) -> None:
        if self._error is not None:
            raise self._error


class _Executor:
    """`ThreadPoolExecutor` with a greenlet for each call."""

    def __init__(self, most: int, *, thread_name_prefix: str) -> None:
        pass

    def submit(self, work: Callable[[], None]) -> _Future:
        world = running()
        assert world.here is not None
        future = _Future(next(world.numbers))
        world.spawn(world.here.process, lambda: future.run(work))
        return future


def _wait(futures: Any, *, timeout: float | None, return_when: str) -> tuple[list[_Future], set[_Future]]:
    """``concurrent.futures.wait`` for the first; in the order in which they were submitted."""
    listed = sorted(futures, key=lambda future: future.number)
    if not any(future.ended.is_set() for future in listed):
        wait_for([future.ended for future in listed], NEVER if timeout is None else timeout * 1000)
    return [f for f in listed if f.ended.is_set()], {f for f in listed if not f.ended.is_set()}
