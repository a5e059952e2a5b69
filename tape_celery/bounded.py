"""Waiting for what may never answer: it is done in a thread, which is left to itself when it takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Bounded:
    """Waits ``seconds`` at the most, each time. What was left to itself keeps others from being begun beside it."""

    def __init__(self, seconds: float, *, thread_name: str) -> None:
        self._seconds, self._thread_name = seconds, thread_name
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises; raises `TimeoutError` when that takes longer."""
        if self._thread is not None and self._thread.is_alive():
            raise TimeoutError("still no answer")
        doing = _Doing(work)
        self._thread = threading.Thread(target=doing.do, name=self._thread_name, daemon=True)
        self._thread.start()
        self._thread.join(self._seconds)
        if doing.raised:
            raise doing.raised[0]
        if not doing.returned:
            raise TimeoutError(f"no answer within {self._seconds:g} s")
        return doing.returned[0]


class _Doing(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.returned: list[T] = []
        self.raised: list[BaseException] = []

    def do(self) -> None:
        try:
            self.returned.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self.raised.append(error)
