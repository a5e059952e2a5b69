"""What a request may hold: it comes back unchanged from both databases, or it is refused with the place named."""

from __future__ import annotations

import decimal
import json
import math
import sys
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tape_celery import Tape
from tape_celery.errors import InvalidIntent, PayloadTooLarge
from tape_celery.events import OweAsked
from tape_celery.store.database import Database
from tests.store.conftest import MakeTape, url_of
from tests.store.steps import act, claimed, count, seal_effect

EXAMPLES = 60

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30) | st.sampled_from(
    [
        "",
        " ",
        "\N{PILE OF POO}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
        "\N{HEBREW LETTER ALEF}\N{RIGHT-TO-LEFT OVERRIDE}abc\N{ARABIC LETTER BEH}",
        "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
        "\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}\N{ZERO WIDTH NO-BREAK SPACE}\uffff\U0010ffff",
        "e\N{COMBINING ACUTE ACCENT} \N{LATIN SMALL LETTER E WITH ACUTE}",
        "\\u0000 \\ud800 \\x00 \\",
        "'; DROP TABLE tape_effects; -- %s %(name)s :name ? {0} ${HOME}",
    ]
)
numbers = (
    st.integers()
    | st.integers(min_value=-(10**300), max_value=10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.1, -0.0, 5e-324, 1.7976931348623157e308, 2**53 + 1, 2**64, -(2**63) - 1])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inside: st.lists(inside, max_size=5) | st.dictionaries(words, inside, max_size=5),
    max_leaves=30,
)
requests = st.dictionaries(words, values, max_size=6)

SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def each(seed: int) -> Callable[..., None]:
    """Calls a function with examples of a strategy; the run's seed decides which."""

    def run(check: Callable[[Any], None], strategy: st.SearchStrategy[Any]) -> None:
        hypothesis.seed(seed)(SETTINGS(given(strategy)(check)))()

    return run


def delay(tape: Tape, request: Any, **options: Any) -> Any:
    return tape.effect.delay("bank.wire", request, **{"allow_unsafe": True, **options})


def same(one: Any, other: Any) -> bool:
    """Equal, with types, and with the sign of a zero."""
    if isinstance(one, float):
        return isinstance(other, float) and math.copysign(1, one) == math.copysign(1, other) and one == other
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def nested(depth: int, innermost: Any = 1) -> Any:
    value = innermost
    for level in range(depth):
        value = {"in": value} if level % 2 else [value]
    return {"deep": value}


# --- what comes back ---


def test_a_request_comes_back_as_it_was(tape: Tape, each: Callable[..., None]) -> None:
    """From the row, from the handle, and as the text that is sent: canonical, ASCII, and of one digest."""

    def check(request: dict[str, Any]) -> None:
        handle = delay(tape, request)
        effect = handle.effect
        assert effect is not None
        assert same(effect.request, request), (request, effect.request)
        text = effect.request_json
        assert text.isascii()
        assert text == json.dumps(request, sort_keys=True, separators=(",", ":"))
        shuffled = dict(reversed(list(request.items())))
        assert delay(tape, shuffled).effect.request_digest == effect.request_digest

    each(check, requests)


