"""Wait for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    predicate: Callable[[], T],
    *,
    timeout: float = 10.0,
    what: str = "",
    interval: float = 0.02,
    ignore: tuple[type[Exception], ...] = (),
) -> T:
    """Call `predicate` until it answers something true, and return that.

    `timeout` and `interval` are seconds. An exception of a class in `ignore` counts as "not yet"; any other
    ends the wait at once. Raises AssertionError, naming `what` and the last answer, when the time is over.
    """
    deadline = time.monotonic() + timeout
    while True:
        error: Exception | None = None
        try:
            answer = predicate()
            if answer:
                return answer
            last = repr(answer)
        except ignore as raised:
            error, last = raised, repr(raised)
        if time.monotonic() >= deadline:
            what = what or getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(f"waited {timeout:g} s in vain for {what}; last answer: {last}") from error
        time.sleep(interval)
