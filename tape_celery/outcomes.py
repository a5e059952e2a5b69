"""From what a connector returned or raised to the event that decides. Pure; all that is kept is bounded, masked and
scrubbed.

A result that is no result, or has fields of the wrong kind, is a lost answer: the call may have landed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from typing import Any

from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.events import Answered, Observed
from tape_celery.intent import REF_LENGTH
from tape_celery.loggers import printable
from tape_celery.masking import SECRET_FIELDS, Masks, masks_of

MOST_ERROR_CHARACTERS = 2048
MOST_ERROR_BYTES = 4096
"""As JSON: room for a text of `MOST_ERROR_CHARACTERS`, and for what a connector says beside it."""
MOST_REASON_CHARACTERS = 300
MOST_DUPLICATES = 1000

_DEFAULT_MASKS = masks_of(SECRET_FIELDS)
_MASKED_ALREADY = masks_of(())
_URL = re.compile(r"\b([a-z][a-z0-9+.-]{0,30}://)(?:[^\s/@]*@)?([^\s?#'\"]*)[?#]?[^\s'\"]*", re.IGNORECASE)


def dispatched(
    result: Any, *, worker_now_ms: int, backoff_ms: int, most_bytes: int, masks: Masks = _DEFAULT_MASKS
) -> Answered:
    """What a connector's ``dispatch`` returned, as an event (its token is not set)."""
    problem = _problem(result, DispatchResult, ("confirmed", "failed", "unknown"))
    if problem is None and not isinstance(result.retry_at_ms, int):
        problem = f"retry_at_ms is {_short(result.retry_at_ms)}"
    if problem is not None:
        return _lost(problem, backoff_ms, masks)
    error, status = _dict(result.error), _plain(result.status)
    kept = _kept(error, masks)
    return Answered(
        token=0,
        status=status,  # type: ignore[arg-type]  # one of the three, by the lines above
        external_ref=_ref(result.external_ref),
        sent=not (status == "unknown" and error.get("sent") is False),
        may_have_landed=error.get("may_have_landed") is True,
        retry_in_ms=_delay(result.retry_at_ms, worker_now_ms) if result.retry_at_ms > 0 else None,
        backoff_ms=backoff_ms,
        reason="" if status == "confirmed" else reason_of(kept),
        response_json=body(result.response, most_bytes, masks),
        error_json=body(kept, MOST_ERROR_BYTES),
    )


def compensated(
    result: Any, *, worker_now_ms: int, backoff_ms: int, most_bytes: int, masks: Masks = _DEFAULT_MASKS
) -> Answered:
    """What a ``compensate`` returned, as an event (its token is not set)."""
    problem = _problem(result, CompensationResult, ("compensated", "failed"))
    if problem is not None:
        return _lost(problem, backoff_ms, masks)
    error = _dict(result.error)
    kept = _kept(error, masks)
    if _plain(result.status) == "compensated":
        status = "confirmed"
    else:
        status = "unknown" if error.get("ambiguous") is True else "failed"
    retry = error.get("retry_at_ms")
    return Answered(
        token=0,
        status=status,  # type: ignore[arg-type]  # one of the three, by the lines above
        sent=status == "confirmed" or error.get("sent") is not False,
        final=error.get("final") is True,
        retry_in_ms=_delay(retry, worker_now_ms) if isinstance(retry, int) and retry > 0 else None,
        backoff_ms=backoff_ms,
        reason=reason_of(kept),
        response_json=body(result.response, most_bytes, masks),
        error_json=body(kept, MOST_ERROR_BYTES),
    )


def observed(result: Any, *, backoff_ms: int, most_bytes: int, masks: Masks = _DEFAULT_MASKS) -> Observed:
    """What a look returned, as an event (its token is not set); what is no answer is ``stuck``."""
    problem = _problem(result, ObservationResult, ("confirmed", "absent", "duplicate", "failed", "stuck"))
    if problem is None and len(_listed(result.response)) > MOST_DUPLICATES:
        problem = f"{len(_listed(result.response))} duplicates were listed, and {MOST_DUPLICATES} are believed at most"
    if problem is not None:
        error = body({"message": masks.text(scrub(problem))}, MOST_ERROR_BYTES)
        return Observed(token=0, status="stuck", backoff_ms=backoff_ms, error_json=error)
    stuck = _plain(result.status) == "stuck"  # then its response says what was wrong
    return Observed(
        token=0,
        status=_plain(result.status),  # type: ignore[arg-type]  # one of the five, by the lines above
        external_ref=_ref(result.external_ref),
        duplicates=_duplicates(result.response),
        backoff_ms=backoff_ms,
        response_json=body(result.response, most_bytes, masks, explains=stuck),
    )


def look_raised(error: BaseException, *, backoff_ms: int, masks: Masks = _DEFAULT_MASKS) -> Observed:
    """A look that raised, as an event (its token is not set)."""
    described = body(describe(error, masks), MOST_ERROR_BYTES)
    return Observed(token=0, status="stuck", backoff_ms=backoff_ms, error_json=described)


