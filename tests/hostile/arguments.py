"""Whatever Python code may pass to ``.delay()``: values that are sound, nearly sound, and nothing of the kind."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

from hypothesis import strategies as st

CANARY = "canary-4711"
"""A secret that stands in every payload, and in no message."""


class Colour(Enum):
    RED = 1


class Unreadable:
    """What is shown in an error must not be able to raise another."""

    def __repr__(self) -> str:
        if _live:
            raise RuntimeError("no repr")
        return "Unreadable()"

    __str__ = __repr__


_live = False
_PYTHONS_OWN = sys.int_info.default_max_str_digits


@contextmanager
def live() -> Iterator[None]:
    """The product's turn: outside of it, what cannot be shown can be, so that a failing example is."""
    global _live
    _live = True
    sys.set_int_max_str_digits(_PYTHONS_OWN)
    try:
        yield
    finally:
        _live = False
        sys.set_int_max_str_digits(0)


def cyclic() -> Any:
    inside: dict[str, Any] = {}
    inside["again"] = [inside]
    return inside


def nested(depth: int, innermost: Any = 1) -> Any:
    value = innermost
    for level in range(depth):
        value = {"in": value} if level % 2 else [value]
    return value


any_text = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "a\nb", "\u2028", "\x1b[31m", "k" * 200, "k" * 201, "é" * 200]
)
"""Lone surrogates and NUL included."""
any_number = st.integers() | st.floats() | st.sampled_from([2**53 + 1, 2**63, -(2**63) - 1, math.nan, math.inf])
huge_numbers = st.sampled_from([400, 5_000]).map(lambda digits: 10**digits)
_STRANGERS = [
    *(object(), len, int, Colour.RED, Colour, Decimal("1.5"), Decimal("NaN"), 1j, ..., NotImplemented, Exception("x")),
    *(b"bytes", bytearray(b"b"), {1, 2}, frozenset(), range(3), iter([]), uuid.UUID(int=1), timedelta(days=10**8)),
    *(date(2026, 11, 23), datetime(2026, 11, 23), datetime(2026, 11, 23, tzinfo=UTC), timedelta(-1), timedelta(1)),
    *(datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))), datetime.min.replace(tzinfo=UTC)),
]
strangers = st.sampled_from(range(len(_STRANGERS))).map(_STRANGERS.__getitem__)
"""What JSON knows nothing of."""


def of(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """``leaves``, and what can be built of them."""
    return st.recursive(
        leaves,
        lambda inside: st.lists(inside, max_size=3) | st.dictionaries(any_text | st.integers(), inside, max_size=3),
        max_leaves=8,
    )


plain = st.none() | st.booleans() | any_number | any_text | strangers
anything = of(plain | huge_numbers | st.builds(Unreadable))
showable = of(plain)

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | storable,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(storable, inside, max_size=3),
    max_leaves=8,
)
deep = st.sampled_from([90, 98, 99, 100, 101, 500, 20_000]).map(nested) | st.builds(cyclic)
payloads = st.dictionaries(storable, json_values, max_size=4).map(lambda request: {**request, "password": CANARY})
spoilt_payloads = st.builds(
    lambda request, name, value: {**request, name: value}, payloads, any_text, anything | deep | st.just("x" * 300_000)
)
requests = payloads | spoilt_payloads | anything

words = st.text(min_size=1, max_size=9).filter(str.isprintable)
keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
instants = st.datetimes(timezones=st.just(UTC))
spans = st.floats(0, 1e9) | st.integers(0, 10**9)
sound: dict[str, st.SearchStrategy[Any]] = {
    "business_key": words,
    "run_id": words,
    "idempotency_key": keys,
    "task_id": keys,
    "semantics": st.sampled_from(["non_idempotent", "idempotent", "observe_only"]),
    "max_attempts": st.integers(1, 1000),
    "allow_unsafe": st.booleans(),
    "countdown": spans,
    "eta": instants,
    "expires": spans | instants,
}
sound_options = st.fixed_dictionaries({}, optional=sound).filter(lambda given: not {"countdown", "eta"} <= set(given))
any_options = st.fixed_dictionaries({}, optional={name: value | showable for name, value in sound.items()})
