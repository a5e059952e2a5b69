"""Signals follow what was committed, once, with the row as it is then."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tape_celery import EffectStatus, signals
from tape_celery.connectors.base import CompensationResult, ObservationResult
from tape_celery.errors import NotAllowed
from tape_celery.similar import HoldSimilar
from tests.state.stage import CONFIRMED, FAILED, LOST, Stage

Heard = list[tuple[str, Any, dict[str, Any]]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Every signal that is sent: its type, its sender, its arguments."""
    found: Heard = []
    receivers: list[tuple[Any, Callable[..., None]]] = []
    for type_, signal in signals.BY_TYPE.items():

        def receive(sender: Any, type_: str = type_, **told: Any) -> None:
            found.append((type_, sender, {name: told[name] for name in told if name != "signal"}))

        signal.connect(receive, weak=False)
        receivers.append((signal, receive))
    yield found
    for signal, receive in receivers:
        signal.disconnect(receive)


def types(heard: Heard) -> list[str]:
    return [type_ for type_, _, _ in heard]


def test_an_answer_and_its_loss_are_told(stage: Stage, heard: Heard) -> None:
    """Confirmed, failed, unknown and then found: each once, from the connector, with the row as it is stored."""
    landed, refused, lost = stage.record(), stage.record(), stage.record()
    stage.dispatch(landed, CONFIRMED)
    stage.dispatch(refused, FAILED)
    stage.dispatch(lost, LOST)
    stage.observe(lost, ObservationResult("confirmed", external_ref="r"))
    assert types(heard) == ["effect.confirmed", "effect.failed", "effect.unknown", "effect.confirmed"]
    assert {sender for _, sender, _ in heard} == {"scripted"}
    assert [told["before"] for _, _, told in heard] == ["DISPATCHING", "DISPATCHING", "DISPATCHING", "UNKNOWN"]
    assert [told["effect"].effect_key for _, _, told in heard] == [landed, refused, lost, lost]
    assert heard[0][2]["effect"] == stage.get(landed)


def test_what_people_do_is_told(stage: Stage, heard: Heard) -> None:
    """Cancelled; STUCK and resolved; held and released, where what follows is its own news."""
    stage.tape.cancel(stage.record(), reason="not meant", actor="ada")
    stuck = stage.record()
    stage.dispatch(stuck, LOST)
    stage.connector.can_observe = False
    stage.observe(stuck, ObservationResult("absent"))
    stage.tape.resolve(stuck, "confirmed", reason="seen in their books", actor="ada")
    assert types(heard) == ["effect.cancelled", "effect.unknown", "effect.stuck", "effect.confirmed"]
    assert heard[2][2]["effect"].reason


def test_what_is_held_is_told_when_it_is_recorded(stage: Stage, heard: Heard) -> None:
    """By `delay`, by `delay_many`, and not again when somebody asks for the same."""
    hold = HoldSimilar(("amount",), 60)
    caller = stage.tape.effect
    caller.delay("scripted", {"amount": 1}, business_key="one", hold_similar=hold)
    assert heard == []
    twin = caller.delay("scripted", {"amount": 1}, business_key="two", hold_similar=hold)
    caller.delay("scripted", {"amount": 1}, business_key="two", hold_similar=hold)
    item = {"connector": "scripted", "request": {"amount": 1}, "business_key": "three", "hold_similar": hold}
    [third] = caller.delay_many([item])
    assert types(heard) == ["effect.held", "effect.held"]
    assert [told["effect"].effect_key for _, _, told in heard] == [twin.id, third.id]
    assert {told["before"] for _, _, told in heard} == {""}


def test_obligations_and_runs_are_told(stage: Stage, heard: Heard) -> None:
    """An inverse that is done ends its run; one that cannot be done makes it STUCK."""
    for run, inverse in (("well", CompensationResult("compensated")), ("badly", _final())):
        stage.dispatch(stage.record(run_id=run), CONFIRMED)
        heard.clear()
        stage.tape.compensate_run(run, reason="the customer went away", actor="ada")
        [owed] = stage.tape.obligations(run_id=run)
        stage.compensate(owed.obligation_key, inverse)
        word = "compensated" if run == "well" else "stuck"
        assert types(heard) == [f"obligation.{word}", f"run.{word}"]
        assert heard[0][2]["obligation"].run_id == run
        assert heard[1][1] is None
        assert heard[1][2]["run"].run_id == run


def _final() -> CompensationResult:
    return CompensationResult("failed", error={"final": True, "message": "too late"})


def test_a_receiver_sees_the_committed_row(stage: Stage, heard: Heard) -> None:
    """No transaction is open while it runs: it may read and act."""
    seen = []

    def receive(sender: Any, effect: Any, **_: Any) -> None:
        found = stage.tape.get(effect.effect_key)
        assert found is not None
        seen.append(found.status)
        stage.tape.owe(effect.effect_key, reason="a receiver's", actor="receiver")

    signals.effect_confirmed.connect(receive, sender="scripted")
    try:
        key = stage.record()
        stage.dispatch(key, CONFIRMED)
    finally:
        signals.effect_confirmed.disconnect(receive, sender="scripted")
    assert seen == [EffectStatus.CONFIRMED]
    assert len(stage.tape.obligations(effect_key=key)) == 1


def test_a_receiver_that_raises_changes_nothing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the seal stands, and the next receiver is called."""
    called = []

    def breaks(**_: Any) -> None:
        raise ZeroDivisionError("a receiver's own")

    def works(**_: Any) -> None:
        called.append(1)

    signals.effect_confirmed.connect(breaks)
    signals.effect_confirmed.connect(works)
    try:
        with caplog.at_level(logging.ERROR):
            key = stage.record()
            stage.dispatch(key, CONFIRMED)
    finally:
        signals.effect_confirmed.disconnect(breaks)
        signals.effect_confirmed.disconnect(works)
    assert stage.get(key).status is EffectStatus.CONFIRMED
    assert called == [1]
    assert "a receiver's own" in caplog.text


def test_a_receiver_of_one_connector_hears_no_other(stage: Stage) -> None:
    """``sender`` is the connector's name."""
    called = []

    def receive(**_: Any) -> None:
        called.append(1)

    signals.effect_confirmed.connect(receive, sender="bank.wire")
    try:
        stage.dispatch(stage.record(), CONFIRMED)
    finally:
        signals.effect_confirmed.disconnect(receive, sender="bank.wire")
    assert called == []


def test_what_changes_nothing_is_not_told(stage: Stage, heard: Heard) -> None:
    """A refused act, an effect that is asked for again, a look that brings nothing, a claim."""
    key = stage.record(idempotency_key="same")
    stage.record(idempotency_key="same", business_key=stage.get(key).business_key)
    stage.dispatch(key, LOST)
    heard.clear()
    stage.observe(key, ObservationResult("absent"))
    with pytest.raises(NotAllowed):
        stage.tape.reissue(key, reason="too early", actor="ada")
    assert heard == []