def call_raised(error: BaseException, *, backoff_ms: int, masks: Masks = _DEFAULT_MASKS) -> Answered:
    """A call that raised, as an event (its token is not set): whatever it raised, the call may have landed."""
    described = describe(error, masks)
    return Answered(
        token=0,
        status="unknown",
        backoff_ms=backoff_ms,
        reason=reason_of(described),
        error_json=body(described, MOST_ERROR_BYTES),
    )


def describe(error: BaseException, masks: Masks = _DEFAULT_MASKS) -> dict[str, Any]:
    """Type and scrubbed message of ``error``: no locals, no URL's user, password or query, no masked field."""
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001 - an exception's own text may raise anything, and this only words an error
        message = "(its message cannot be read)"
    return {"type": f"{type(error).__module__}.{type(error).__qualname__}", "message": masks.text(scrub(message))}


def scrub(text: str) -> str:
    """``text`` with URLs cut to scheme, host and path, control characters escaped, and bounded."""
    bounded = text[: MOST_ERROR_CHARACTERS * 2]
    without_secrets = _URL.sub(r"\1\2", bounded)
    return printable(without_secrets)[:MOST_ERROR_CHARACTERS]


def reason_of(error: dict[str, Any]) -> str:
    """A short line for a person out of an error."""
    said = error.get("reason") or error.get("message") or ""
    line = scrub(said if isinstance(said, str) else _short(said))
    kind = error.get("type")
    if isinstance(kind, str):
        line = f"{scrub(kind).rsplit('.', 1)[-1]}: {line}"
    return line[:MOST_REASON_CHARACTERS]


def body(value: Any, most_bytes: int, masks: Masks = _MASKED_ALREADY, *, explains: bool = False) -> str:
    """``value`` as JSON text that every database stores, masked; in its texts too if it ``explains`` something.

    What is too large is replaced by its size and digest.
    """
    if not value:
        return ""
    if not isinstance(value, dict):
        value = {"value": value}
    try:
        text = _json(value)
        if masks is not _MASKED_ALREADY and (explains or masks.touch(value)):
            plain = json.loads(text)  # what came may be of any type, with methods of its own
            text = _json(masks.words(plain) if explains else masks.fields(plain))
    except (TypeError, ValueError, RecursionError):
        text = _json({"not_json": masks.text(_short(value))})
    if len(text) <= most_bytes:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"cut": True, "bytes": len(text), "sha256": digest, "start": text[: most_bytes // 4]})


_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _problem(result: Any, kind: type[Any], statuses: tuple[str, ...]) -> str | None:
    if not isinstance(result, kind):
        return f"the connector returned {_short(result)}, which is no {kind.__name__}"
    if not isinstance(result.status, str) or _plain(result.status) not in statuses:
        return f"the connector returned a {kind.__name__} with status {_short(result.status)}"
    return None


def _plain(status: str) -> str:
    """The word itself: a subclass of str may equal everything."""
    return str.__str__(status)


def _lost(problem: str, backoff_ms: int, masks: Masks) -> Answered:
    said = masks.text(scrub(problem))
    error = body({"message": said}, MOST_ERROR_BYTES)
    return Answered(token=0, status="unknown", backoff_ms=backoff_ms, reason=said[:300], error_json=error)


def _kept(error: dict[str, Any], masks: Masks) -> dict[str, Any]:
    kept: dict[str, Any] = masks.words(_scrubbed(error)) if error else {}
    return kept


def _ref(value: Any) -> str:
    """A reference that can be stored and sent back unchanged, else none: half a reference is somebody else's."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**REF_LENGTH:
        value = str(value)
    text = str.__str__(value) if isinstance(value, str) else ""
    return text if len(text) <= REF_LENGTH and text.isprintable() else ""


def _duplicates(response: Any) -> tuple[str, ...] | None:
    is_listed = isinstance(_dict(response).get("duplicates"), list | tuple)
    return tuple(_ref(ref) for ref in _listed(response)) if is_listed else None


def _listed(response: Any) -> list[Any] | tuple[Any, ...]:
    listed = _dict(response).get("duplicates")
    return listed if isinstance(listed, list | tuple) else ()


def _delay(at_ms: int, worker_now_ms: int) -> int:
    """A connector's wish for a time, as a delay: worker clocks may be hours off, the difference is not."""
    return min(max(0, at_ms - worker_now_ms), 30 * 86_400_000)


def _scrubbed(error: dict[str, Any]) -> dict[str, Any]:
    """``error`` with every text in it scrubbed, and no more of it than can be kept."""
    left = 2 * MOST_ERROR_BYTES

    def scrubbed(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if isinstance(value, str):
            text = scrub(value)
            left -= len(text)
            return text
        if not isinstance(value, dict | list | tuple):
            return value
        if depth == 0:
            return f"a {type(value).__name__}"
        if isinstance(value, dict):
            items = itertools.takewhile(lambda _: left > 0, value.items())
            return {scrub(k) if isinstance(k, str) else k: scrubbed(item, depth - 1) for k, item in items}
        return [scrubbed(item, depth - 1) for item in itertools.takewhile(lambda _: left > 0, value)]

    kept: dict[str, Any] = scrubbed(error, 8)
    return kept


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(value: Any) -> str:
    try:
        return scrub(repr(value))[:200]
    except BaseException:  # noqa: BLE001 - a repr may raise anything, and this only words an error
        return f"a {type(value).__name__}"
