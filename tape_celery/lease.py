"""How long a worker trusts its lease, and keeping the lease of a call that takes longer than it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from tape_celery.loggers import logger_for

logger = logger_for(__name__)

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds on a clock that never goes back and, where the system has one, goes on while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


class LeaseKeeper:
    """Renews leases in the background while their calls run; within the ``with`` block only.

    ``renew(key)`` extends one lease and says whether it still is the caller's. A lease is given up when it is not, or
    when its call has run for its bound: what runs past its bound is a lost call. ``about(key)`` has the attributes of a
    log record about it.
    """

    def __init__(
        self,
        bounds: dict[str, float],
        *,
        every_seconds: float,
        renew: Callable[[str], bool],
        about: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self._ends = {key: monotonic() + bound for key, bound in bounds.items()}
        self._every_seconds = every_seconds
        self._renew = renew
        self._about = about
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tape-lease-keeper", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        if self._ends:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._ends:
            self._thread.join()

    def release(self, keys: Iterable[str]) -> None:
        """Their calls have ended."""
        for key in keys:
            self._ends.pop(key, None)

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            for key, end in list(self._ends.items()):
                over = monotonic() >= end
                if over or not self._renewed(key):
                    why = "its call has run for its bound" if over else "another has taken it, or it has ended"
                    if self._ends.pop(key, None) is not None:
                        text = "the lease of %s is not renewed any more: %s"
                        logger.warning(text, key, why, extra=self._about(key))

    def _renewed(self, key: str) -> bool:
        try:
            return self._renew(key)
        except Exception:
            logger.exception("the lease of %s was not renewed this time", key, extra=self._about(key))
            return True


def trusted_until(claim_began: float, lease_ms: int, margin_ms: int) -> float:
    """Until when, on `monotonic`, a claim that began at ``claim_began`` may start to send."""
    return claim_began + (lease_ms - margin_ms) / 1000
