"""A circuit breaker opens on trouble, lets one through after its time, asks the upstream about it, and closes."""

from __future__ import annotations

import logging
import os
import signal

import pytest

from tape_celery import Tape, connectors
from tape_celery.connectors import DispatchResult, ObservationResult
from tape_celery.errors import InvalidIntent
from tape_celery.flow import Breaker
from tape_celery.store import claims, flows
from tape_celery.store.rows import EFFECTS
from tests.flow.conftest import WHO, Bank, tape_over, wires

BREAKER = {"share": 0.5, "least": 4, "window_seconds": 60, "open_seconds": 30, **WHO}


def ahead(tape: Tape, seconds: float) -> None:
    tape.database.shift_ms += round(seconds * 1000)


def state(tape: Tape, verb: str = "call") -> Breaker:
    [one] = [one for one in tape.flows() if one.verb == verb]
    return one.breaker


def opened(tape: Tape, bank: Bank, answer: str = "unknown") -> list[str]:
    """Open the breaker by calls that are answered so; what waits behind it."""
    tape.breaker("bank", **BREAKER)
    bank.answer = answer
    tape.dispatch(*wires(tape, 4))
    assert state(tape) is Breaker.OPEN
    bank.answer = "confirmed"
    return wires(tape, 3)


def dies_after_claim(tape: Tape, key: str) -> None:
    """A worker claims it and is killed."""
    reach = tape.engine.reach()
    assert claims.claim(tape.database, EFFECTS, [key], verb="call", reach=reach, actor="a worker that dies")


