"""What of an upstream's own words may be kept: small, printable, and safe for every database. Pure.

An upstream's answer is untrusted: it may hold NUL characters, lone surrogates, NaN, terminal escapes, nesting
that breaks a parser, or no end.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any

from tape_celery.intent import REF_LENGTH

TEXT_LENGTH = 1000
"""The most that is kept of a text that only explains, in characters of ASCII JSON."""
JSON_DEPTH = 64

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACED = "\ufffd"


def readable(text: str | bytes, limit: int = TEXT_LENGTH) -> str:
    """``text`` cut to ``limit`` characters of JSON; what does not print, but for new lines and tabs, is replaced."""
    start = text[:limit] if isinstance(text, str) else text[:limit].decode(errors="replace")
    shown = "".join(char if char.isprintable() or char in "\n\t" else _REPLACED for char in start)
    while len(json.dumps(shown)) > limit + 2:  # two quotes; a character may become six or twelve
        shown = shown[: len(shown) * 3 // 4]
    return shown


def storable_json(body: bytes) -> Any:
    """``body`` decoded as JSON that every database and every parser takes.

    NUL characters and lone surrogates are replaced. Raises `ValueError` for what is no JSON in the strict sense
    (NaN and infinities are none) and for nesting deeper than `JSON_DEPTH`.
    """
    text = body.removeprefix(codecs.BOM_UTF8).decode(errors="replace")
    try:
        decoded = _strictly_decoded(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _storable(decoded, JSON_DEPTH)


def usable_ref(value: Any) -> str:
    """``value`` as a reference to one record; ``""`` for what cannot be one.

    White space around it is dropped. Otherwise a reference is never repaired or cut: it could name another record.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    ref = str(value).strip()
    return ref if len(ref) <= REF_LENGTH and ref.isprintable() and _REPLACED not in ref else ""


def _storable(value: Any, depth: int) -> Any:
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return _UNSTORABLE.sub(_REPLACED, value)
    if isinstance(value, list):
        return [_storable(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {_storable(name, depth): _storable(item, depth - 1) for name, item in value.items()}
    return value


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


_strictly_decoded = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite).decode