def test_equal_requests_meet_under_one_key_and_others_do_not(tape: Tape, each: Callable[..., None]) -> None:
    """Whatever the order of their keys: the digest is of the canonical text."""

    def check(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
        one, other = pair
        key = uuid.uuid4().hex
        first = delay(tape, one, idempotency_key=key)
        canonical = [json.dumps(request, sort_keys=True) for request in pair]
        if canonical[0] == canonical[1]:
            assert delay(tape, other, idempotency_key=key).id == first.id
        else:
            with pytest.raises(InvalidIntent, match="belongs to effect"):
                delay(tape, other, idempotency_key=key)

    each(check, st.tuples(requests, requests) | requests.map(lambda request: (request, dict(request))))


@pytest.mark.parametrize("depth", [1, 10, 50])
def test_a_nested_request_comes_back(tape: Tape, depth: int) -> None:
    """To any depth that a request of this world has."""
    assert delay(tape, nested(depth)).effect.request == nested(depth)


def test_the_deepest_request_that_is_accepted_can_be_worked_with(tape: Tape) -> None:
    """A request that is nested too deeply is refused when it is recorded, and nowhere later.

    Not by a worker that decodes it with less stack left, nor by the obligation that holds it one level deeper.
    """
    low, high = 0, sys.getrecursionlimit()
    while high - low > 1:
        middle = (low + high) // 2
        try:
            deepest = delay(tape, nested(middle))
            low = middle
        except InvalidIntent:
            high = middle
    assert low >= 60
    deeper(200, lambda: deepest.effect.request)
    seal_effect(tape.database, claimed(tape.database, deepest.id), "confirmed", external_ref="ref-1")
    (owed,) = deeper(200, lambda: act(tape.database, deepest.id, OweAsked(actor="person", reason="wrong")).owed)
    (obligation,) = tape.obligations(effect_key=deepest.id)
    assert obligation.obligation_key == owed
    assert obligation.payload["request"] == nested(low)


def deeper(frames: int, work: Callable[[], Any]) -> Any:
    """``work``, called ``frames`` calls further down."""
    return work() if frames == 0 else deeper(frames - 1, work)


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    LARGE = 3


def test_subclasses_of_what_json_knows_are_what_json_makes_of_them(tape: Tape) -> None:
    """Enums with a JSON value, tuples, ordered and read-only mappings at the top."""
    request = MappingProxyType(OrderedDict(colour=Colour.RED, size=Size.LARGE, pair=(1, 2), more=OrderedDict(a=1)))
    assert delay(tape, request).effect.request == {"colour": "red", "size": 3, "pair": [1, 2], "more": {"a": 1}}


# --- what is refused ---


class Plain(Enum):
    ONE = 1


def circle() -> dict[str, Any]:
    inside: dict[str, Any] = {}
    inside["again"] = [inside]
    return inside


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


REFUSED: list[tuple[Any, str]] = [
    ("a\0b", "NUL"),
    ("\0", "NUL"),
    ("\ud800", "lone surrogate"),
    ("ok \udfff ok", "lone surrogate"),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (-float("inf"), "-inf"),
    (datetime(2026, 11, 23), "datetime"),
    (decimal.Decimal("NaN"), "NaN"),
    (b"bytes", "bytes"),
    (bytearray(b"bytes"), "bytearray"),
    ({1, 2}, "set"),
    (frozenset(), "frozenset"),
    (1 + 2j, "complex"),
    (object(), "object"),
    (Unreadable(), "Unreadable"),
    (lambda: 1, "function"),
    (iter([]), "iterator"),
]


@pytest.mark.parametrize(("value", "told"), REFUSED, ids=lambda part: ascii(part)[:30] if isinstance(part, str) else "")
def test_what_json_cannot_carry_is_refused_with_its_place(tape: Tape, value: Any, told: str) -> None:
    """At the top, in a list, in a dict: the error names the way to it and shows what it saw."""
    for request, place in (
        ({"order": value}, "request.order"),
        ({"orders": [1, {"lines": (2, value)}]}, "request.orders[1].lines[1]"),
    ):
        with pytest.raises(InvalidIntent) as refused:
            delay(tape, request)
        assert place in str(refused.value)
        assert told in str(refused.value)
    assert nothing_was_recorded(tape)


@pytest.mark.parametrize("key", [1, 1.5, None, True, (1, 2), b"key", Plain.ONE, "a\0b", "\ud800"])
def test_a_key_that_is_no_text_is_refused_with_its_place(tape: Tape, key: Any) -> None:
    """JSON would silently make a text of a number: another key, perhaps one that is there already."""
    for request, place in (({key: 1}, "request"), ({"orders": [{key: 1}]}, "request.orders[0]")):
        with pytest.raises(InvalidIntent) as refused:
            delay(tape, request)
        assert str(refused.value).startswith(place)
    assert nothing_was_recorded(tape)


@pytest.mark.parametrize(
    "request_",
    [circle(), nested(5_000), nested(100_000), {"n": 10**5_000}, {"deep": [10**5_000]}],
    ids=["circle", "deep", "very deep", "huge number", "huge number inside"],
)
def test_what_cannot_be_written_is_refused(tape: Tape, request_: Any) -> None:
    """A request that holds itself, has no end, or has a number that Python will not print."""
    with pytest.raises(InvalidIntent, match="request"):
        delay(tape, request_)
    assert nothing_was_recorded(tape)


@pytest.mark.parametrize("request_", [None, [], "text", 5, b"{}", [("a", 1)], object])
def test_a_request_is_a_dict(tape: Tape, request_: Any) -> None:
    """Nothing else has a key to look at."""
    with pytest.raises(InvalidIntent, match="request must be a dict"):
        delay(tape, request_)
    assert nothing_was_recorded(tape)


def test_a_request_is_as_large_as_the_setting_says_and_no_larger(database: Database, make_tape: MakeTape) -> None:
    """Measured as it is sent: canonical JSON, where a letter beyond ASCII takes six bytes, or twelve."""
    tape = make_tape(url_of(database), max_payload_bytes=1_000)
    frame = len('{"t":""}')
    for letter, size in (("a", 1), ("\N{LATIN SMALL LETTER E WITH ACUTE}", 6), ("\N{PILE OF POO}", 12)):
        most = (1_000 - frame) // size
        assert delay(tape, {"t": letter * most}).effect.request == {"t": letter * most}
        before = count(database)
        with pytest.raises(PayloadTooLarge, match=r"request is \d+ bytes.*allows 1000"):
            delay(tape, {"t": letter * (most + 1)})
        assert count(database) == before


def test_the_largest_request_by_default_is_256_kib(tape: Tape) -> None:
    """And one of that size comes back."""
    text = "x" * (262_144 - len('{"t":""}'))
    assert delay(tape, {"t": text}).effect.request == {"t": text}
    with pytest.raises(PayloadTooLarge):
        delay(tape, {"t": text + "x"})
    assert count(tape.database) == 1


# --- keys ---

NOT_PRINTABLE = ["", "k" * 201, "a\0b", "a\nb", "a\rb", "a\tb", "a\x7fb", "\ud800", "\N{LINE SEPARATOR}", None, 5, b"k"]
NOT_ASCII = [*NOT_PRINTABLE[:9], "a b", " ", "k ", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\N{NO-BREAK SPACE}", 5, b"k"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("business_key", value) for value in NOT_PRINTABLE if value is not None),
        *(("run_id", value) for value in NOT_PRINTABLE if value is not None),
        *(("idempotency_key", value) for value in NOT_ASCII),
        *(("semantics", value) for value in ["", "sometimes", "IDEMPOTENT", None, 1, []]),
        *(("max_attempts", value) for value in [0, -1, 1001, 2.0, "5", True, []]),
        ("priority", 10),
    ],
    ids=lambda part: ascii(part)[:20],
)
def test_a_bad_option_is_refused_by_name(tape: Tape, option: str, value: Any) -> None:
    """With what was seen, and nothing is recorded."""
    with pytest.raises(InvalidIntent, match=option):
        delay(tape, {"amount": 1}, **{option: value})
    assert nothing_was_recorded(tape)


