"""Limits over all workers: as many as may go are claimed, in their order, and what waits keeps its place."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from tape_celery import Tape, connectors
from tape_celery.errors import InvalidIntent, StaleView, UnknownConnector
from tape_celery.store import claims, waiting
from tape_celery.store.rows import EFFECTS
from tests.flow.conftest import WHO, Bank, tape_over, wires
from tests.servers import PostgresServer, TcpProxy
from tests.store.steps import before_statement, together


def ahead(tape: Tape, seconds: float) -> None:
    tape.database.shift_ms += round(seconds * 1000)


def test_of_a_limited_connector_as_many_are_claimed_as_may_go_in_their_order(tape: Tape) -> None:
    """The urgent first, then by age; the rest uses no attempt, keeps its due time, and is found again."""
    old = wires(tape, 3)
    urgent = wires(tape, 1, priority=7)
    free = wires(tape, 1, "other")
    before = {key: tape.get(key) for key in old}
    tape.limit("bank", at_once=2, **WHO)
    held = claims.claim(
        tape.database, EFFECTS, [*old, *urgent], verb="call", reach=tape.engine.reach(), actor="another worker"
    )
    assert {record.effect_key for record in held} == {urgent[0], old[0]}
    assert tape.dispatch(*old[1:], *free) == {old[1]: "limited", old[2]: "limited", free[0]: "confirmed"}
    for key in old[1:]:
        after = tape.get(key)
        assert (after.status, after.attempt, after.due_at_ms, after.version) == ("PENDING", 0, before[key].due_at_ms, 1)
    assert tape.sweep().dispatch_hints == 0
    # A worker that was killed gives its places back when its leases end.
    ahead(tape, 31)
    report = tape.sweep()
    assert (report.lapsed, report.dispatch_hints) == (2, 2)
    assert tape.dispatch(*old[1:]) == {old[1]: "confirmed", old[2]: "confirmed"}
    assert tape.audit() == []


def test_a_store_that_goes_away_before_what_is_limited_loses_nothing_that_was_claimed(
    ready_postgresql_url: str, postgres: PostgresServer, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one claim what is free is committed first: it is called, and sealed when the store is back. What is limited
    has used no attempt.
    """
    with TcpProxy(postgres.host, postgres.port) as proxy:
        far = tape_over(proxy.url(ready_postgresql_url))
        other = connectors.get("other")
        [free], [limited] = wires(far, 1, "other"), wires(far, 1)
        far.limit("bank", at_once=2, **WHO)
        called = other.dispatch

        def call(effect: Any) -> Any:
            proxy.mode = "pass"
            return called(effect)

        monkeypatch.setattr(other, "dispatch", call)
        away = lambda: setattr(proxy, "mode", "refuse")  # noqa: E731
        with before_statement(far.database, "SELECT DISTINCT tape_effects.connector", away) as met:
            said = far.dispatch(free, limited)
        assert len(met) == 1
        assert said[free] == "confirmed"
        after = far.get(limited)
        assert (after.status, after.attempt) == ("PENDING", 0)
        assert far.dispatch(limited) == {limited: "confirmed"}
        far.database.close()


def test_many_who_claim_at_once_exceed_no_limit(tape: Tape) -> None:
    """On one store, each with connections of its own: the places are counted under one lock."""
    keys = wires(tape, 24)
    tape.limit("bank", at_once=5, **WHO)
    tape.database.close()
    barrier = threading.Barrier(6)

    def claim(number: int) -> int:
        barrier.wait(20)
        mine, reach = keys[number * 4 : number * 4 + 4], tape.engine.reach()
        return len(claims.claim(tape.database, EFFECTS, mine, verb="call", reach=reach, actor=f"worker-{number}"))

    with ThreadPoolExecutor(6) as threads:
        went = list(threads.map(claim, range(6)))
    assert sum(went) == 5
    assert Counter(str(tape.get(key).status) for key in keys) == {"DISPATCHING": 5, "PENDING": 19}


