"""Of intents that look alike one is sent and the others wait for a person, whatever race they are recorded in."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tape_celery import intent
from tape_celery.intent import Intent
from tape_celery.records import EffectStatus
from tape_celery.store import inspection
from tape_celery.store.database import Database
from tests.servers import TcpProxy
from tests.store.conftest import Open, url_of
from tests.store.steps import (
    COMMIT,
    an_intent,
    claim,
    count,
    journal,
    kinds,
    record,
    recorded,
    row,
    statements,
    together,
)

S = EffectStatus
ALIKE = intent.digest_of("alike")


def alike(within_ms: int = 60_000, **given: object) -> Intent:
    """One of those that look like each other."""
    return an_intent(**{"similar_digest": ALIKE, "hold_within_ms": within_ms, **given})  # type: ignore[arg-type]


def test_of_many_that_are_recorded_at_once_one_is_sent(database: Database, open_database: Open) -> None:
    """Each in a process of its own, as far as the database can tell; round after round, the first rows' locks too."""
    stores = [open_database(url_of(database)) for _ in range(6)]
    for store in stores:
        store.ready()
    for number in range(4):
        looks = intent.digest_of(f"alike {number}")
        together([lambda store=store, looks=looks: record(store, alike(similar_digest=looks)) for store in stores])
        found = [effect for effect in inspection.list_effects(database) if effect.similar_digest == looks]
        assert sorted(effect.status for effect in found) == [S.HELD] * 5 + [S.PENDING]
        first = next(effect for effect in found if effect.status is S.PENDING)
        assert {journal(database, effect.effect_key)[0].status for effect in found} == {S.HELD, S.PENDING}
        assert all(effect.reason for effect in found if effect.status is S.HELD)
        assert claim(database, *[effect.effect_key for effect in found]) == [row(database, first.effect_key)]


def test_those_that_differ_do_not_wait_for_each_other(database: Database) -> None:
    """Another connector, other values, no rule, or too long ago."""
    first = record(database, alike()).effect
    assert first.status is S.PENDING
    others = [
        alike(connector="bank.other"),
        alike(similar_digest=intent.digest_of("other")),
        an_intent(),
    ]
    assert [record(database, other).effect.status for other in others] == [S.PENDING] * 3
    database.shift_ms = 60_001
    assert record(database, alike()).effect.status is S.PENDING
    assert record(database, alike()).effect.status is S.HELD


def test_the_locks_stay_few(database: Database) -> None:
    """There is a bounded number of them, however many values are compared."""
    for number in range(30):
        record(database, alike(similar_digest=intent.digest_of(f"value {number}")))
    keys = database.read(
        lambda connection: connection.execute(text("SELECT ordering_key FROM tape_orderings")).scalars()
    )
    tails = {key[key.index(b":" if isinstance(key, bytes) else ":") + 1 :] for key in keys}
    assert tails
    assert all(len(tail) == 3 for tail in tails)


def test_an_intent_without_a_rule_takes_no_lock(database: Database) -> None:
    with statements(database) as seen:
        recorded(database)
    assert not [statement for statement, _ in seen if "tape_orderings" in statement]


@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "never arrived"])
def test_a_lost_answer_to_commit_holds_nothing_that_is_alone(
    far_store: Database, proxy: TcpProxy, server_store: Database, arrived: bool
) -> None:
    """An intent does not look like itself, recorded by a unit whose answer was lost."""
    asked = alike(business_key="b-1")
    cut = proxy.cut_after(COMMIT) if arrived else proxy.cut_before(COMMIT)
    made = record(far_store, asked)
    assert cut.happened == 1
    assert (made.effect.effect_key, made.effect.status) == (asked.effect_key, S.PENDING)
    assert count(server_store) == 1
    assert kinds(server_store, asked.effect_key) == ["recorded"]


def test_the_same_keys_still_meet_the_same_effect(database: Database) -> None:
    """A redelivery is no second intent: it is given the effect that is there, held or not."""
    first = record(database, alike(business_key="b-1", idempotency_key="i-1"))
    again = record(database, alike(business_key="b-1", idempotency_key="i-1"))
    assert (again.created, again.effect) == (False, first.effect)
    held = record(database, alike(business_key="b-2"))
    assert held.effect.status is S.HELD
    assert record(database, alike(business_key="b-2")).effect == held.effect
    assert count(database) == 2
