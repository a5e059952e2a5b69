"""The pure parts under hostile input: cleaning, references, header texts, Retry-After."""

import json
import math
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tape_celery.connectors.endpoint import header_text
from tape_celery.connectors.evidence import readable, storable_json, usable_ref
from tape_celery.connectors.http_answers import Answer, Codes, Meaning, NoAnswer, Waiting, dispatch_result, meaning_of
from tape_celery.intent import REF_LENGTH

any_text = st.text(st.characters(codec=None))
"""Lone surrogates and NUL included."""
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
)
NOW = 1_700_000_000_000


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_every_body_is_storable_json_or_a_value_error(body: bytes) -> None:
    try:
        value = storable_json(body)
    except ValueError:
        return
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode()  # no lone surrogate


@given(json_values)
def test_json_without_such_characters_is_kept_as_it_is(value: object) -> None:
    text = json.dumps(value)
    if any(math.isnan(number) or math.isinf(number) for number in _floats(value)):
        with pytest.raises(ValueError, match=r"no JSON|out of range"):
            storable_json(text.encode())
    elif "\\u0000" not in text and "\\ud" not in text:
        assert storable_json(text.encode()) == value


def _floats(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _floats(item)]
    if isinstance(value, list):
        return [number for item in value for number in _floats(item)]
    return [value] if isinstance(value, float) else []


@given(st.binary(max_size=5000) | any_text, st.integers(1, 300))
def test_a_readable_text_prints_and_fits(text: bytes | str, limit: int) -> None:
    shown = readable(text, limit)
    assert len(json.dumps(shown)) <= limit + 2
    assert all(char.isprintable() or char in "\n\t" for char in shown)


@given(json_values | st.text())
def test_a_usable_reference_is_short_printable_and_whole(value: object) -> None:
    ref = usable_ref(value)
    assert len(ref) <= REF_LENGTH
    assert ref.isprintable()
    assert ref in ("", str(value).strip())


@given(st.text(), st.text())
@example("%41", "A")
@example("é", "%C3%A9")
@example("a b", "a%20b")
def test_header_texts_are_visible_ascii_and_two_keys_never_become_one(one: str, other: str) -> None:
    assert unquote(header_text(one)) == one
    assert all("!" <= char <= "~" for char in header_text(one))
    assert (header_text(one) == header_text(other)) == (one == other)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="%")))
def test_visible_ascii_stays_as_it_is(key: str) -> None:
    assert header_text(key) == key


def until(retry_after: str | None, date: str | None = None) -> int:
    """The delay in milliseconds; 777 is the backoff."""
    headers = {"retry-after": retry_after, "date": date}
    answer = Answer(429, {name: value for name, value in headers.items() if value is not None})
    return Waiting(NOW, 777).until_ms(answer) - NOW


@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [
        ("0", 0),
        ("7", 7000),
        (" 7 ", 7000),
        ("1.5", 1500),
        ("-5", 0),
        ("-1e999", 0),
        ("172800", 172_800_000),
        ("604801", 604_800_000),
        ("99999999999999999999", 604_800_000),
        ("9" * 5000, 604_800_000),
        ("1e999", 604_800_000),
        ("nan", 777),
        ("", 777),
        ("soon", 777),
        ("Wed, 99 Foo 2026 99:99:99 GMT", 777),
        (None, 777),
    ],
)
def test_retry_after_in_seconds_is_kept_between_now_and_a_week(retry_after: str | None, delay: int) -> None:
    assert until(retry_after) == delay


def http_date(offset_seconds: int, base_ms: int = NOW) -> str:
    return format_datetime(datetime.fromtimestamp(base_ms / 1000 + offset_seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("offset", "delay"), [(30, 30_000), (0, 0), (-30, 0), (-10_000_000, 0), (7200, 7_200_000), (10**10, 604_800_000)]
)
def test_retry_after_as_a_date_is_kept_between_now_and_a_week(offset: int, delay: int) -> None:
    assert until(http_date(offset)) == delay


def test_a_date_without_a_zone_is_utc() -> None:
    assert until(http_date(30).replace("GMT", "-0000")) == 30_000


def test_a_date_is_read_on_the_upstreams_own_clock() -> None:
    """Its clock, or ours, may be hours off; the difference between its two dates is not."""
    five_hours_off = NOW + 5 * 3_600_000
    assert until(http_date(30, five_hours_off), http_date(0, five_hours_off)) == 30_000
    assert until(http_date(30), "nonsense") == 30_000


@given(st.text(), st.text())
def test_no_retry_after_breaks_anything(retry_after: str, date: str) -> None:
    assert 0 <= until(retry_after, date) <= 3_600_000


@given(st.integers(0, 9999), st.booleans(), st.binary(max_size=50))
def test_only_a_code_that_is_listed_confirms(code: int, idempotent: bool, body: bytes) -> None:
    result = dispatch_result(Answer(code, {}, body), Codes(), Waiting(NOW, 1), idempotent=idempotent)
    assert (result.status == "confirmed") <= (code in (200, 201, 202, 204, 409))
    assert (result.retry_at_ms > 0) <= (result.status == "failed")


def test_every_meaning_is_reached() -> None:
    reached = {meaning_of(Answer(code, {}), Codes()) for code in range(100, 600)}
    assert reached == set(Meaning)


@given(any_text, any_text, st.booleans())
def test_no_answer_is_unknown_and_says_whether_it_was_sent(kind: str, message: str, sent: bool) -> None:
    result = dispatch_result(NoAnswer(kind, message, sent), Codes(), Waiting(NOW, 1), idempotent=True)
    assert result.status == "unknown"
    assert result.error.get("sent", True) is sent