def test_it_opens_on_unknown_half_opens_with_one_asks_and_closes(
    tape: Tape, bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits meanwhile uses no attempt and is not called; then all of it goes."""
    waiting = opened(tape, bank)
    calls = len(bank.calls)
    assert set(tape.dispatch(*waiting).values()) == {"breaker_open"}
    assert tape.sweep().dispatch_hints == 0
    ahead(tape, 31)
    assert tape.sweep().dispatch_hints == 1
    bank.asked.clear()
    assert sorted(tape.dispatch(*waiting).values()) == ["breaker_open", "breaker_open", "confirmed"]
    [probe] = [key for key in waiting if tape.get(key).status == "CONFIRMED"]
    assert (bank.calls[calls:], bank.asked) == ([probe], [probe])
    assert state(tape) is Breaker.CLOSED
    left = [key for key in waiting if key != probe]
    assert [(tape.get(key).status, tape.get(key).attempt) for key in left] == [("PENDING", 0)] * 2
    assert tape.sweep().dispatch_hints == 2
    assert set(tape.dispatch(*left).values()) == {"confirmed"}
    assert tape.audit() == []
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "the breaker of bank opened for its calls: 4 of 4 were UNKNOWN and 0 failed" in told
    assert "the breaker of bank closed for its calls: the probe was seen" in told


@pytest.mark.parametrize("answer", ["failed", "unsent"])
def test_it_opens_on_failures_and_on_what_was_never_sent(lite: Tape, bank: Bank, answer: str) -> None:
    """Whatever it is that the upstream cannot do."""
    waiting = opened(lite, bank, answer)
    assert set(lite.dispatch(*waiting).values()) == {"breaker_open"}


def test_successes_and_too_few_calls_open_nothing(lite: Tape, bank: Bank) -> None:
    lite.breaker("bank", **BREAKER)
    lite.dispatch(*wires(lite, 3, request={"answer": "unknown"}))
    assert state(lite) is Breaker.CLOSED
    lite.dispatch(*wires(lite, 5))
    assert state(lite) is Breaker.CLOSED
    ahead(lite, 61)
    lite.dispatch(*wires(lite, 3, request={"answer": "unknown"}))
    assert state(lite) is Breaker.CLOSED


@pytest.mark.parametrize("seen", ["absent", "failed", "stuck", "raises"])
def test_a_probe_that_the_upstream_does_not_know_opens_it_again(lite: Tape, bank: Bank, seen: str) -> None:
    """An upstream that says yes and keeps nothing is not well."""
    waiting = opened(lite, bank)
    bank.seen = seen
    ahead(lite, 31)
    [probe] = [key for key, outcome in lite.dispatch(*waiting).items() if outcome == "confirmed"]
    assert state(lite) is Breaker.OPEN
    assert [entry.kind for entry in lite.journal(probe)][2:] == ["confirmed", "late"]
    assert "confirmed" not in lite.dispatch(*waiting[1:]).values()
    ahead(lite, 31)
    bank.seen = "confirmed"
    assert "confirmed" in lite.dispatch(*waiting[1:]).values()
    assert state(lite) is Breaker.CLOSED


def test_a_probe_that_fails_opens_it_again(lite: Tape, bank: Bank) -> None:
    waiting = opened(lite, bank)
    bank.answer = "failed"
    ahead(lite, 31)
    assert sorted(lite.dispatch(*waiting).values()) == ["breaker_open", "breaker_open", "failed"]
    assert state(lite) is Breaker.OPEN


def test_a_probe_that_landed_twice_closes_it_and_its_extra_is_owed(lite: Tape, bank: Bank) -> None:
    """What the upstream says of it is evidence like any other."""
    waiting = opened(lite, bank)
    bank.seen, bank.duplicates = "duplicate", ["an-extra"]
    ahead(lite, 31)
    lite.dispatch(*waiting)
    assert state(lite) is Breaker.CLOSED
    assert [debt.external_ref for debt in lite.obligations()] == ["an-extra"]
    assert lite.audit() == []


def test_another_record_that_the_question_about_a_probe_finds_is_owed_to_a_person(lite: Tape, bank: Bank) -> None:
    """The answer named one, the look another: what it saw is late evidence, which is never dropped."""
    waiting = opened(lite, bank)
    bank.found = "another"
    ahead(lite, 31)
    lite.dispatch(*waiting)
    assert state(lite) is Breaker.CLOSED
    assert [(debt.external_ref, debt.status) for debt in lite.obligations()] == [("another", "STUCK")]
    assert lite.audit() == []


def test_a_probe_is_not_asked_about_while_looks_are_held_back(tape: Tape, bank: Bank) -> None:
    """A pause, or a limit, of looks is one of this look too: its answer is believed, as where nobody can ask."""
    waiting = opened(tape, bank)
    tape.pause("bank", looks=True, **WHO)
    ahead(tape, 31)
    assert "confirmed" in tape.dispatch(*waiting).values()
    assert (state(tape), bank.asked) == (Breaker.CLOSED, [])


def test_a_probe_whose_answer_was_lost_is_waited_for_and_its_look_decides(tape: Tape, bank: Bank) -> None:
    """Nothing goes beside it, however long that takes; the next sweep closes what a look has confirmed."""
    waiting = opened(tape, bank)
    bank.answer = "unknown"
    ahead(tape, 31)
    assert sorted(tape.dispatch(*waiting).values()) == ["breaker_open", "breaker_open", "unknown"]
    [probe] = [key for key in waiting if tape.get(key).status == "UNKNOWN"]
    left = [key for key in waiting if key != probe]
    ahead(tape, 300)
    assert set(tape.dispatch(*left).values()) == {"breaker_open"}
    assert state(tape) is Breaker.HALF_OPEN
    assert tape.observe(probe) == {probe: "confirmed"}
    bank.answer = "confirmed"
    assert tape.sweep().dispatch_hints == 2
    assert state(tape) is Breaker.CLOSED
    assert set(tape.dispatch(*left).values()) == {"confirmed"}


def test_a_probe_that_a_look_does_not_find_opens_it_again(lite: Tape, bank: Bank) -> None:
    waiting = opened(lite, bank)
    bank.answer, bank.seen = "unknown", "absent"
    ahead(lite, 31)
    lite.dispatch(*waiting)
    [probe] = [key for key in waiting if lite.get(key).status == "UNKNOWN"]
    ahead(lite, 31)
    assert lite.observe(probe) == {probe: "failed"}
    assert set(lite.dispatch(*[key for key in waiting if key != probe]).values()) == {"breaker_open"}
    assert state(lite) is Breaker.OPEN


def test_another_probe_goes_when_the_worker_of_the_first_died(lite: Tape, bank: Bank) -> None:
    """Before it called: its lease ends, a look finds nothing. After its answer and before it was told: at its time."""
    first, second, third = opened(lite, bank)
    ahead(lite, 31)
    dies_after_claim(lite, first)
    assert state(lite) is Breaker.HALF_OPEN
    ahead(lite, 29)
    assert lite.dispatch(second) == {second: "breaker_open"}
    lite.sweep()
    ahead(lite, 2)
    lite.sweep()
    assert lite.get(first).status == "UNKNOWN"
    lite.resolve(first, "failed", **WHO)
    assert lite.dispatch(second) == {second: "breaker_open"}
    assert state(lite) is Breaker.OPEN
    ahead(lite, 31)
    assert lite.dispatch(second) == {second: "confirmed"}
    assert state(lite) is Breaker.CLOSED
    assert lite.dispatch(third) == {third: "confirmed"}


def test_a_probe_that_nobody_asked_about_is_followed_by_another(
    lite: Tape, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died between the seal and the question."""
    first, second, _ = opened(lite, bank)
    ahead(lite, 31)
    with monkeypatch.context() as dying:
        dying.setattr(flows, "count", lambda *_: None)
        assert lite.dispatch(first) == {first: "confirmed"}
    assert state(lite) is Breaker.HALF_OPEN
    assert lite.dispatch(second) == {second: "breaker_open"}
    ahead(lite, 31)
    assert lite.dispatch(second) == {second: "confirmed"}
    assert state(lite) is Breaker.CLOSED


class Doomed(Bank):
    """Its process is killed when the upstream is asked about what landed."""

    def observe(self, effect: object) -> ObservationResult:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_process_that_is_killed_before_it_has_asked_about_its_probe_loses_nothing(lite: Tape, bank: Bank) -> None:
    """The probe was counted and is CONFIRMED; another one goes at its time, and closes the breaker."""
    first, second, third = opened(lite, bank)
    url = lite.database.url.render_as_string(hide_password=False)
    shift_ms = lite.database.shift_ms + 31_000
    pid = os.fork()
    if pid == 0:
        try:
            connectors.register(Doomed())
            child = tape_over(url)
            child.database.shift_ms = shift_ms
            child.dispatch(first)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert (lite.get(first).status, state(lite)) == ("CONFIRMED", Breaker.HALF_OPEN)
    lite.database.shift_ms = shift_ms + 15_000
    assert lite.sweep().dispatch_hints == 0
    assert lite.dispatch(second) == {second: "breaker_open"}
    ahead(lite, 31)
    assert lite.sweep().dispatch_hints == 1
    assert lite.dispatch(second) == {second: "confirmed"}
    assert state(lite) is Breaker.CLOSED
    assert lite.dispatch(third) == {third: "confirmed"}
    assert [effect.attempt for effect in map(lite.get, (first, second, third)) if effect] == [1, 1, 1]
    assert lite.audit() == []


def test_a_probe_that_was_cancelled_is_followed_by_another(lite: Tape, bank: Bank) -> None:
    """It says nothing of the upstream."""
    first, second, _ = opened(lite, bank)
    bank.answer = "unsent"
    ahead(lite, 31)
    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(flows, "count", lambda *_: None)
        assert lite.dispatch(first) == {first: "pending"}
    lite.cancel(first, **WHO)
    bank.answer = "confirmed"
    ahead(lite, 31)
    assert lite.dispatch(second) == {second: "confirmed"}
    assert state(lite) is Breaker.CLOSED


def test_a_lease_that_lapsed_is_no_trouble_of_the_upstream(lite: Tape, bank: Bank) -> None:
    """It is the worker that died."""
    lite.breaker("bank", **BREAKER)
    for key in wires(lite, 5):
        dies_after_claim(lite, key)
    ahead(lite, 31)
    assert lite.sweep().lapsed == 5
    [one] = lite.flows()
    assert (one.breaker, one.calls) == (Breaker.CLOSED, 0)


def test_an_upstream_that_cannot_be_asked_is_believed(lite: Tape) -> None:
    class Mute:
        name = "mute"
        answer = "unknown"
        can_observe = False

        def dispatch(self, effect: object) -> DispatchResult:
            return DispatchResult(self.answer)  # type: ignore[arg-type]

    mute = connectors.register(Mute())
    lite.breaker("mute", **BREAKER)
    lite.dispatch(*wires(lite, 4, "mute"))
    [key] = wires(lite, 1, "mute")
    mute.answer = "confirmed"
    ahead(lite, 31)
    assert lite.dispatch(key) == {key: "confirmed"}
    assert state(lite) is Breaker.CLOSED


def test_looks_have_a_breaker_of_their_own(lite: Tape, bank: Bank) -> None:
    """A look that raises, or gets no answer, is trouble; calls go on, and what waits uses no look."""
    lite.breaker("bank", looks=True, **BREAKER)
    lost = wires(lite, 6, request={"answer": "unknown"})
    lite.dispatch(*lost)
    bank.seen = "raises"
    lite.observe(*lost[:4])
    assert state(lite, "look") is Breaker.OPEN
    assert set(lite.observe(*lost[4:]).values()) == {"breaker_open"}
    assert [lite.get(key).looks for key in lost[4:]] == [0, 0]
    assert set(lite.dispatch(*wires(lite, 1)).values()) == {"confirmed"}
    ahead(lite, 31)
    assert sorted(lite.observe(*lost[4:]).values()) == ["breaker_open", "unknown"]
    assert state(lite, "look") is Breaker.OPEN
    bank.seen = "confirmed"
    ahead(lite, 61)
    assert lite.sweep().observe_hints == 1
    assert "confirmed" in lite.observe(*lost).values()
    assert state(lite, "look") is Breaker.CLOSED
    assert set(lite.observe(*lost).values()) <= {"confirmed", "nothing_to_do"}


def test_who_sets_a_breaker_closes_it_and_who_takes_it_away_lets_all_go(lite: Tape, bank: Bank) -> None:
    waiting = opened(lite, bank)
    assert "breaker_open" in lite.dispatch(*waiting).values()
    assert lite.breaker("bank", **BREAKER).breaker is Breaker.CLOSED
    assert set(lite.dispatch(waiting[0]).values()) == {"confirmed"}
    lite.breaker("bank", share=0, **WHO)
    assert lite.flows() == []
    assert lite.sweep().dispatch_hints == 2
    for wrong in ({"share": 2}, {"share": "half"}, {"least": 0}, {"open_seconds": 0}, {"window_seconds": True}):
        with pytest.raises(InvalidIntent):
            lite.breaker("bank", **{**BREAKER, **wrong})  # type: ignore[arg-type]
