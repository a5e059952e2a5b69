"""Recording and closing, walking and walking: at the same moment, on real databases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tape_celery.connectors.base import CompensationResult
from tape_celery.errors import RunClosed
from tape_celery.records import EffectStatus, ObligationStatus, RunStatus
from tape_celery.store import runs, walks
from tests.invariants import broken_invariants
from tests.state.stage import CONFIRMED, Stage
from tests.store.steps import before_statement, together

BY = {"reason": "the customer left", "actor": "a person"}
OVER = (EffectStatus.FAILED, EffectStatus.CANCELLED)


@pytest.fixture(params=["postgresql", "postgresql15", "mariadb"])
def far_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A stage on each database server, where two transactions can be open at once."""
    made = Stage(request.getfixturevalue(f"ready_{request.param}_url"))
    yield made
    assert broken_invariants(made.tape.database) == []
    made.close()


def test_an_intent_that_was_committed_after_the_walk_was_over_is_never_sent_and_is_cancelled(far_stage: Stage) -> None:
    """The recorder looks, the run is closed and walked to its end, and only then the recorder commits."""
    stage = far_stage
    first = stage.record(run_id="order")
    run = stage.tape.run("order")
    close = lambda: run.compensate(**BY)  # noqa: E731
    with before_statement(stage.tape.database, "INSERT INTO tape_effects", close) as met:
        late = stage.record(run_id="order", ordering_key="o-1")  # with which nothing is recorded at once
    assert len(met) == 1
    assert stage.get(first).status is EffectStatus.CANCELLED
    assert (run.status, stage.get(late).status) == (RunStatus.COMPENSATED, EffectStatus.PENDING)
    stage.connector.answers.append(CONFIRMED)
    stage.tape.dispatch(late)
    assert stage.connector.dispatched == []
    stage.move_time(6)
    stage.tape.sweep()
    assert (run.status, stage.get(late).status) == (RunStatus.COMPENSATED, EffectStatus.CANCELLED)


def test_recorders_dispatchers_and_a_closer_at_once_forget_nothing(stage: Stage) -> None:
    """Whatever won, each effect ends cancelled, or confirmed and undone."""
    stage.connector.answers.extend([CONFIRMED] * 100)
    stage.connector.inverses.extend([CompensationResult("compensated")] * 100)
    for number in range(4):
        run = stage.tape.run(f"order-{number}")
        stage.record(run_id=run.run_id)

        def record_and_dispatch(run_id: str = run.run_id) -> None:
            for _ in range(3):
                with contextlib.suppress(RunClosed):
                    stage.tape.dispatch(stage.record(run_id=run_id))

        def close(run_id: str = run.run_id) -> None:
            stage.tape.compensate_run(run_id, **BY)

        together([record_and_dispatch, record_and_dispatch, close, record_and_dispatch])
        for _ in range(40):
            stage.move_time(40)
            stage.tape.sweep()
            stage.tape.compensate(*[debt.obligation_key for debt in run.obligations])
            if run.status is RunStatus.COMPENSATED and all(e.status.settled for e in run.effects):
                break
        landed = [effect for effect in run.effects if effect.status not in OVER]
        assert {effect.status for effect in landed} <= {EffectStatus.CONFIRMED}
        undone = {debt.effect_key for debt in run.obligations if debt.status is ObligationStatus.COMPENSATED}
        assert undone == {effect.effect_key for effect in landed}
        assert len(run.obligations) == len(undone)


def test_many_that_walk_one_run_owe_each_effect_once_and_in_turn(stage: Stage) -> None:
    keys = []
    for _ in range(3):
        keys.append(stage.record(run_id="order"))
        stage.dispatch(keys[-1], CONFIRMED)
        stage.move_time(0.01)
    runs.close(stage.tape.database, "order", RunStatus.COMPENSATING, **BY)
    run = stage.tape.run("order")

    def walk() -> list[str]:
        return walks.walk(stage.tape.database, "order", terms=stage.tape.engine.terms, actor="w", sweep_ms=1000).owed

    for key in reversed(keys):
        found = [owed for walked in together([walk] * 5) for owed in walked]
        (debt,) = [debt for debt in run.obligations if debt.status is not ObligationStatus.COMPENSATED]
        assert (debt.effect_key, found) == (key, [debt.obligation_key])
        stage.connector.inverses.append(CompensationResult("compensated"))
        stage.tape.engine.compensate([debt.obligation_key])
    together([walk] * 5)
    assert run.status is RunStatus.COMPENSATED


def test_a_step_that_was_decided_on_what_has_moved_since_is_made_again(far_stage: Stage) -> None:
    """Between the look at the run and its step an obligation is stopped: the step that follows from it is taken."""
    stage = far_stage
    older, newer = stage.record(run_id="order"), stage.record(run_id="order")
    for key in (older, newer):
        stage.dispatch(key, CONFIRMED)
    run = stage.tape.compensate_run("order", **BY)
    (debt,) = run.obligations

    def pay() -> None:
        stage.connector.inverses.append(CompensationResult("compensated"))
        stage.tape.engine.compensate([debt.obligation_key])

    with before_statement(stage.tape.database, "UPDATE tape_runs", pay) as met:
        stage.tape._walk(["order"])
    assert met
    assert len(run.obligations) == 2
