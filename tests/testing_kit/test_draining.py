"""`drain` does what workers and the sweep do, and says what is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tape_celery import Tape, tape_effect
from tape_celery.connectors import clear, register
from tape_celery.errors import EffectFailed, NotAtRest
from tape_celery.testing import Drained, ScriptedConnector, TapeClock, fail, fail_then_confirm, lose_ack

Drain = Callable[..., Drained]


def test_what_was_said_is_done(tape: Tape, scripted_connector: ScriptedConnector, drain: Drain) -> None:
    """An effect said through the unbound `tape_effect` goes through the whole pipeline at one call of `drain`."""
    handle = tape_effect.delay("bank.wire", {"amount": 100}, business_key="invoice-1")
    drained = drain()
    assert handle.get(timeout=1) == {}
    assert [landing.request for landing in scripted_connector.landed("invoice-1")] == [{"amount": 100}]
    assert drained.count("dispatch", "confirmed") == len(drained.done) == 1
    assert drained.left == []
    assert tape.audit(live=True) == []


def test_a_lost_answer_is_asked_for_and_the_call_is_not_repeated(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    scripted_connector.script("lose_ack")
    handle = tape.effect.delay("bank.wire", {"amount": 100}, business_key="invoice-1")
    drain()
    assert handle.status == "CONFIRMED"
    assert handle.effect is not None
    assert handle.effect.external_ref == scripted_connector.landings[0].ref
    assert len(scripted_connector.calls) == len(scripted_connector.asked) == 1


def test_what_landed_twice_is_confirmed_and_the_extra_is_undone(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    scripted_connector.script("duplicate")
    handle = tape.effect.delay("bank.wire", {"amount": 100}, business_key="invoice-1")
    drained = drain()
    assert handle.status == "CONFIRMED"
    assert drained.count("compensate", "compensated") == 1
    first, second = scripted_connector.landings
    assert [reversal.ref for reversal in scripted_connector.reversals] == [second.ref]
    assert [landing.ref for landing in scripted_connector.landed("invoice-1")] == [first.ref]


def test_what_is_due_later_is_left_until_time_is_moved(
    tape: Tape, tape_clock: TapeClock, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    """A countdown of an hour passes when the test says so."""
    handle = tape.effect.apply_async(("bank.wire", {"amount": 1}), {"business_key": "b-1"}, countdown=3600)
    assert [row.effect_key for row in drain().left if hasattr(row, "semantics")] == [handle.id]
    tape_clock.advance(minutes=59)
    drain()
    assert scripted_connector.calls == []
    tape_clock.advance(minutes=1)
    drain()
    assert handle.status == "CONFIRMED"


def test_advance_goes_from_one_due_moment_to_the_next(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    """Three attempts an hour apart are one call of `drain`, and no waiting."""
    scripted_connector.script(fail_then_confirm(2, retry_in=3600))
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    drained = drain(advance=True)
    assert handle.status == "CONFIRMED"
    assert len(scripted_connector.calls) == 3
    assert 7190 < drained.advanced_seconds <= 7200


def test_an_absence_is_believed_only_when_it_has_settled(
    tape: Tape, tape_clock: TapeClock, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    """Without moving time the effect stays UNKNOWN; the watch an hour later is waited for when asked."""
    scripted_connector.settle_seconds = 600.0  # longer than any machine takes for this
    scripted_connector.script("lost_before")
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    drain()
    assert handle.status == "UNKNOWN"
    drain(advance=True)
    assert handle.status == "FAILED"
    with pytest.raises(EffectFailed):
        handle.get(timeout=1)
    before = len(scripted_connector.asked)
    assert drain(advance=True, watches=True).advanced_seconds > 80_000
    assert len(scripted_connector.asked) == before + 2


def test_what_was_hidden_from_a_look_is_the_contradiction_that_the_watch_is_for(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    """It landed, the upstream's list showed it after ten minutes, and the watch finds it: STUCK, for a person."""
    scripted_connector.script(lose_ack(hidden_for=600))
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    drain(advance=True)
    assert handle.status == "FAILED"
    drained = drain(advance=True, watches=True)
    assert handle.status == "STUCK"
    assert [row.status for row in drained.left] == ["STUCK"]
    assert "left" in str(drained)


