"""From what a caller asks for to an intent that can be recorded: keys, canonical JSON, digest. Pure.

Sources: the canonical form follows RFC 8785 in spirit (sorted keys, no white space, no NaN) but stays ASCII, so
that every database and every header carries it unchanged.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tape_celery.errors import InvalidIntent, PayloadTooLarge
from tape_celery.loggers import printable
from tape_celery.people import HUMAN, human, is_human
from tape_celery.records import Effect, Semantics, plain

KEY_LENGTH = 200
REF_LENGTH = 512
MOST_SAID = 4096
"""The longest reason that a person may give, in bytes of ASCII JSON: half of what one journal entry holds."""
DEPTH = 100
"""Levels of a request. An obligation's payload holds it one level deeper, and is ours: it is not checked again."""
_canonical = json.JSONEncoder(ensure_ascii=True, sort_keys=True, allow_nan=False, separators=(",", ":")).encode
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,200}\Z")


@dataclass(frozen=True)
class Callback:
    """A Celery signature that waits for an effect to get to where ``event`` says."""

    event: str
    """``confirmed``, ``failed``, ``unknown`` or ``stuck``; for a chord ``part`` or ``broken``."""
    signature_json: str
    """Of a chord: its part, as the result backend is told of it."""


def callback_key(effect_key: str, callback: Callback) -> str:
    """The same for the same callback of the same effect, whoever asks for it again; 36 characters."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{effect_key} {callback.event} {callback.signature_json}"))


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One checked intent, ready to be recorded."""

    effect_key: str
    connector: str
    request_json: str
    request_digest: str
    idempotency_key: str
    business_key: str
    run_id: str
    semantics: Semantics
    max_attempts: int
    effect_name: str = ""
    in_run: bool = False
    """The run was named: by the call, or by the block that it is made in."""
    due_at_ms: int | None = None
    """Not before this instant (``None``: at once)."""
    delay_ms: int = 0
    """Not before this many milliseconds after it is recorded."""
    expires_at_ms: int | None = None
    expires_in_ms: int | None = None
    priority: int = 0
    """0 to 9; what is more urgent is hinted first."""
    ordering_key: str = ""
    """Effects with the same one are dispatched one at a time, in the order in which they are recorded."""
    reissue_of: str = ""
    similar_digest: str = ""
    hold_within_ms: int | None = None
    """It is HELD where a live effect of its connector with the same ``similar_digest`` is at most that old."""
    callbacks: tuple[Callback, ...] = ()
    traceparent: str = ""
    """The span in which it is asked for, as W3C's ``traceparent``."""

    @property
    def is_for_now(self) -> bool:
        """It is due at once and for good, whatever else there is."""
        when = (self.due_at_ms, self.expires_at_ms, self.expires_in_ms, self.hold_within_ms)
        return self.delay_ms == 0 and when == (None, None, None, None)


def successor_of(effect: Effect, effect_key: str) -> Intent:
    """The intent to issue ``effect`` again as ``effect_key``: all that it was, under fresh keys, at once and for good.

    Its expiry is not taken along: it was set for the first one.
    """
    return Intent(
        effect_key=effect_key,
        connector=effect.connector,
        effect_name=effect.effect_name,
        request_json=plain(effect, "request_json"),
        request_digest=effect.request_digest,
        idempotency_key=effect_key,
        business_key=effect.business_key,
        run_id=effect.run_id,
        semantics=effect.semantics,
        max_attempts=effect.max_attempts,
        priority=effect.priority,
        ordering_key=effect.ordering_key,
        reissue_of=effect.effect_key,
        similar_digest=effect.similar_digest,
        traceparent=effect.traceparent,
    )


_SECOND = 1_000 << 12
_latest = 0
"""The instant in the latest key of this process, in 4096ths of a millisecond."""


