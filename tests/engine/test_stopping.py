"""What a worker begins, once it was asked to stop: nothing; and how long it holds on to what it has begun."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from sqlalchemy import text

from tape_celery import engine
from tape_celery.connectors.base import CompensationResult, DispatchResult
from tape_celery.engine import Outcome
from tape_celery.lease import monotonic
from tape_celery.records import Effect
from tests.servers import until
from tests.state.stage import CONFIRMED, Stage


@pytest.fixture(params=["sqlite", "postgresql"])
def ready_url(request: pytest.FixtureRequest) -> str:
    """Nothing of it is SQL of its own: two kinds of stores are enough."""
    return str(request.getfixturevalue(f"ready_{request.param}_url"))


@pytest.fixture(autouse=True)
def worker(stage: Stage) -> Iterator[Any]:
    """What Celery tells of a worker that runs in this process; its soft shutdown waits for nothing."""
    started = SimpleNamespace(hostname="w@here", app=stage.tape.app, wait_for_soft_shutdown=lambda: None)
    stage.tape.stopping.begin(started)
    yield started
    stage.tape.stopping.end("w@here")


def ask() -> None:
    """As Celery's handler of SIGTERM does."""
    signals.worker_shutting_down.send(sender="w@here", sig="SIGTERM", how="Warm", exitcode=0)


def test_a_worker_that_was_asked_to_stop_claims_nothing_and_gives_its_hint_back(stage: Stage) -> None:
    key = stage.record()
    ask()
    assert stage.tape.dispatch(key) == {key: Outcome.STOPPING}
    stage.tape._publishing().flush()
    with stage.tape.app.connection() as broker:
        hints = broker.SimpleQueue("tape.dispatch")
        hints.clear()
        stage.tape.app.tasks["tape.dispatch"]([key])
        assert hints.get(timeout=5).payload[0][0] == [key]
    assert stage.kinds(key) == ["recorded"]
    assert stage.connector.dispatched == []


def test_what_waited_for_room_is_not_claimed_when_there_is_some(stage: Stage) -> None:
    keys = [stage.record(), stage.record()]
    room = stage.tape.engine._room
    outcomes: list[dict[str, Outcome]] = []
    waiting = threading.Thread(target=lambda: outcomes.append(stage.tape.dispatch(*keys)))
    with room.taken(engine.MOST_CALLS_AT_ONCE):
        waiting.start()
        until(room._own._turn.locked, what="somebody who waits for room")
        ask()
    waiting.join()
    assert outcomes == [dict.fromkeys(keys, Outcome.STOPPING)]
    assert stage.connector.dispatched == []


def test_what_was_claimed_and_not_begun_is_handed_back_unsent_and_due_at_once(stage: Stage) -> None:
    """It uses no attempt; what is under way ends as it would."""
    keys = [stage.record() for _ in range(4)]
    began, answer = threading.Event(), threading.Event()

    def slow(_: Effect) -> DispatchResult:
        if not began.is_set():
            began.set()
            ask()
            answer.wait(10)
        return CONFIRMED

    stage.connector.answers = [slow] * 4
    threading.Timer(0.1, answer.set).start()
    report = stage.tape.engine.dispatch(keys)
    called = {effect.effect_key for effect in stage.connector.dispatched}
    back = set(keys) - called
    assert {effect.effect_key for effect in report.to_dispatch} == back != set()
    for key in keys:
        effect = stage.get(key)
        assert (effect.status, effect.attempt) == (("CONFIRMED", 1) if key in called else ("PENDING", 0))
    stage.tape.stopping.end("w@here")
    assert stage.tape.dispatch(*back) == dict.fromkeys(back, Outcome.CONFIRMED)


def test_an_inverse_is_not_begun_either(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    key = stage.record()
    stage.dispatch(key, CONFIRMED)
    [owed] = stage.tape.owe(key, reason="test", actor="ann") and stage.tape.obligations(effect_key=key)
    told = iter([False, True])
    monkeypatch.setattr(stage.tape.engine, "_stopping", lambda: next(told))  # asked for between claim and call
    report = stage.tape.engine.compensate([owed.obligation_key])
    assert report.to_compensate == [owed.obligation_key]
    [again] = stage.tape.obligations(effect_key=key)
    assert (again.status, again.attempt) == ("PENDING", 0)
    assert stage.connector.compensated == []
    monkeypatch.undo()
    assert stage.compensate(owed.obligation_key, CompensationResult("compensated")) == Outcome.COMPENSATED


def test_a_seal_is_not_tried_for_longer_than_a_worker_may_take_to_stop(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SEAL_WHILE_STOPPING_SECONDS", 0.1)
    key = stage.record()

    def stop_without_a_store(_: Effect) -> DispatchResult:
        with stage.tape.database._engine.begin() as other:
            other.execute(text("ALTER TABLE tape_journal RENAME TO away"))
        ask()
        return CONFIRMED

    began = monotonic()
    assert stage.dispatch(key, stop_without_a_store) == Outcome.NOT_SEALED
    assert monotonic() - began < engine.SEAL_FOR_SECONDS / 2
    with stage.tape.database._engine.begin() as other:
        other.execute(text("ALTER TABLE away RENAME TO tape_journal"))


def test_a_cold_shutdown_asks_before_it_waits(stage: Stage, worker: Any) -> None:
    """Celery waits `worker_soft_shutdown_timeout` first and tells then."""
    assert not stage.tape.stopping.asked()
    worker.wait_for_soft_shutdown()
    assert stage.tape.stopping.asked()


def test_another_worker_of_the_process_is_nothing_to_it(stage: Stage) -> None:
    signals.worker_shutting_down.send(sender="other@here", sig="SIGTERM", how="Warm", exitcode=0)
    assert not stage.tape.stopping.asked()
    stage.tape.stopping.end("other@here")
    ask()
    assert stage.tape.stopping.asked()
