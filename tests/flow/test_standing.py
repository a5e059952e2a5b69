"""Where flows stand, as it is shown: places in use, what waits, what a breaker counted and what it waits for."""

from __future__ import annotations

from dataclasses import replace

from tape_celery import Tape, gauges
from tape_celery.explanation import controls
from tape_celery.explanation.controls import Standing
from tape_celery.flow import Breaker, Flow, Probe
from tape_celery.gauges import StoreGauges
from tape_celery.store import claims, standing
from tape_celery.store.claims import Reach
from tape_celery.store.rows import EFFECTS
from tests.flow.conftest import WHO, wires


def test_places_in_use_and_what_waits_are_counted(tape: Tape) -> None:
    """Of the limited connector alone; a connector of which nothing is said is not there."""
    keys = wires(tape, 5)
    wires(tape, 1, "other")
    wires(tape, 1, countdown=3600)
    tape.limit("bank", at_once=2, **WHO)
    claims.claim(tape.database, EFFECTS, keys, verb="call", reach=tape.engine.reach(), actor="another worker")
    [one] = standing.read(tape.database)
    assert (one.flow.connector, one.in_flight, one.waiting, one.more) == ("bank", 2, 3, False)
    assert "2 of 2 places are in use, 3 wait" in controls.obstacle(one)
    assert controls.limits(one) == "2 at once (2 in use)"
    [few] = standing.read(tape.database, at_most=2)
    assert (few.waiting, few.more) == (2, True)
    assert standing.read(tape.database, connector="other") == []


def test_looks_that_wait_are_counted_apart_from_calls(tape: Tape) -> None:
    [key] = wires(tape, 1)
    tape.pause("bank", looks=True, **WHO)
    [one] = standing.read(tape.database)
    assert (one.flow.verb, one.waiting, controls.whose(one.flow)) == ("look", 0, "looks of bank")
    assert controls.obstacle(one) == ""
    assert str(tape.get(key).status) == "PENDING"


def test_looks_under_a_long_lease_take_their_places_where_leases_are_known(lite: Tape) -> None:
    """A minute is looked ahead where nobody says how long they are."""
    [key] = wires(lite, 1, request={"answer": "unknown"})
    lite.dispatch(key)
    lite.limit("bank", at_once=2, looks=True, **WHO)
    lite.database.shift_ms += 31_000
    assert claims.claim(lite.database, EFFECTS, [key], verb="look", reach=Reach({"bank": 300_000}), actor="another")
    assert [one.in_flight for one in standing.read(lite.database)] == [0]
    assert [one.in_flight for one in standing.read(lite.database, {"bank": 300_000})] == [1]
    told = StoreGauges(lite.database, lease_ms=lambda: {"bank": 300_000}).read()
    assert told[gauges.IN_USE] == {("bank", "look"): 1}


def test_a_breaker_says_what_it_counted_and_when_a_probe_goes() -> None:
    opened = Flow(
        connector="bank", trouble_percent=50, least_calls=4, window_ms=60_000, open_ms=30_000, breaker=Breaker.OPEN,
        breaker_at_ms=1_000, calls=4, unknown_calls=2, failed_calls=1, window_at_ms=1,
    )  # fmt: skip
    told = controls.obstacle(Standing(flow=opened, now_ms=2_000))
    assert "open since 1970-01-01 00:00:01Z: 3 of 4 calls in trouble (2 UNKNOWN, 1 failed)" in told
    assert "a probe goes at 1970-01-01 00:00:31Z" in told
    half = replace(opened, breaker=Breaker.HALF_OPEN, probe_key="wire-9")
    assert "its probe wire-9 decides" in controls.breaker(Standing(flow=half, now_ms=2_000, probe=Probe.OUT))
    closed = replace(opened, breaker=Breaker.CLOSED)
    assert controls.obstacle(Standing(flow=closed, now_ms=2_000)) == ""
