"""What stands around a row, and lists of obligations, on each database."""

from __future__ import annotations

import itertools

from tape_celery.events import OweAsked
from tape_celery.records import ObligationStatus
from tape_celery.store import owing, surroundings
from tape_celery.store.database import Database
from tape_celery.store.owing import Owing
from tests.store.steps import S as Status
from tests.store.steps import act, execute, in_state


def test_whose_turn_it_is_is_the_first_that_is_not_settled(database: Database) -> None:
    """Nobody's, for the first of its key, for one without a key, and for one that is not PENDING."""
    first, second, third = (in_state(database, Status.PENDING, ordering_key="turn") for _ in range(3))
    other = in_state(database, Status.PENDING)
    assert [found and found.effect_key for found in (surroundings.turn_of(database, e) for e in (first, other))] == [
        None,
        None,
    ]
    for waiting in (second, third):
        found = surroundings.turn_of(database, waiting)
        assert found is not None
        assert found.effect_key == first.effect_key


def test_who_has_the_business_key_that_was_let_go(database: Database) -> None:
    """Nobody, until another effect takes it; one that holds its own is asked nothing."""
    gone = in_state(database, Status.CANCELLED, business_key="b-1")
    assert surroundings.key_holder(database, gone) == ""
    taken = in_state(database, Status.PENDING, business_key="b-1")
    assert surroundings.key_holder(database, gone) == taken.effect_key
    assert surroundings.key_holder(database, taken) == ""
    assert surroundings.key_holder(database, in_state(database, Status.CANCELLED, business_key="")) == ""
    in_state(database, Status.PENDING, business_key="b-2", connector="mail")
    elsewhere = in_state(database, Status.CANCELLED, business_key="b-2", connector="bank.wire")
    assert surroundings.key_holder(database, elsewhere) == ""


def test_obligations_are_listed_newest_first_by_every_filter(database: Database) -> None:
    """Each combination, as picked by hand from a list of all."""
    owed = OweAsked(reason="a return", actor="ann")
    for number in range(6):
        connector, run_id = ("bank.wire", "mail")[number % 2], ("run-1", "run-2")[number % 3 % 2]
        effect = in_state(database, Status.CONFIRMED, run_id=run_id)
        act(database, effect.effect_key, owed)
        changed = f"SET created_at_ms = {number}, connector = '{connector}'"
        execute(database, f"UPDATE tape_obligations {changed} WHERE created_at_ms > 1000")
    everything = owing.list_owing(database, Owing(), limit=100)
    assert [debt.created_at_ms for debt in everything] == [5, 4, 3, 2, 1, 0]
    effect_key = everything[2].effect_key
    for status, connector, run_id, whose, since, before in itertools.product(
        (None, ObligationStatus.PENDING, ObligationStatus.STUCK), (None, "mail"), (None, "run-1"), (None, effect_key),
        (None, 2), (None, 5),
    ):  # fmt: skip
        asked = Owing(status=status, connector=connector, run_id=run_id, effect_key=whose,
                      recorded_since_ms=since, recorded_before_ms=before)  # fmt: skip
        wanted = [
            debt
            for debt in everything
            if status in (None, debt.status)
            and connector in (None, debt.connector)
            and run_id in (None, debt.run_id)
            and whose in (None, debt.effect_key)
            and (since is None or debt.created_at_ms >= since)
            and (before is None or debt.created_at_ms < before)
        ]
        assert owing.list_owing(database, asked, limit=100) == wanted, asked
        assert owing.list_owing(database, asked, limit=2) == wanted[:2], asked
