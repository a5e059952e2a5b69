"""Runs and intents that are part of the app's own transaction, which may stay open for as long as it likes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from tape_celery.errors import RunClosed
from tape_celery.records import EffectStatus, RunStatus
from tests.invariants import broken_invariants
from tests.state.stage import CONFIRMED, Stage

BY = {"reason": "the customer left", "actor": "a person"}


@pytest.fixture
def engine(stage: Stage) -> Iterator[Engine]:
    """The app's own way to the store's database."""
    made = create_engine(stage.tape.database.url)
    yield made
    made.dispose()


@pytest.fixture
def stage(ready_postgresql_url: str) -> Iterator[Stage]:
    made = Stage(ready_postgresql_url)
    yield made
    assert broken_invariants(made.tape.database) == []
    made.close()


def test_an_intent_that_commits_after_its_run_was_ended_is_never_sent_and_is_cancelled(
    stage: Stage, engine: Engine
) -> None:
    stage.record(run_id="order")
    with engine.begin() as connection:
        late = stage.record(run_id="order", session=connection)
        run = stage.tape.compensate_run("order", **BY)
        assert run.status is RunStatus.COMPENSATED
    assert stage.get(late).status is EffectStatus.PENDING
    stage.tape.dispatch(late)
    assert stage.connector.dispatched == []
    stage.move_time(6)
    stage.tape.sweep()
    assert (stage.get(late).status, run.status) == (EffectStatus.CANCELLED, RunStatus.COMPENSATED)


def test_a_closed_run_refuses_the_intent_and_leaves_the_transaction_usable(stage: Stage, engine: Engine) -> None:
    stage.record(run_id="order")
    stage.tape.compensate_run("order", **BY)
    with engine.begin() as connection:
        with pytest.raises(RunClosed):
            stage.record(run_id="order", session=connection)
        other = stage.record(run_id="another", session=connection)
    assert stage.get(other).status is EffectStatus.PENDING


def test_an_effect_is_shared_when_the_transaction_that_was_given_it_commits(stage: Stage, engine: Engine) -> None:
    keys = [stage.record(run_id="order", business_key=name) for name in ("kept", "not kept")]
    with engine.begin() as connection:
        assert stage.record(run_id="another", business_key="kept", session=connection) == keys[0]
    with engine.connect() as connection:
        assert stage.record(run_id="another", business_key="not kept", session=connection) == keys[1]
        connection.rollback()
    assert [stage.get(key).shared for key in keys] == [True, False]
    for key in keys:
        assert stage.dispatch(key, CONFIRMED) == "confirmed"
