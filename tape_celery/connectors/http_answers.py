"""What an HTTP answer means: the table of the contract (section 6), as pure functions from answer to result.

    answer                                          idempotent              non_idempotent
    code in success_codes, body complete            confirmed               confirmed
    code in success_codes, body cut off             unknown                 unknown
    duplicate_code with a JSON external_ref         confirmed               confirmed
    duplicate_code without one                      unknown                 unknown
    429, 425                                        failed, retry_at_ms     failed, retry_at_ms
    408, 504, no answer after the first byte        unknown                 unknown
    no answer, before the first byte                unknown, sent: False    unknown, sent: False
    501, 505                                        failed                  failed
    other 5xx                                       failed, retry_at_ms,    unknown
                                                    may_have_landed: True
    other 4xx                                       failed                  failed
    3xx, other 2xx, anything else                   unknown                 unknown

`observe_only` counts as idempotent here: it changes nothing upstream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from functools import cached_property
from typing import Any

from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult, ObservationStatus
from tape_celery.connectors.evidence import readable, storable_json, usable_ref

LONGEST_RETRY_AFTER_MS = 7 * 86_400_000
_OBSERVED: tuple[ObservationStatus, ...] = ("confirmed", "absent", "duplicate", "failed", "stuck")
_REQUEST_IDS = ("x-request-id", "request-id")


@dataclass(frozen=True)
class Answer:
    """An answer whose status line and headers came."""

    code: int
    headers: Mapping[str, str]
    """Lower-case names. None of them is stored but a request id."""
    body: bytes = b""
    cut: str = ""
    """Why the end of the body was not seen; empty when it was."""

    @property
    def complete(self) -> bool:
        """Whether the whole body is here.

        A body without a length ends where the connection does, and so does one that was cut off: where such a body
        says that it is JSON, only reading it tells the two apart.
        """
        has_length = "content-length" in self.headers or "transfer-encoding" in self.headers or self.code == 204
        says_json = "json" in self.headers.get("content-type", "").lower()
        return not self.cut and (has_length or not says_json or self._json is not None)

    @property
    def fields(self) -> dict[str, Any]:
        """The body, if it is a complete JSON object; else empty."""
        return dict(self._json) if isinstance(self._json, dict) else {}

    @property
    def response(self) -> dict[str, Any]:
        """What to keep of an answer that was good: the JSON object, or the code and what came in its place."""
        if isinstance(self._json, dict):
            return self._json
        return {"status_code": self.code, "body": readable(self.body) if self._json is None else self._json}

    def error(self, **more: Any) -> dict[str, Any]:
        """What to keep of an answer that was not good, in less than 2 KiB of JSON."""
        message = f"the upstream answered {self.code}" + (f", cut off: {self.cut}" if self.cut else "")
        kept: dict[str, Any] = {"status_code": self.code, "message": readable(message, limit=500)}
        if self.body:
            kept["body"] = readable(self.body)
        for name in _REQUEST_IDS:
            if name in self.headers:
                kept["request_id"] = readable(self.headers[name], limit=200)
        return kept | more

    @cached_property
    def _json(self) -> Any:
        try:
            return None if self.cut else storable_json(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class NoAnswer:
    """An exchange that ended before a status line and headers came."""

    type: str
    """The name of the exception that ended it."""
    message: str
    sent: bool = True
    """False only where it is proved that no byte of the request was handed over."""

    def error(self, **more: Any) -> dict[str, Any]:
        """What to keep of it."""
        kept: dict[str, Any] = {"type": self.type, "message": readable(self.message)}
        return (kept if self.sent else kept | {"sent": False}) | more


@dataclass(frozen=True)
class Codes:
    """The codes to which one connector gives a meaning of its own."""

    success: tuple[int, ...] = (200, 201, 202, 204)
    duplicate: int = 409


class Meaning(Enum):
    """What an answer says about the call that it answers."""

    DONE = auto()
    ALREADY_THERE = auto()
    """The operation exists under our key."""
    LATER = auto()
    """Not done; ask again."""
    REFUSED = auto()
    """Not done, and never will be."""
    BROKEN = auto()
    """The upstream failed, maybe half-way."""
    UNKNOWN = auto()


_BY_CODE = {
    408: Meaning.UNKNOWN,
    425: Meaning.LATER,
    429: Meaning.LATER,
    501: Meaning.REFUSED,
    504: Meaning.UNKNOWN,
    505: Meaning.REFUSED,
}
_BY_CLASS = {4: Meaning.REFUSED, 5: Meaning.BROKEN}


def meaning_of(answer: Answer, codes: Codes) -> Meaning:
    """What ``answer`` says, the same for every kind of call."""
    if answer.code in codes.success:
        return Meaning.DONE if answer.complete else Meaning.UNKNOWN
    if answer.code == codes.duplicate:
        return Meaning.ALREADY_THERE
    return _BY_CODE.get(answer.code, _BY_CLASS.get(answer.code // 100, Meaning.UNKNOWN))


@dataclass(frozen=True)
class Waiting:
    """How long to wait where the answer does not say, and from when. Milliseconds on the worker's clock."""

    now_ms: int
    backoff_ms: int

    def until_ms(self, answer: Answer) -> int:
        """When to try again: after Retry-After (seconds or date; never over a week), else after the backoff."""
        delay = _retry_after_ms(answer.headers, self.now_ms)
        return self.now_ms + round(self.backoff_ms if delay is None else min(max(delay, 0), LONGEST_RETRY_AFTER_MS))