def test_many_who_claim_at_once_exceed_no_rate(tape: Tape) -> None:
    """The bucket has one tenth of the rate; what it lets go is taken out of it under the same lock."""
    keys = wires(tape, 24)
    tape.limit("bank", rate="30/hour", **WHO)

    def claim(number: int) -> int:
        mine, reach = keys[number * 4 : number * 4 + 4], tape.engine.reach()
        return len(claims.claim(tape.database, EFFECTS, mine, verb="call", reach=reach, actor=f"worker-{number}"))

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(claim, range(6))) == 3
    left = [key for key in keys if tape.get(key).status == "PENDING"]
    assert set(tape.dispatch(*left).values()) == {"limited"}
    ahead(tape, 129)
    assert Counter(tape.dispatch(*left).values()) == {"confirmed": 1, "limited": 20}


def test_dispatches_and_inverses_share_the_places(tape: Tape, bank: Bank) -> None:
    """They are calls of one upstream; an inverse goes before a dispatch."""
    [done] = wires(tape, 1)
    tape.dispatch(done)
    owed = tape.owe(done, **WHO).obligation_key
    tape.limit("bank", at_once=1, **WHO)
    keys = wires(tape, 2)
    reach = tape.engine.reach()
    assert len(claims.claim(tape.database, EFFECTS, keys[:1], verb="call", reach=reach, actor="another")) == 1
    assert tape.compensate(owed) == {owed: "limited"}
    ahead(tape, 31)
    report = tape.sweep()
    assert (report.lapsed, report.dispatch_hints, report.compensate_hints) == (1, 0, 1)
    assert tape.compensate(owed) == {owed: "compensated"}


def test_looks_have_limits_of_their_own(tape: Tape, bank: Bank) -> None:
    """Calls are not concerned, and what waits for a look keeps its looks."""
    lost = wires(tape, 3, request={"answer": "unknown"})
    tape.limit("bank", at_once=1, looks=True, **WHO)
    assert set(tape.dispatch(*lost).values()) == {"unknown"}
    reach = tape.engine.reach()
    assert len(claims.claim(tape.database, EFFECTS, lost[:1], verb="look", reach=reach, actor="another")) == 1
    assert set(tape.observe(*lost[1:]).values()) == {"limited"}
    assert [tape.get(key).looks for key in lost[1:]] == [0, 0]
    ahead(tape, 31)
    assert tape.sweep().observe_hints == 1
    assert sorted(tape.observe(*lost).values()) == ["confirmed", "limited", "limited"]
    tape.limit("bank", at_once=0, looks=True, **WHO)
    left = [key for key in lost if tape.get(key).status == "UNKNOWN"]
    assert tape.sweep().observe_hints == 2
    assert set(tape.observe(*left).values()) == {"confirmed"}
    tape.pause("bank", looks=True, **WHO)
    [paused] = wires(tape, 1, request={"answer": "unknown"})
    assert tape.dispatch(paused) == {paused: "unknown"}
    assert tape.observe(paused) == {paused: "paused"}
    tape.resume("bank", looks=True, **WHO)
    assert tape.observe(paused) == {paused: "confirmed"}
    assert tape.audit() == []


def test_what_expires_or_is_cancelled_while_it_waits_ends(lite: Tape) -> None:
    """And what is behind it moves up."""
    short, unwanted, last = wires(lite, 1, expires=60) + wires(lite, 2)
    lite.limit("bank", rate="1/hour", **WHO)
    lite.dispatch(*wires(lite, 1))
    assert set(lite.dispatch(short, unwanted, last).values()) == {"limited"}
    lite.cancel(unwanted, **WHO)
    assert lite.get(unwanted).status == "CANCELLED"
    ahead(lite, 61)
    assert lite.sweep().expired == 1
    assert lite.get(short).status == "CANCELLED"
    ahead(lite, 3600)
    assert lite.sweep().dispatch_hints == 1
    assert lite.dispatch(last) == {last: "confirmed"}


def test_one_that_waits_for_its_turn_takes_no_place(tape: Tape) -> None:
    """Of one ordering key the first goes, and the place of the next is another's meanwhile."""
    first, second = wires(tape, 2, ordering_key="A1")
    [other] = wires(tape, 1)
    tape.limit("bank", at_once=2, **WHO)
    assert tape.dispatch(second, other) == {second: "waiting_its_turn", other: "confirmed"}
    tape.sweep()
    ahead(tape, 61)
    assert tape.dispatch(first, second) == {first: "confirmed", second: "waiting_its_turn"}
    assert tape.dispatch(second) == {second: "confirmed"}


