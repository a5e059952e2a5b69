"""Many intents in one transaction: all of them or none, whatever stands already and whoever else records."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from tape_celery.errors import KeyConflict
from tape_celery.intent import Callback, Intent
from tape_celery.schema import callbacks
from tape_celery.store import bulk
from tape_celery.store.database import Database
from tape_celery.store.intents import Recorded
from tests.servers import TcpProxy
from tests.store.steps import (
    COMMIT,
    an_intent,
    claimed,
    count,
    journal,
    recorded,
    row,
    seal_effect,
    statements,
    together,
)

MANY = 5_000


def record_many(database: Database, asked: list[Intent]) -> list[Recorded]:
    return bulk.record_many(database, asked, actor="test", hint_ms=0)


def test_five_thousand_are_recorded_in_a_few_statements(database: Database) -> None:
    """One transaction; each has its row and its entry, on the same instant, in the order of the list."""
    asked = [an_intent({"n": n}, business_key=f"b-{n}") for n in range(MANY)]
    with statements(database) as seen:
        made = record_many(database, asked)
    assert len([one for one, _ in seen if "tape_" in one]) < 300
    assert [one.effect.effect_key for one in made] == [intent.effect_key for intent in asked]
    assert all(one.created for one in made)
    assert (count(database), count(database, "tape_journal")) == (MANY, MANY)
    for index in (0, MANY // 2, MANY - 1):
        assert row(database, asked[index].effect_key) == made[index].effect
        (entry,) = journal(database, asked[index].effect_key)
        assert (entry.kind, entry.at_ms) == ("recorded", made[0].effect.created_at_ms)
    again = record_many(database, [an_intent({"n": n}, business_key=f"b-{n}") for n in range(200)])
    assert [one.effect.effect_key for one in again] == [intent.effect_key for intent in asked[:200]]
    assert not any(one.created for one in again)
    assert count(database) == MANY


def test_those_that_stand_already_are_met_in_their_place(database: Database) -> None:
    """By either key, among others that are new; what is free again is new."""
    by_business, by_key = recorded(database, business_key="b-1"), recorded(database, idempotency_key="i-1")
    made = record_many(
        database, [an_intent({"n": 1}), an_intent(business_key="b-1"), an_intent(idempotency_key="i-1"), an_intent()]
    )
    assert [one.created for one in made] == [True, False, False, True]
    assert [one.effect for one in made[1:3]] == [by_business, by_key]
    assert count(database) == 4


def test_the_same_twice_in_one_list_is_one(database: Database) -> None:
    asked = [an_intent(business_key="b-1"), an_intent({"n": 2}), an_intent(business_key="b-1")]
    made = record_many(database, asked)
    assert [one.created for one in made] == [True, True, False]
    assert made[0].effect == made[2].effect
    assert count(database) == 2


@pytest.mark.parametrize("stands", [True, False])
def test_another_request_under_a_key_refuses_all_of_them(database: Database, stands: bool) -> None:
    """Whether the key stands already or is in the list: the error names the item, and nothing is recorded."""
    before = 0
    if stands:
        recorded(database, business_key="b-1")
        before = 1
    first = an_intent(business_key="b-1") if not stands else an_intent({"n": 0})
    asked = [first, an_intent({"n": 1}), an_intent({"other": 1}, business_key="b-1")]
    with pytest.raises(KeyConflict, match=r"^item 2: "):
        record_many(database, asked)
    assert count(database) == count(database, "tape_journal") == before


def test_lists_with_the_same_keys_in_a_race_are_one(database: Database) -> None:
    """8 threads record the same 40 in different orders: each of them is one effect, and all threads hold it."""
    orders = [list(range(40))[shift:] + list(range(40))[:shift] for shift in range(0, 40, 5)]
    works = [
        lambda order=order: {  # type: ignore[misc]
            one.effect.business_key: one.effect.effect_key
            for one in record_many(database, [an_intent({"n": n}, business_key=f"b-{n}") for n in order])
        }
        for order in orders
    ]
    found = together(works)
    assert all(one == found[0] for one in found)
    assert (count(database), count(database, "tape_journal")) == (40, 40)


def test_ordering_keys_keep_the_order_of_the_list(database: Database) -> None:
    """Also while another list takes numbers of the same keys."""
    lists = [[an_intent({"n": n}, ordering_key=f"o-{n % 2}") for n in range(20)] for _ in range(4)]
    for made in together([lambda asked=asked: record_many(database, asked) for asked in lists]):  # type: ignore[misc]
        for key in ("o-0", "o-1"):
            numbers = [one.effect.order_number for one in made if one.effect.ordering_key == key]
            assert numbers == list(range(numbers[0], numbers[0] + 10))


def with_link(n: int, **given: Any) -> Intent:
    link = Callback("confirmed", json.dumps({"task": f"after-{n}"}))
    return replace(an_intent({"n": n}, business_key=f"b-{n}", **given), callbacks=(link,))


def callback_statuses(database: Database) -> list[str]:
    return database.read(lambda connection: sorted(connection.execute(select(callbacks.c.status)).scalars()))


def test_callbacks_of_many_are_kept_in_a_few_statements(database: Database) -> None:
    """Asked for again, whether the effects are new or not, they are kept once."""
    for tries in range(2):
        with statements(database) as seen:
            made = record_many(database, [with_link(n) for n in range(1_000)])
        assert {one.created for one in made} == {tries == 0}
        if tries == 0:
            assert len([one for one, _ in seen if "tape_callbacks" in one]) < 20
        assert callback_statuses(database) == ["WAITING"] * 1_000


def test_a_callback_that_comes_while_its_effect_is_confirmed_is_due(database: Database) -> None:
    """Whoever is first, the seal or the list: no callback waits for what has happened already."""
    kept = [recorded(database, {"n": n}, business_key=f"b-{n}") for n in range(20)]
    under_way = [claimed(database, effect.effect_key) for effect in kept]
    together(
        [
            lambda: [seal_effect(database, one) for one in under_way],
            lambda: [record_many(database, [with_link(n), with_link(n + 1)]) for n in range(19)],
            lambda: [record_many(database, [with_link(n), with_link(n - 1)]) for n in range(19, 0, -1)],
        ]
    )
    assert callback_statuses(database) == ["DUE"] * 20


@pytest.mark.parametrize("happened", [True, False])
def test_a_lost_answer_to_commit_is_read_back(
    far_store: Database, server_store: Database, proxy: TcpProxy, happened: bool
) -> None:
    """All of them are there, once, whether the COMMIT had happened or not, and so are their callbacks."""
    asked = [with_link(n) for n in range(50)]
    cut = proxy.cut_after(COMMIT) if happened else proxy.cut_before(COMMIT)
    made = record_many(far_store, asked)
    assert [one.effect.effect_key for one in made] == [intent.effect_key for intent in asked]
    assert all(one.created for one in made)
    assert cut.happened == 1
    assert [count(server_store, f"tape_{of}") for of in ("effects", "journal", "callbacks")] == [50, 50, 50]