def dispatch_result(outcome: Answer | NoAnswer, codes: Codes, waiting: Waiting, *, idempotent: bool) -> DispatchResult:
    """What a call came to. ``idempotent``: the upstream deduplicates on our key, or nothing changes there."""
    if isinstance(outcome, NoAnswer):
        return DispatchResult("unknown", error=outcome.error())
    match meaning_of(outcome, codes):
        case Meaning.DONE:
            ref = usable_ref(outcome.fields.get("external_ref")) or usable_ref(outcome.fields.get("id"))
            return DispatchResult("confirmed", ref, response=outcome.response)
        case Meaning.ALREADY_THERE if ref := usable_ref(outcome.fields.get("external_ref")):
            return DispatchResult("confirmed", ref, response=outcome.response)
        case Meaning.LATER:
            return DispatchResult("failed", error=outcome.error(), retry_at_ms=waiting.until_ms(outcome))
        case Meaning.BROKEN if idempotent:
            error = outcome.error(may_have_landed=True)
            return DispatchResult("failed", error=error, retry_at_ms=waiting.until_ms(outcome))
        case Meaning.REFUSED:
            return DispatchResult("failed", error=outcome.error())
    return DispatchResult("unknown", error=outcome.error())


def observation_result(outcome: Answer | NoAnswer, codes: Codes) -> ObservationResult:
    """What the upstream says about a key: its JSON ``status``, or its duplicate code; all else is stuck."""
    if isinstance(outcome, NoAnswer):
        return ObservationResult("stuck", response=outcome.error())
    status = _observed_status(outcome, codes)
    if status is None:
        return ObservationResult("stuck", response=outcome.error())
    seen = outcome.fields
    ref = usable_ref(seen.get("external_ref"))
    if status == "confirmed":  # only here: the ref of a duplicate names a record that will be reversed
        ref = ref or usable_ref(seen.get("id"))
    if isinstance(extras := seen.get("duplicates"), list):
        seen["duplicates"] = [usable_ref(extra) for extra in extras]
    return ObservationResult(status, ref, response=seen)


def compensation_result(outcome: Answer | NoAnswer, codes: Codes, waiting: Waiting) -> CompensationResult:
    """What the inverse came to.

    ``duplicate_code`` is ambiguous here: it may say that the inverse exists under our key, or that the record
    cannot be reversed any more.
    """
    if isinstance(outcome, NoAnswer):
        return CompensationResult("failed", error=outcome.error(ambiguous=True) if outcome.sent else outcome.error())
    match meaning_of(outcome, codes):
        case Meaning.DONE:
            return CompensationResult("compensated", response=outcome.response)
        case Meaning.LATER:
            return CompensationResult("failed", error=outcome.error(retry_at_ms=waiting.until_ms(outcome)))
        case Meaning.REFUSED:
            return CompensationResult("failed", error=outcome.error(final=True))
    return CompensationResult("failed", error=outcome.error(ambiguous=True))


def _observed_status(answer: Answer, codes: Codes) -> ObservationStatus | None:
    if not answer.complete:
        return None
    if answer.code in codes.success:
        said = answer.fields.get("status")
        return next((status for status in _OBSERVED if status == said), None)
    return "duplicate" if answer.code == codes.duplicate else None


def _retry_after_ms(headers: Mapping[str, str], now_ms: int) -> float | None:
    given = headers.get("retry-after", "")
    try:
        delay = float(given) * 1000
    except ValueError:
        at_ms = _date_ms(given)
        # A date is read on the clock of the upstream that wrote it: ours may be hours off.
        return None if at_ms is None else at_ms - (_date_ms(headers.get("date", "")) or now_ms)
    return None if math.isnan(delay) else delay


def _date_ms(text: str) -> int | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return round((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()) * 1000