def new_key() -> str:
    """A fresh time-ordered key: a UUID of version 7 (RFC 9562, section 5.7), 36 characters.

    Those that one thread makes are in order also within a millisecond (section 6.2, method 3), unless its clock is set
    back by a second or more.
    """
    global _latest
    now = (time.time_ns() << 12) // 1_000_000
    _latest = instant = max(now, _latest + 1) if _latest - now < _SECOND else now
    milliseconds, fraction = instant >> 12, instant & 0xFFF
    value = (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | fraction << 64
    value |= 0x2 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def canonical_json(value: Any, *, what: str = "request", max_bytes: int | None = None) -> str:
    """``value`` as canonical JSON text: ASCII, keys sorted, no white space.

    Raises `InvalidIntent` for what JSON cannot carry unchanged to every database (keys that are no strings, NaN and
    infinities, NUL characters, lone surrogates, other types, nesting too deep) and `PayloadTooLarge` above
    ``max_bytes``. The message names the place.
    """
    room = itertools.count() if max_bytes is None else iter(range(max_bytes))  # a value takes a byte at least
    try:
        _check(value, what, room)
        text = _canonical(value)
    except StopIteration:
        raise PayloadTooLarge(
            f"{what} holds more than {max_bytes} values; tape_max_payload_bytes allows {max_bytes} bytes"
        ) from None
    except RecursionError:
        raise InvalidIntent(f"{what} is nested too deeply, or holds itself") from None
    except ValueError as error:
        if isinstance(error, InvalidIntent):
            raise
        raise InvalidIntent(f"{what} cannot be written as JSON: {error}") from None
    if max_bytes is not None and len(text) > max_bytes:
        raise PayloadTooLarge(
            f"{what} is {len(text)} bytes of JSON; tape_max_payload_bytes allows {max_bytes}. "
            "Keep the bulk elsewhere and send its reference"
        )
    return text


def said(what: str, text: str) -> str:
    """What a person gave as ``what``, reason or actor, as it is kept. Raises `InvalidIntent` for what says nothing."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidIntent(f"{what} must say who or why, not {text!r}")
    kept = canonical_text(what, text.strip())
    if what == "actor":
        kept = human(kept) if is_human(kept) else kept
        if kept == HUMAN:
            raise InvalidIntent(f"actor must name a person after {HUMAN!r}, not {shown(text)}")
        if len(kept) > KEY_LENGTH:
            # Not cut: two people could be the same from there on.
            raise InvalidIntent(f"actor is too long: {shown(kept)}, and {KEY_LENGTH} characters are the most")
    if len(json.dumps(kept)) > MOST_SAID:
        raise InvalidIntent(f"{what} is too long for the journal: {len(kept)} characters; say it in {MOST_SAID} bytes")
    return kept


def check_seen_version(seen_version: Any) -> None:
    """Raise `InvalidIntent` for what cannot be the version of a row that somebody looked at, or ``None``."""
    if seen_version is not None and (isinstance(seen_version, bool) or not isinstance(seen_version, int)):
        raise InvalidIntent(f"seen_version must be the version of a row, or None, not {seen_version!r}")


def persons_reason(reason: str, least: int) -> str:
    """The reason that a person gave, as it is kept. Raises `InvalidIntent` for fewer than ``least`` characters."""
    kept = said("reason", reason)
    if len(kept) < least:
        raise InvalidIntent(f"reason must be {least} characters or more, not {kept!r}")
    return kept


def reason_of(actor: str, reason: str, least: int) -> str:
    """The reason of ``actor``: of a person (``human:…``) ``least`` characters, of code whatever it says."""
    return persons_reason(reason, least if is_human(actor) else 1)


def version_of(actor: str, seen_version: Any, where: str) -> int | None:
    """The version that ``actor`` looked at: a person (``human:…``) says which, ``where`` tells it; code need not."""
    check_seen_version(seen_version)
    if seen_version is None and is_human(actor):
        raise InvalidIntent(
            f"seen_version is missing: {actor} is a person, who says which version they have looked at: {where}"
        )
    return seen_version  # type: ignore[no-any-return]  # checked above


def canonical_text(what: str, text: str) -> str:
    """``text`` if every database can store it, else `InvalidIntent`."""
    _check(text, what, itertools.count())
    return text


def check_external_ref(ref: Any) -> str:
    """``ref`` if it is at most 512 printable characters (``""``: none), else `InvalidIntent`."""
    if not isinstance(ref, str) or len(ref) > REF_LENGTH or not ref.isprintable():
        raise InvalidIntent(f"external_ref must be at most {REF_LENGTH} printable characters, not {shown(ref)}")
    return ref


def digest_of(text: str) -> str:
    """The SHA-256 of ``text``, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def check_idempotency_key(key: Any) -> str:
    """``key`` if it is 1 to 200 visible ASCII characters (it travels in a header), else `InvalidIntent`."""
    if not isinstance(key, str) or not _VISIBLE_ASCII.match(key):
        raise InvalidIntent(f"idempotency_key must be 1 to {KEY_LENGTH} visible ASCII characters, not {shown(key)}")
    return key


def check_effect_key(key: Any) -> str:
    """``key`` if it can name a row: 1 to 64 visible ASCII characters, else `InvalidIntent`."""
    if not isinstance(key, str) or not _VISIBLE_ASCII.match(key) or len(key) > 64:
        raise InvalidIntent(f"task_id must be 1 to 64 visible ASCII characters, not {shown(key)}")
    return key


def check_business_key(key: Any) -> str:
    """``key`` if it is 1 to 200 printable characters, else `InvalidIntent`."""
    return _check_printable("business_key", key)


def check_run_id(run_id: Any) -> str:
    """``run_id`` if it is 1 to 200 printable characters, else `InvalidIntent`."""
    return _check_printable("run_id", run_id)


def check_connector_name(name: Any) -> str:
    """``name`` if it is 1 to 200 printable characters, else `InvalidIntent`."""
    return _check_printable("connector name", name)


def check_effect_name(name: Any) -> str:
    """``name`` if it is 1 to 200 printable characters, else `InvalidIntent`."""
    return _check_printable("effect name", name)


def check_semantics(semantics: Any) -> Semantics:
    """``semantics`` as a `Semantics`, else `InvalidIntent` that lists the three."""
    try:
        return Semantics(semantics if isinstance(semantics, str) else "")
    except ValueError:
        listed = ", ".join(repr(str(known)) for known in Semantics)
        raise InvalidIntent(f"semantics must be one of {listed}, not {shown(semantics)}") from None


def check_max_attempts(attempts: Any) -> int:
    """``attempts`` if it is a whole number from 1 to 1,000, else `InvalidIntent`."""
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 1 <= attempts <= 1000:
        raise InvalidIntent(f"max_attempts must be a whole number from 1 to 1000, not {shown(attempts)}")
    return attempts


def check_priority(priority: Any) -> int:
    """``priority`` if it is a whole number from 0 to 9 (the most urgent), else `InvalidIntent`."""
    if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= 9:
        raise InvalidIntent(f"priority must be a whole number from 0 to 9, the most urgent, not {shown(priority)}")
    return priority


def check_ordering_key(key: Any) -> str:
    """``key`` if it is 1 to 200 printable characters, else `InvalidIntent`."""
    return _check_printable("ordering_key", key)


def derived_idempotency_key(task_id: str, connector: str, business_key: str, request_digest: str) -> str:
    """The key of an intent made inside a Celery task: the same for every delivery and retry of that task."""
    return "task-" + digest_of("\0".join((task_id, connector, business_key, request_digest)))


def run_of(task_id: str) -> str:
    """The run of what a Celery task makes: its root's id, or that one's digest where it could not be stored."""
    fits = 1 <= len(task_id) <= KEY_LENGTH and task_id.isprintable()
    return task_id if fits else "task-" + digest_of(task_id)


def _check_printable(what: str, value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= KEY_LENGTH or not value.isprintable():
        raise InvalidIntent(f"{what} must be 1 to {KEY_LENGTH} printable characters, not {shown(value)}")
    return value


def _check(value: Any, path: str, room: Iterator[int], depth: int = 0) -> None:
    next(room)
    if depth > DEPTH:
        raise InvalidIntent(f"{path[:200]} is nested too deeply, or holds itself: {DEPTH} levels are allowed")
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidIntent(f"{path} holds a NUL character, which databases refuse; take it out or encode it")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidIntent(f"{path} holds a lone surrogate, which is no text") from None
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise InvalidIntent(f"{path} has a key that is a {type(name).__name__}: JSON keys are strings")
            _check(name, f"{path} key", room)
            _check(item, f"{path}.{_part(name)}", room, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", room, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidIntent(f"{path} is {value}, which JSON cannot carry")
    elif value is not None and not isinstance(value, bool | int):
        raise InvalidIntent(f"{path} is a {type(value).__name__}, which JSON cannot carry; convert it first")


def _part(name: str) -> str:
    return name if name.isidentifier() and len(name) <= 80 else shown(name)


def shown(value: Any) -> str:
    """``value`` in the words of an error: bounded, on one printable line. For what is no payload: errors are logged."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a repr may raise anything, and this only words an error
        return f"a {type(value).__name__}"
    length = len(value) if isinstance(value, str) else len(text)
    bounded = text if len(text) <= 80 else f"{text[:77]}... ({length} characters)"
    return printable(bounded)
