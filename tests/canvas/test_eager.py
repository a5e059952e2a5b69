"""`task_always_eager`: what workers would do is done in this process, as soon as it is due, whoever asked for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from tape_celery import Tape, connectors
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult


class Bank:
    """It answers as its request says; what it was asked about, it says was booked."""

    name = "eager.bank"

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult(effect.request["answer"], external_ref="w-1", response={})

    def observe(self, effect: Any) -> ObservationResult:
        return ObservationResult("confirmed", external_ref="w-1", response={"seen": True})

    def compensate(self, obligation: Any) -> CompensationResult:
        return CompensationResult("compensated")


@pytest.fixture
def tape(tmp_path: Path) -> Iterator[Tape]:
    app = Celery("eager")  # and no broker
    app.conf.task_always_eager = True
    tape = Tape(app, store_url=f"sqlite:///{tmp_path}/tape.db", settle_seconds=0)
    tape.database.ready()
    connectors.register(Bank())
    yield tape
    connectors.clear()
    tape.database.close()


def test_many_at_once_have_ended_when_it_returns(tape: Tape) -> None:
    """Those whose answer was lost have been looked at; what is not due yet has not been sent."""
    item = {"connector": "eager.bank"}
    handles = tape.effect.delay_many(
        [
            {**item, "request": {"answer": "confirmed"}, "business_key": "a"},
            {**item, "request": {"answer": "unknown"}, "business_key": "b"},
            {**item, "request": {"answer": "failed"}, "business_key": "c"},
            {**item, "request": {"answer": "confirmed"}, "business_key": "d", "countdown": 60},
        ]
    )
    assert [handle.status for handle in handles] == ["CONFIRMED", "CONFIRMED", "FAILED", "PENDING"]
    assert handles[1].get() == {"seen": True}
    tape.database.shift_ms += 61_000
    tape.sweep()
    assert handles[3].status == "CONFIRMED"


def test_in_the_apps_transaction_it_has_ended_when_the_commit_returns(tape: Tape) -> None:
    """And nothing was sent before."""
    with Session(create_engine(tape.database.url)) as session:
        handle = tape.effect.delay("eager.bank", {"answer": "confirmed"}, business_key="a", session=session)
        assert session.in_transaction()
        session.commit()
        assert handle.status == "CONFIRMED"
        undone = tape.effect.delay("eager.bank", {"answer": "confirmed"}, business_key="b", session=session)
        session.rollback()
    assert tape.get(undone.id) is None


def test_what_is_owed_has_been_compensated_when_it_returns(tape: Tape) -> None:
    """As what a person asks for is."""
    handle = tape.effect.delay("eager.bank", {"answer": "confirmed"}, business_key="a")
    tape.owe(handle.id, reason="a test", actor="ann")
    assert [debt.status for debt in tape.obligations()] == ["COMPENSATED"]