def test_a_sweep_hints_what_may_go_until_the_next_one_spaced_by_the_rate(
    lite: Tape, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten in a second, with a sweep each five seconds, are fifty; each is hinted once, the urgent first."""
    keys = wires(lite, 80)
    urgent = wires(lite, 3, priority=5)
    lite.limit("bank", rate="10/s", **WHO)
    assert "limited" in lite.dispatch(*keys, *urgent).values()
    hinted: list[tuple[float, str]] = []
    monkeypatch.setattr(
        lite, "_publish", lambda verb, name, keys, priority, delay: hinted.extend((delay, key) for key in keys)
    )
    ahead(lite, 31)
    report = lite.sweep()
    assert 45 <= report.dispatch_hints == len(hinted) <= 51
    assert len({key for _, key in hinted}) == len(hinted)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(hinted)]
    assert min(gaps) > 0.0999
    waits_urgent = [key for key in urgent if lite.get(key).status == "PENDING"]
    assert {key for _, key in hinted[: len(waits_urgent)]} == set(waits_urgent)
    ahead(lite, 5)
    before = {key for _, key in hinted}
    lite.sweep()
    assert not before & {key for _, key in hinted[len(before) :]}, "nobody hints twice what has a hint on its way"


def test_a_pass_that_ends_calls_hints_as_many_of_those_that_wait(lite: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that needs no sweep, and is no longer than there are places."""
    keys = wires(lite, 10)
    lite.limit("bank", at_once=3, **WHO)
    hinted: list[str] = []
    monkeypatch.setattr(lite, "_publish", lambda verb, name, keys, priority, delay: hinted.extend(keys))
    lite.follow_up(lite.engine.dispatch(keys))
    done = 3
    while hinted:
        now, hinted[:] = list(hinted), []
        assert len(now) <= 3
        lite.follow_up(lite.engine.dispatch(now))
        done += len(now)
    assert done == 10
    assert {str(lite.get(key).status) for key in keys} == {"CONFIRMED"}


def test_a_worker_with_a_hint_takes_what_waits_for_longer(tape: Tape) -> None:
    """Else what is new, whose hints come in crowds, would pass what waits. By hand, what is named goes."""
    [first] = wires(tape, 1)
    tape.limit("bank", at_once=1, **WHO)
    tape.dispatch(first)
    older, urgent = wires(tape, 1) + wires(tape, 1, priority=3)
    [held] = wires(tape, 1)
    claims.claim(tape.database, EFFECTS, [held], verb="call", reach=tape.engine.reach(), actor="another")
    assert set(tape.dispatch(older, urgent).values()) == {"limited"}
    ahead(tape, 31)
    moved = tape.sweep()
    assert (moved.lapsed, moved.dispatch_hints) == (1, 1)
    newer, last = wires(tape, 2)
    report = tape.engine.dispatch([newer], in_turn=True)
    assert report.outcomes == {newer: "limited", older: "confirmed"}, "the urgent one has a hint on its way"
    assert tape.engine.dispatch([urgent], in_turn=True).outcomes == {urgent: "confirmed"}
    assert tape.dispatch(last) == {last: "confirmed"}
    assert tape.engine.dispatch([newer], in_turn=True).outcomes == {newer: "confirmed"}
    assert tape.audit() == []


def test_a_long_backlog_that_waits_hides_no_lease_that_is_over(
    ready_sqlite_url: str, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its places would never come back."""
    monkeypatch.setattr("tape_celery.sweep.BATCH", 5)
    monkeypatch.setattr(waiting, "BATCH", 50)
    tape = tape_over(ready_sqlite_url)
    keys = wires(tape, 160)
    tape.limit("bank", at_once=1, **WHO)
    claims.claim(tape.database, EFFECTS, keys[-1:], verb="call", reach=tape.engine.reach(), actor="another")
    ahead(tape, 31)
    report = tape.sweep()
    assert (report.limited, report.lapsed, report.dispatch_hints) == (159, 1, 1)
    tape.database.close()


def test_limits_are_said_shown_and_taken_away(tape: Tape) -> None:
    """Each by itself; what slept is found at once when there is none left."""
    keys = wires(tape, 2)
    said = tape.limit("bank", at_once=1, rate="1/hour", **WHO)
    assert [(one.connector, one.verb, one.at_once, one.rate_count, one.actor) for one in tape.flows()] == [
        ("bank", "call", 1, 1, "ann")
    ]
    assert sorted(tape.dispatch(*keys).values()) == ["confirmed", "limited"]
    assert tape.limit("bank", at_once=0, **WHO).rate_ms == 3_600_000
    assert tape.limit("bank", rate="", **WHO).version == said.version + 2
    assert tape.flows() == []
    assert tape.sweep().dispatch_hints == 1
    for wrong in ({}, {"at_once": -1}, {"at_once": True}, {"at_once": 1.5}, {"rate": "often"}):
        with pytest.raises(InvalidIntent):
            tape.limit("bank", **wrong, **WHO)  # type: ignore[arg-type]
    with pytest.raises(UnknownConnector):
        tape.limit("bnak", at_once=1, **WHO)


def test_what_was_decided_on_another_version_is_refused_in_the_acts_own_transaction(tape: Tape) -> None:
    """Of many who decide at once on what they saw, one does; of looks nobody has said anything."""
    seen = tape.limit("bank", at_once=5, **WHO).version

    def decide(at_once: int) -> int:
        try:
            return tape.limit("bank", at_once=at_once, seen_version=seen, **WHO).version
        except StaleView as stale:
            return stale.seen_version

    assert sorted(together([partial(decide, number) for number in range(6, 10)])) == [seen, seen, seen, seen + 1]
    [one] = tape.flows()
    assert one.version == seen + 1
    tape.pause("bank", looks=True, seen_version=0, **WHO)
    with pytest.raises(StaleView):
        tape.resume("bank", looks=True, seen_version=0, **WHO)
    with pytest.raises(InvalidIntent):
        tape.pause("bank", seen_version="1", **WHO)  # type: ignore[arg-type]
    assert [one.paused for one in tape.flows()] == [False, True]


def test_a_pause_over_a_limit_holds_all_and_leaves_the_limit(lite: Tape) -> None:
    """And what waited for both goes on as the limit lets it."""
    keys = wires(lite, 3)
    lite.limit("bank", at_once=1, **WHO)
    lite.pause("bank", **WHO)
    assert set(lite.dispatch(*keys).values()) == {"paused"}
    ahead(lite, 31)
    assert lite.sweep().dispatch_hints == 0
    assert lite.resume("bank", **WHO) == 3
    report = lite.sweep()
    assert (report.limited, report.dispatch_hints) == (3, 1)
    assert sorted(lite.dispatch(*keys).values()) == ["confirmed", "limited", "limited"]


def test_nothing_is_read_or_locked_for_a_connector_without_a_limit(lite: Tape, bank: Bank) -> None:
    """Its claim is the one statement that it was; another's limit changes nothing."""
    lite.limit("bank", at_once=1, **WHO)
    [key] = wires(lite, 1, "other")
    taken = claims.take(lite.database, EFFECTS, [key], verb="call", reach=lite.engine.reach(), actor="worker")
    assert (len(taken.claimed), taken.flows, taken.refused) == (1, {}, {})


def test_what_a_thread_may_do_at_once_is_seen_at_the_upstream(tape: Tape, bank: Bank) -> None:
    """Whole passes of several workers: the bank never sees more than its places."""
    bank.hold = threading.Event()
    keys = wires(tape, 12)
    tape.limit("bank", at_once=3, **WHO)
    with ThreadPoolExecutor(4) as threads:
        passes = [threads.submit(tape.dispatch, *keys[n::4]) for n in range(4)]
        give_up = time.monotonic() + 20
        while len(bank.calls) < 3 or sum(one.done() for one in passes) < 1:
            assert time.monotonic() < give_up
        bank.hold.set()
        outcomes = Counter(outcome for one in passes for outcome in one.result().values())
    assert bank.most == 3
    assert outcomes["confirmed"] >= 3
    assert outcomes["confirmed"] + outcomes["limited"] == 12