def test_the_lease_of_a_dead_worker_is_ended_when_time_passes_it(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    """A claim whose worker died before it called: nothing landed, and a look finds that out."""
    from tape_celery.store import claims
    from tape_celery.store.rows import EFFECTS

    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    reach = tape.engine.reach()
    assert claims.claim(tape.database, EFFECTS, [handle.id], verb="call", reach=reach, actor="the dead worker")
    assert drain().lapsed == 0
    drained = drain(advance=True)
    assert (drained.lapsed, handle.status, scripted_connector.calls) == (1, "FAILED", [])


def test_a_connector_that_nobody_registered_is_told(tape: Tape, drain: Drain) -> None:
    """Workers leave such a row alone; a test is told, with the row."""
    clear()
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    with pytest.raises(NotAtRest, match="not registered") as caught:
        drain()
    [line] = caught.value.due
    assert handle.id in line
    assert "'bank.wire'" in line


def test_what_never_rests_is_told_and_bounded(tape: Tape, scripted_connector: ScriptedConnector, drain: Drain) -> None:
    scripted_connector.script(*[fail("busy", retry_in=0)] * 50)
    handle = tape.effect.apply_async(("bank.wire", {"amount": 1}), {"business_key": "b-1", "max_attempts": 50})
    with pytest.raises(NotAtRest, match="20 passes") as caught:
        drain(most_passes=20)
    assert handle.id in str(caught.value)


def test_rows_go_one_after_another_in_the_order_in_which_they_were_said(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    """So a script by the order of calls means what it says."""
    keys = [f"b-{number}" for number in range(30)]
    for key in keys:
        tape.effect.delay("bank.wire", {"key": key}, business_key=key)
    drain()
    assert [call.business_key for call in scripted_connector.calls] == keys


def test_what_is_urgent_goes_first(tape: Tape, scripted_connector: ScriptedConnector, drain: Drain) -> None:
    for key, priority in (("b-1", 0), ("b-2", 9), ("b-3", 5)):
        tape.effect.apply_async(("bank.wire", {"key": key}), {"business_key": key}, priority=priority)
    drain()
    assert [call.business_key for call in scripted_connector.calls] == ["b-2", "b-3", "b-1"]


def test_a_run_is_walked_back_newest_first(tape: Tape, scripted_connector: ScriptedConnector, drain: Drain) -> None:
    """What an exception out of a run leaves to workers and sweep is one `drain`."""
    with tape.run("order-42"):
        for key in ("b-1", "b-2", "b-3"):
            tape.effect.delay("bank.wire", {"key": key}, business_key=key)
    drain()
    refs = [landing.ref for landing in scripted_connector.landings]
    tape.compensate_run("order-42", reason="the customer left", actor="ann")
    drain(advance=True)
    assert [reversal.ref for reversal in scripted_connector.reversals] == refs[::-1]
    assert tape.run("order-42").status == "COMPENSATED"


def test_what_is_held_for_a_person_is_left(tape: Tape, scripted_connector: ScriptedConnector, drain: Drain) -> None:
    """It waits for as long as it takes; once it is released it goes."""
    for key in ("b-1", "b-2"):
        options = {"business_key": key, "hold_similar": {"fields": ["amount"], "within": 3600}}
        last = tape.effect.delay("bank.wire", {"amount": 100, "key": key}, **options)
    assert [row.status for row in drain(advance=True).left] == ["HELD"]
    assert len(scripted_connector.calls) == 1
    tape.release(last.id, reason="both are meant", actor="ann")
    assert drain().left == []
    assert len(scripted_connector.calls) == 2


def test_a_clock_does_not_go_back(tape_clock: TapeClock) -> None:
    before = tape_clock.now_ms
    with pytest.raises(ValueError, match="only goes on"):
        tape_clock.advance(seconds=-1)
    assert tape_clock.now_ms - before < 60_000
    assert tape_clock.tick() is None


def test_a_connector_registered_in_a_test_is_the_one_that_is_called(tape: Tape, drain: Drain) -> None:
    mine = ScriptedConnector("mine", ["lose_ack"])
    register(mine)
    handle = tape.effect.delay("mine", {"amount": 1}, business_key="b-1")
    drain()
    assert handle.status == "CONFIRMED"
