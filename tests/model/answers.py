"""What upstreams may answer to calls, inverses and looks: each kind that the contract's tables tell apart."""

from __future__ import annotations

from typing import Any

from tape_celery.events import Answered, Observed, Unobservable
from tests.model.terms import BACKOFF_MS, RETRY_MS

REFS = ("", "ref-1", "ref-2", "ref-3")


def said(status: str, **given: Any) -> Answered:
    return Answered(token=0, status=status, backoff_ms=BACKOFF_MS, **given)  # type: ignore[arg-type]


def saw(status: str, **given: Any) -> Observed:
    return Observed(token=0, status=status, backoff_ms=BACKOFF_MS, **given)  # type: ignore[arg-type]


LOST = said("unknown", reason="a timeout")
UNSENT = said("unknown", sent=False)
CALL_ANSWERS = (
    *(said("confirmed", external_ref=ref) for ref in REFS),
    LOST,
    LOST,
    UNSENT,
    said("failed", reason="refused"),
    said("failed", retry_in_ms=RETRY_MS),
    said("failed", retry_in_ms=0),
    said("failed", may_have_landed=True),
    said("failed", may_have_landed=True, retry_in_ms=RETRY_MS),
)
INVERSE_ANSWERS = (
    said("confirmed"),
    LOST,
    LOST,
    UNSENT,
    said("failed"),
    said("failed", retry_in_ms=RETRY_MS),
    said("failed", final=True),
    said("failed", sent=False),
)
LOOK_ANSWERS = (
    *(saw("confirmed", external_ref=ref) for ref in REFS[:3]),
    saw("absent"),
    saw("absent"),
    saw("failed"),
    saw("stuck"),
    saw("stuck"),
    *(saw("duplicate", external_ref=ref) for ref in REFS[:2]),
    saw("duplicate", external_ref="ref-1", duplicates=()),
    saw("duplicate", external_ref="ref-1", duplicates=("ref-2", "ref-3")),
    saw("duplicate", external_ref="ref-2", duplicates=("ref-1", "", "ref-2")),
    saw("duplicate", external_ref="", duplicates=("ref-1",)),
    Unobservable(token=0),
    Unobservable(token=0, backoff_ms=BACKOFF_MS),
)
