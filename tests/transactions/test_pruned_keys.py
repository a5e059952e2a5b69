"""A transaction of the app's that began before a prune does not see what the prune left, and takes no key of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from tape_celery import Tape, connectors
from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import StoreUnavailable
from tests.retention.test_prune import later
from tests.store.steps import before_statement
from tests.transactions.conftest import pay
from tests.transactions.test_races import one_waits, server_tape

__all__ = ["server_tape"]

KEYS = {"business key": {"business_key": "b-1"}, "idempotency key": {"idempotency_key": "i-1"}}
LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
Pay = Callable[..., str]


class Bank:
    """An upstream that books whatever comes."""

    name = "bank"

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult("confirmed", "w-1")


@pytest.fixture(autouse=True)
def _bank() -> Iterator[None]:
    connectors.register(Bank())
    yield
    connectors.clear()


@pytest.fixture(params=LEVELS)
def engine(request: pytest.FixtureRequest, server_tape: Tape) -> Iterator[Engine]:
    """The app's own engine on that server, once of each level."""
    made = create_engine(server_tape.database.url, isolation_level=request.param)
    yield made
    made.dispose()


def pay_one(tape: Tape, session: Session, **keys: str) -> str:
    return pay(tape, session, **keys)


def pay_many(tape: Tape, session: Session, **keys: str) -> str:
    other = {"connector": "bank", "request": {"amount": 2}, "allow_unsafe": True}
    handles = tape.effect.delay_many([other, {**other, "request": {"amount": 1}, **keys}], session=session)
    return str(handles[1].id)


def look(session: Session) -> None:
    """Begin the transaction: its snapshot, if it has one, is of this moment, for every table."""
    session.execute(text("SELECT COUNT(*) FROM tape_installation")).all()


def confirmed(tape: Tape, **keys: str) -> str:
    key = pay(tape, None, **keys)
    tape.dispatch(key)
    return key


@pytest.mark.parametrize("door", [pay_one, pay_many])
@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("began", ["before the effect", "before the prune"])
def test_a_key_that_was_pruned_meanwhile_makes_no_second_effect(
    server_tape: Tape, engine: Engine, began: str, keys: dict[str, str], door: Pay
) -> None:
    """It meets what stood for the key, or is to be run again, and meets it then."""
    tape = server_tape
    with Session(engine) as session:
        if began == "before the effect":
            look(session)
        old = confirmed(tape, **keys)
        if began == "before the prune":
            look(session)
        later(tape.database)
        assert tape.prune(2).effects == 1
        try:
            assert door(tape, session, **keys) == old
            session.commit()
        except StoreUnavailable:
            session.rollback()
            assert door(tape, session, **keys) == old
            session.commit()
    assert [effect.request for effect in tape.effects()] == [{"amount": 2}] * (door is pay_many)
    assert tape.audit() == []


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_a_key_that_is_being_pruned_makes_no_second_effect(
    server_tape: Tape, engine: Engine, keys: dict[str, str]
) -> None:
    """The intent waits at the index until the prune is over, whatever its snapshot shows of that."""
    tape = server_tape
    with Session(engine) as session, ThreadPoolExecutor() as threads:
        look(session)
        old = confirmed(tape, **keys)
        later(tape.database)

        def record_meanwhile() -> None:
            racing.append(threads.submit(pay, tape, session, **keys))
            one_waits(engine)

        racing: list[Any] = []
        # By then the effect's row is deleted, and its tombstone written: neither is committed.
        with before_statement(tape.database, "DELETE FROM tape_journal", record_meanwhile) as met:
            assert tape.prune(2).effects == 1
        assert len(met) == 1
        try:
            assert racing[0].result(30) == old
            session.commit()
        except StoreUnavailable:
            session.rollback()
    assert tape.effects() == []
    assert tape.audit() == []


def test_a_key_that_nobody_took_is_recorded_at_every_level(server_tape: Tape, engine: Engine) -> None:
    """And nothing is left of how that was found out."""
    tape = server_tape
    with Session(engine) as session:
        made = [pay_one(tape, session, business_key="b-1"), pay_many(tape, session, business_key="b-2")]
        session.commit()
    assert set(made) < {effect.effect_key for effect in tape.effects()}
    assert [tape.pruned(key) for key in made] == [None, None]
    assert len(tape.effects()) == 3