@pytest.mark.parametrize("name", [*NOT_PRINTABLE, [], {}])
def test_a_bad_connector_name_is_refused(tape: Tape, name: Any) -> None:
    """It has to be a name that a connector can be registered under."""
    with pytest.raises(InvalidIntent, match="connector name"):
        tape.effect.delay(name, {"amount": 1}, business_key="b-1")
    assert nothing_was_recorded(tape)


@pytest.mark.parametrize("task_id", ["", "k" * 65, "a b", "a\n", "\N{LATIN SMALL LETTER E WITH ACUTE}", 5])
def test_a_bad_task_id_is_refused(tape: Tape, task_id: Any) -> None:
    """It becomes the effect key."""
    with pytest.raises(InvalidIntent, match="task_id"):
        tape.effect.apply_async(("bank.wire", {"amount": 1}), task_id=task_id, business_key="b-1")
    assert nothing_was_recorded(tape)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "connector and request missing"),
        (("bank.wire",), "request missing"),
        (("bank.wire", {}, "b-1"), "3 positional"),
    ],
)
def test_a_call_that_is_not_complete_is_refused(tape: Tape, args: tuple[Any, ...], told: str) -> None:
    """By what is missing or too much."""
    with pytest.raises(InvalidIntent, match=told):
        tape.effect.apply_async(args)
    assert nothing_was_recorded(tape)


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ({"countdown": -1}, "countdown"),
        ({"countdown": float("nan")}, "countdown"),
        ({"countdown": float("inf")}, "countdown"),
        ({"countdown": "5"}, "countdown"),
        ({"countdown": 5, "eta": datetime(2030, 1, 1, tzinfo=UTC)}, "not both"),
        ({"eta": datetime(2030, 1, 1)}, "time zone"),
        ({"eta": 5}, "eta must be a datetime"),
        ({"expires": -1}, "expires"),
        ({"expires": datetime(2030, 1, 1)}, "time zone"),
        ({"expires": "tomorrow"}, "expires"),
    ],
)
def test_a_time_that_is_none_is_refused(tape: Tape, when: dict[str, Any], told: str) -> None:
    """Spans are seconds of 0 or more, instants carry a time zone."""
    with pytest.raises(InvalidIntent, match=told):
        tape.effect.apply_async(("bank.wire", {"amount": 1}), business_key="b-1", **when)
    assert nothing_was_recorded(tape)


@pytest.mark.parametrize("when", [{"countdown": 9.9e9}, {"eta": datetime.max.replace(tzinfo=UTC)}])
def test_a_time_that_is_far_away_is_kept(tape: Tape, when: dict[str, Any]) -> None:
    """As far as a column can count milliseconds."""
    handle = tape.effect.apply_async(("bank.wire", {"amount": 1}), business_key="b-1", **when)
    assert handle.effect.due_at_ms > 4_000_000_000_000


def test_keys_that_may_be_are_kept_byte_by_byte(tape: Tape, each: Callable[..., None]) -> None:
    """Every printable text of 1 to 200 characters is a business key and a run id."""
    printable = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=200)

    def check(key: str) -> None:
        hypothesis.assume(key.isprintable())
        handle = delay(tape, {"key": key}, business_key=key, run_id=key)
        assert (handle.effect.business_key, handle.effect.run_id) == (key, key)
        assert [effect.effect_key for effect in tape.effects(business_key=key)] == [handle.id]

    each(check, printable)


def nothing_was_recorded(tape: Tape) -> bool:
    return (count(tape.database), count(tape.database, "tape_journal")) == (0, 0)
