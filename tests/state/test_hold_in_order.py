"""A HELD effect of an ordering key keeps its place: those behind it wait, for a person too, and nobody is forgotten."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tape_celery.engine import Outcome
from tape_celery.similar import HoldSimilar
from tests.state.stage import CONFIRMED, FAILED, LOST, S, Stage

KEY = "account-7"
RULE = HoldSimilar(fields=("amount",), within=3600)


def record(stage: Stage, **keywords: Any) -> str:
    return stage.record(ordering_key=KEY, **keywords)


def line(stage: Stage, **options: Any) -> tuple[str, str, str]:
    """One that looks like the first of its key and is HELD, between that and another."""
    first = record(stage, hold_similar=RULE)
    keywords = {"business_key": uuid.uuid4().hex, "hold_similar": RULE, "ordering_key": KEY}
    held = str(stage.tape.effect.apply_async(("scripted", {"amount": 1}), keywords, **options).id)
    behind = record(stage)
    assert [stage.get(key).status for key in (first, held, behind)] == [S.PENDING, S.HELD, S.PENDING]
    return first, held, behind


def hinted(stage: Stage) -> list[str]:
    """The keys that are hinted from now on."""
    hints: list[str] = []
    stage.tape.hint = lambda verb, connector, keys, **_: hints.extend(keys) is None  # type: ignore[method-assign]
    return hints


@pytest.mark.parametrize("answer", [CONFIRMED, FAILED])
def test_it_holds_its_key_and_is_passed_by_nobody(stage: Stage, answer: Any) -> None:
    """The one before it is sent and its end wakes nobody; no sweep hints the one behind, however late it is."""
    first, held, behind = line(stage)
    assert stage.dispatch(behind, CONFIRMED) is Outcome.WAITING_ITS_TURN
    stage.connector.answers[:] = [answer]
    assert stage.tape.engine.dispatch([first]).to_dispatch == []
    assert stage.dispatch(behind, CONFIRMED) is Outcome.WAITING_ITS_TURN
    hints = hinted(stage)
    for _ in range(3):
        stage.lapse(700)
    assert hints == []
    assert stage.dispatch(held, CONFIRMED) is Outcome.NOTHING_TO_DO
    assert [effect.effect_key for effect in stage.connector.dispatched] == [first]


def test_released_before_its_turn_it_waits_for_that(stage: Stage) -> None:
    """Its place is that of its recording, whenever a person came; an UNKNOWN before it holds it too."""
    first, held, behind = line(stage)
    stage.tape.release(held, reason="r", actor="ann")
    assert stage.dispatch(held, CONFIRMED) is Outcome.WAITING_ITS_TURN
    assert stage.dispatch(first, LOST) is Outcome.UNKNOWN
    assert stage.dispatch(held, CONFIRMED) is Outcome.WAITING_ITS_TURN
    hints = hinted(stage)
    stage.tape.resolve(first, "confirmed", reason="r", actor="ann")
    assert hints == [held]
    assert stage.dispatch(behind, CONFIRMED) is Outcome.WAITING_ITS_TURN
    for key in (held, behind):
        assert stage.dispatch(key, CONFIRMED) is Outcome.CONFIRMED
    assert [effect.effect_key for effect in stage.connector.dispatched] == [first, held, behind]


def test_released_in_its_turn_it_is_sent_and_then_the_one_behind_it(stage: Stage) -> None:
    first, held, behind = line(stage)
    assert stage.dispatch(first, CONFIRMED) is Outcome.CONFIRMED
    hints = hinted(stage)
    stage.tape.release(held, reason="r", actor="ann")
    assert hints == [held]
    assert stage.dispatch(behind, CONFIRMED) is Outcome.WAITING_ITS_TURN
    stage.connector.answers[:] = [CONFIRMED]
    report = stage.tape.engine.dispatch([held])
    assert [effect.effect_key for effect in report.to_dispatch] == [behind]


@pytest.mark.parametrize("way", ["cancel", "expiry", "release too late"])
def test_however_it_is_turned_down_the_one_behind_it_is_next(stage: Stage, way: str) -> None:
    """It is hinted at once where a person did it, and found by the same sweep where that did."""
    first, held, behind = line(stage, expires=60)
    assert stage.dispatch(first, CONFIRMED) is Outcome.CONFIRMED
    stage.move_time(31)
    stage.tape.sweep()  # the one behind it is left alone for a while
    hints = hinted(stage)
    if way == "cancel":
        stage.tape.cancel(held, reason="r", actor="ann")
    else:
        stage.move_time(31)
        _ = stage.tape.sweep() if way == "expiry" else stage.tape.release(held, reason="r", actor="ann")
    assert stage.get(held).status is S.CANCELLED
    assert hints == [behind]
    assert stage.dispatch(behind, CONFIRMED) is Outcome.CONFIRMED


@pytest.mark.parametrize("way", ["cancel", "release"])
def test_turned_down_before_its_turn_it_wakes_nobody_too_soon(stage: Stage, way: str) -> None:
    """The first is still to come."""
    first, held, behind = line(stage, expires=60)
    hints = hinted(stage)
    if way == "release":
        stage.move_time(61)
    getattr(stage.tape, way)(held, reason="r", actor="ann")
    assert (stage.get(held).status, hints) == (S.CANCELLED, [])
    assert stage.dispatch(behind, CONFIRMED) is Outcome.WAITING_ITS_TURN
    stage.connector.answers[:] = [FAILED]
    assert [effect.effect_key for effect in stage.tape.engine.dispatch([first]).to_dispatch] == [behind]
