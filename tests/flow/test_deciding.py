"""The deciding of a flow, by itself: rates and places that are never exceeded, and the drawn turns of the breaker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tape_celery import flow
from tape_celery.errors import InvalidIntent
from tape_celery.flow import Admitted, Breaker, Flow, Probe, Trouble, Why

NOW = 1_800_000_000_000
COUNTS = st.integers(1, 300)
PERIODS = st.sampled_from([100, 999, 1000, 60_000])
BREAKER = Flow(connector="bank", trouble_percent=50, least_calls=4, window_ms=60_000, open_ms=30_000)
OK, LOST, REFUSED = Trouble.NONE, Trouble.UNKNOWN, Trouble.FAILED


def gone(one: Flow, now: int, wanted: int, in_flight: int = 0) -> tuple[Flow, int]:
    """The flow after a claim of ``wanted``, and how many went."""
    number = flow.admit(one, now, in_flight, wanted).number
    return flow.taken(one, now, [str(n) for n in range(number)]), number


@settings(max_examples=150, deadline=None)
@given(COUNTS, PERIODS, st.lists(st.tuples(st.floats(0, 2), st.integers(1, 400)), max_size=60))
def test_no_period_of_a_rate_sees_more_than_its_count(count: int, period: int, claims: list[tuple[float, int]]) -> None:
    """Wherever the period begins, and however many are wanted at once."""
    one, now, went = Flow(connector="bank", rate_count=count, rate_ms=period), NOW, []
    for pause, wanted in claims:
        now += round(pause * period / 3)
        one, number = gone(one, now, wanted)
        went += [now] * number
    for start in went:
        assert sum(start <= at < start + period for at in went) <= count


@settings(max_examples=25, deadline=None)
@given(COUNTS, PERIODS)
def test_who_always_wants_gets_the_rate_to_a_tenth(count: int, period: int) -> None:
    """Asked at each moment that the last answer named, over ten periods."""
    one, now, number = Flow(connector="bank", rate_count=count, rate_ms=period), NOW, 0
    while now < NOW + 10 * period:
        one, went = gone(one, now, 1)
        number += went
        if not went:
            until = flow.admit(one, now, 0, 1).until_ms
            assert until is not None
            assert now < until <= now + period
            now = until
    # An instant is a whole millisecond: a rate beyond one a millisecond goes in groups.
    assert 0.9 * 10 * count <= number + 1 <= 10 * count + 1 + one.burst


@settings(max_examples=60, deadline=None)
@given(COUNTS, PERIODS, st.integers(0, 50))
def test_what_a_schedule_says_may_go_then_does(count: int, period: int, before: int) -> None:
    """Each hint that comes when it was told to is admitted, and none is told beyond the span."""
    one, _ = gone(Flow(connector="bank", rate_count=count, rate_ms=period), NOW, before)
    waits = flow.schedule(one, NOW, 0, span_ms=5000, most=1000)
    assert waits == sorted(waits)
    assert all(0 <= wait <= 5000 for wait in waits)
    for wait in waits:
        one, number = gone(one, NOW + wait, 1)
        assert number == 1


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60))
def test_places_are_never_exceeded(at_once: int, in_flight: int, wanted: int) -> None:
    """Also where more are under way than may be, as the limit was lowered."""
    admitted = flow.admit(Flow(connector="bank", at_once=at_once), NOW, in_flight, wanted)
    assert admitted.number == max(0, min(wanted, at_once - in_flight))
    assert (admitted.why is Why.LIMITED) == (admitted.number < wanted)
    assert len(flow.schedule(Flow(connector="bank", at_once=at_once), NOW, in_flight, span_ms=5000, most=9)) == max(
        0, min(9, at_once - in_flight)
    )


def test_a_clock_that_was_put_back_holds_nothing_up_for_longer_than_a_burst() -> None:
    """Nor does a slower rate that was set before."""
    one, _ = gone(Flow(connector="bank", rate_count=1, rate_ms=86_400_000), NOW, 1)
    assert flow.admit(one, NOW - 86_400_000, 0, 1).until_ms == NOW
    faster = replace(one, rate_count=10, rate_ms=1000)
    assert flow.admit(faster, NOW, 0, 1) == Admitted(0, Why.LIMITED, NOW + 100)
    shut = flow.opened(BREAKER, NOW)
    assert flow.admit(shut, NOW - 86_400_000, 0, 1).until_ms == NOW - 86_400_000 + 30_000


def test_a_pause_stands_above_all() -> None:
    one = Flow(connector="bank", paused=True, at_once=5, rate_count=5, rate_ms=1000)
    assert flow.admit(one, NOW, 0, 3) == Admitted(0, Why.PAUSED)
    assert flow.schedule(one, NOW, 0, span_ms=5000, most=9) == []


def told(one: Flow, *troubles: Trouble, at: int = NOW) -> Flow:
    return flow.after(one, [(f"k{n}", trouble) for n, trouble in enumerate(troubles)], at)


def test_a_breaker_opens_at_its_share_of_enough_calls() -> None:
    """UNKNOWN and failed count alike; of too few nothing is concluded."""
    assert told(BREAKER, LOST, LOST, LOST).breaker is Breaker.CLOSED
    assert told(BREAKER, LOST, OK, OK, REFUSED, OK).breaker is Breaker.CLOSED
    opened = told(told(BREAKER, LOST, OK), REFUSED, OK, at=NOW + 5)
    assert (opened.breaker, opened.breaker_at_ms) == (Breaker.OPEN, NOW + 5)
    assert (opened.calls, opened.unknown_calls, opened.failed_calls) == (4, 1, 1)


def test_a_breaker_counts_in_windows() -> None:
    """What was before the window is forgotten."""
    one = told(BREAKER, LOST, LOST, LOST)
    later = told(one, LOST, at=NOW + 60_000)
    assert (later.breaker, later.calls) == (Breaker.CLOSED, 1)
    assert told(one, LOST, at=NOW + 59_999).breaker is Breaker.OPEN


def test_what_ends_in_one_millisecond_is_counted_together_and_a_clock_that_was_put_back_begins_anew() -> None:
    """The window is from its first millisecond to the one before its last."""
    one = told(told(BREAKER, LOST, LOST), LOST)
    assert (one.calls, told(one, LOST).breaker) == (3, Breaker.OPEN)
    assert told(one, LOST, at=NOW - 1).calls == 1


def test_where_no_breaker_is_set_nothing_is_counted() -> None:
    """A share of 0 is none, and not one that every call reaches."""
    one = Flow(connector="bank", at_once=5)
    assert told(one, LOST, LOST, LOST, LOST) == one


def test_a_breaker_that_turns_forgets_its_probe_and_one_that_closes_what_it_counted() -> None:
    """What was counted until it opened stays to be shown."""
    half = flow.taken(told(BREAKER, LOST, REFUSED, LOST, OK), NOW + 30_000, ["probe"])
    assert (half.calls, half.unknown_calls, half.failed_calls, flow.share(half)) == (4, 2, 1, 75.0)
    again = flow.opened(half, NOW + 31_000)
    assert (again.probe_key, again.breaker_at_ms, again.calls) == ("", NOW + 31_000, 4)
    shut = flow.closed(half, NOW + 31_000)
    assert (shut.probe_key, shut.calls, shut.unknown_calls, shut.failed_calls) == ("", 0, 0, 0)
    assert (shut.breaker_at_ms, shut.window_at_ms, flow.share(shut)) == (NOW + 31_000, NOW + 31_000, 0.0)


def test_who_takes_nothing_changes_nothing() -> None:
    """Nobody becomes the probe of an open breaker, and no time of a rate is used."""
    one = flow.opened(replace(BREAKER, rate_count=5, rate_ms=1000), NOW)
    assert flow.taken(one, NOW + 30_000, []) == one


def test_a_closed_breaker_narrows_no_rate_and_no_places() -> None:
    """However long it has been what it is."""
    one = replace(flow.closed(BREAKER, NOW), at_once=5)
    assert flow.admit(one, NOW + 1, 1, 9) == Admitted(4, Why.LIMITED)
    assert flow.schedule(one, NOW + 1, 1, span_ms=5000, most=9) == [0] * 4


def test_an_open_breaker_lets_one_pass_after_its_time_and_then_waits_for_it() -> None:
    """The probe; nothing beside it while it is under way or looked at."""
    one = told(BREAKER, LOST, LOST, LOST, LOST)
    assert flow.admit(one, NOW + 29_999, 0, 5) == Admitted(0, Why.BREAKER_OPEN, NOW + 30_000)
    assert told(one, LOST, at=NOW + 10) == one
    assert flow.schedule(one, NOW + 29_000, 0, span_ms=5000, most=9) == [1000]
    assert flow.schedule(one, NOW + 40_000, 0, span_ms=5000, most=9) == [0]
    assert flow.schedule(one, NOW + 25_000, 0, span_ms=5000, most=9) == []
    at = NOW + 30_000
    assert flow.admit(one, at, 0, 5).number == 1
    half = flow.taken(one, at, ["probe"])
    assert (half.breaker, half.probe_key) == (Breaker.HALF_OPEN, "probe")
    assert flow.admit(half, at + 10**9, 0, 5, Probe.OUT) == Admitted(0, Why.BREAKER_OPEN)
    assert flow.schedule(half, at + 10**9, 0, span_ms=5000, most=9, probe=Probe.OUT) == []


@pytest.mark.parametrize(
    ("probe", "becomes"),
    [
        (Probe.SEEN, Breaker.CLOSED),
        (Probe.FAILED, Breaker.OPEN),
        (Probe.OUT, Breaker.HALF_OPEN),
        (Probe.GONE, Breaker.HALF_OPEN),
    ],
)
def test_a_half_open_breaker_turns_by_its_probe(probe: Probe, becomes: Breaker) -> None:
    """One that says nothing of the upstream turns it neither way: another goes when the time has passed again."""
    half = flow.taken(flow.opened(BREAKER, NOW), NOW + 30_000, ["probe"])
    after = flow.turned(half, NOW + 31_000, probe)
    assert after.breaker is becomes
    if probe is Probe.GONE:
        assert flow.admit(after, NOW + 59_999, 0, 5, probe).number == 0
        assert flow.admit(after, NOW + 60_000, 0, 5, probe).number == 1


def test_what_ends_while_it_is_half_open_counts_only_if_it_is_the_probe() -> None:
    """Others began before; and a probe that was confirmed is not believed before the upstream was asked."""
    half = flow.taken(flow.opened(BREAKER, NOW), NOW + 30_000, ["probe"])
    at = NOW + 30_500
    assert flow.after(half, [("other", REFUSED)], at) == half
    assert flow.after(half, [("probe", OK)], at) == half
    assert flow.after(half, [("probe", LOST)], at) == half
    assert flow.after(half, [("probe", REFUSED)], at).breaker is Breaker.OPEN


@pytest.mark.parametrize(
    ("text", "count", "period"),
    [
        ("10/second", 10, 1000),
        ("100/minute", 100, 60_000),
        ("100/m", 100, 60_000),
        ("10/s", 10, 1000),
        ("5 per 2 hours", 5, 7_200_000),
        ("1/day", 1, 86_400_000),
        ("", 0, 0),
    ],
)
def test_a_rate_reads_as_it_is_written(text: str, count: int, period: int) -> None:
    assert flow.parse_rate(text) == (count, period)
    one = Flow(connector="bank", rate_count=count, rate_ms=period)
    assert flow.parse_rate(flow.shown_rate(one)) == (count, period)


@pytest.mark.parametrize(
    "text", ["10", "/s", "0/s", "10/fortnight", "-1/s", "10/0s", "1.5/s", "9999999/s", "1/40 days", 7]
)
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(InvalidIntent, match="rate must read like"):
        flow.parse_rate(text)  # type: ignore[arg-type]
