"""Intents that look alike, in transactions of the app's own: of two, one is held, or its transaction is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from tape_celery import EffectStatus, Tape
from tape_celery.errors import StoreUnavailable
from tests.transactions.conftest import hinted, pay

RULE = {"fields": ["amount"], "within": 60}


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_the_second_waits_for_the_end_of_the_firsts_transaction(
    tape: Tape, engine: Engine, ready_url: str, make_tape: Callable[..., Tape], ends: str
) -> None:
    """HELD if the first is real then, and sent if it is not."""
    other = make_tape(ready_url)
    with engine.connect() as connection, ThreadPoolExecutor(1) as executor:
        first = pay(tape, connection, hold_similar=RULE)
        other.database.ready()
        second = executor.submit(
            lambda: other.effect.delay("bank", {"amount": 1}, allow_unsafe=True, hold_similar=RULE)
        )
        assert not second.done()
        getattr(connection, ends)()
        found = second.result(30)
    assert found.status is (EffectStatus.HELD if ends == "commit" else EffectStatus.PENDING)
    assert (tape.get(first) is not None) == (ends == "commit")
    assert hinted(tape) == ([first] if ends == "commit" else [])


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("fresh", [True, False], ids=["first of its kind", "not the first"])
def test_a_transaction_that_began_before_sends_no_second_one(
    tape: Tape, engine: Engine, level: str, fresh: bool
) -> None:
    """Whatever its snapshot shows: it is held, or it is refused and may be run again."""
    if engine.dialect.name == "sqlite":
        if level != "SERIALIZABLE":
            return
    else:
        engine = engine.execution_options(isolation_level=level)
    if not fresh:
        tape.cancel(made(tape), reason="only to have been there", actor="test")
    with engine.connect() as connection:
        connection.execute(text("SELECT * FROM orders")).all()
        first = made(tape)
        try:
            second = pay(tape, connection, hold_similar=RULE)
        except StoreUnavailable:
            connection.rollback()
            second = pay(tape, connection, hold_similar=RULE)
        connection.commit()
    effect = tape.get(second)
    assert effect is not None
    assert effect.status is EffectStatus.HELD
    assert first in effect.reason
    assert second not in hinted(tape)


def made(tape: Tape) -> str:
    return str(tape.effect.delay("bank", {"amount": 1}, allow_unsafe=True, hold_similar=RULE).id)
