"""Calling a connector's methods in a thread with a bound, and the word for what it said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tape_celery.concurrency import awaited
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult

CONFIRMED = "confirmed"
FAILED = "failed"
RETRY = "failed, later"
ADMITS = "failed, may have landed"
UNKNOWN = "unknown"
UNSENT = "unknown, not sent"
RAISED = "raised"
COMPENSATED = "compensated"
AMBIGUOUS = "failed, ambiguous"
FINAL = "failed, final"
ABSENT = "absent"
DUPLICATE = "duplicate"
STUCK = "stuck"
NO_RESULT = "no result"
SILENT = "did not return"


@dataclass(frozen=True)
class Said:
    """What a call came to."""

    word: str
    result: Any = None
    seconds: float = 0.0
    detail: str = ""
    ended_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def ref(self) -> str:
        """The reference that the result names."""
        ref = getattr(self.result, "external_ref", "")
        return ref if isinstance(ref, str) else repr(ref)


def call(method: Callable[[Any], Any], record: Any, patience: float) -> Said:
    """Call ``method`` as the engine does. One that does not return within ``patience`` seconds is left alone."""
    said: list[Said] = []

    def run() -> None:
        began = time.monotonic()
        try:
            result = awaited(method(record))
        except BaseException as error:  # noqa: BLE001 - whatever a connector raises is what it said
            detail = f"{type(error).__name__}: {error}"[:200]
            said.append(Said(RAISED, None, time.monotonic() - began, detail))
            return
        said.append(_worded(result, time.monotonic() - began))

    thread = threading.Thread(target=run, name="connector-under-test", daemon=True)
    thread.start()
    thread.join(patience)
    return said[0] if said else Said(SILENT, None, patience, f"within {patience:g} s")


def _worded(result: Any, seconds: float) -> Said:
    if isinstance(result, DispatchResult):
        return Said(_dispatched(result), result, seconds)
    if isinstance(result, ObservationResult):
        if result.status in (CONFIRMED, ABSENT, DUPLICATE, FAILED, STUCK):
            return Said(result.status, result, seconds)
        return Said(NO_RESULT, result, seconds, f"an ObservationResult with the status {result.status!r}")
    if isinstance(result, CompensationResult):
        return Said(_compensated(result), result, seconds)
    return Said(NO_RESULT, result, seconds, f"a {type(result).__name__}")


def _dispatched(result: DispatchResult) -> str:
    error = result.error if isinstance(result.error, dict) else {}
    if result.status == "failed" and error.get("may_have_landed") is True:
        return ADMITS
    if result.status == "failed":
        return RETRY if isinstance(result.retry_at_ms, int) and result.retry_at_ms > 0 else FAILED
    if result.status == "unknown":
        return UNSENT if error.get("sent") is False else UNKNOWN
    return CONFIRMED if result.status == "confirmed" else NO_RESULT


def _compensated(result: CompensationResult) -> str:
    error = result.error if isinstance(result.error, dict) else {}
    if result.status == "compensated":
        return COMPENSATED
    if result.status != "failed":
        return NO_RESULT
    if error.get("ambiguous") is True:
        return AMBIGUOUS
    if error.get("sent") is False:
        return UNSENT
    return FINAL if error.get("final") is True else RETRY
