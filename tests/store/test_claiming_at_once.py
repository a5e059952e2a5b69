"""On PostgreSQL a claim of calls is one statement, journal and COMMIT in it; and is what it always was."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, update

from tape_celery import intent
from tape_celery.records import Effect, replace
from tape_celery.schema import effects
from tape_celery.store import claims
from tape_celery.store.claiming_at_once import STAND_IN
from tape_celery.store.claims import Reach
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, entry, write_journal
from tests.servers import until
from tests.store.conftest import Open, url_of
from tests.store.steps import (
    REACH,
    S,
    an_intent,
    claim,
    claimed,
    execute,
    journal,
    kinds,
    record,
    recorded,
    row,
    scalar,
    seal_effect,
    statements,
    violations,
)


def ordinary(database: Database, *keys: str, actor: str = "test") -> list[Effect]:
    """What is claimed by one statement after the other."""
    ends: dict[str, str] = {}
    return database.write(
        lambda connection: claims._claim(
            connection, database, EFFECTS, keys, "call", REACH, intent.new_key(), actor, ends
        )
    )


def in_one(database: Database, *keys: str, actor: str = "test") -> claims.Taken[Effect]:
    """What is claimed, and nothing of it in a transaction of several statements."""
    with statements(database, pipelined=False) as seen:
        taken = claims.take(database, EFFECTS, keys, verb="call", reach=REACH, actor=actor)
    assert [statement for statement, _ in seen if not statement.startswith("SELECT")] == []
    return taken


def without_names(found: Effect) -> Effect:
    """``found`` without what no other has."""
    names = dict.fromkeys(("effect_key", "idempotency_key", "run_id", "claim_nonce"), "")
    instants = (
        "created_at_ms", "updated_at_ms", "due_at_ms", "sweep_at_ms", "claimed_at_ms", "lease_until_ms",
        "first_sent_at_ms",
    )  # fmt: skip
    return replace(found, **names, **dict.fromkeys(instants, 0))


@pytest.mark.parametrize("number", [1, 20])
def test_row_and_entry_are_those_of_the_ordinary_way(postgres_store: Database, number: int) -> None:
    """But for keys, nonce and instants; and the head that a seal is given is the digest of the entry."""
    (usual,) = ordinary(postgres_store, recorded(postgres_store).effect_key, actor='host "a": é\\')
    keys = [recorded(postgres_store).effect_key for _ in range(number)]
    taken = in_one(postgres_store, *reversed(keys), actor='host "a": é\\')
    assert [one.effect_key for one in taken.claimed] == sorted(keys)
    old = journal(postgres_store, usual.effect_key)[-1]
    for mine in taken.claimed:
        assert without_names(mine) == without_names(usual)
        assert mine == row(postgres_store, mine.effect_key)
        new = journal(postgres_store, mine.effect_key)[-1]
        same = ("seq", "kind", "from_status", "status", "token", "actor")
        assert [getattr(old, name) for name in same] == [getattr(new, name) for name in same]
        assert new.evidence == {**old.evidence, "nonce": mine.claim_nonce}
        assert list(new.evidence) == list(old.evidence)
        assert (new.at_ms, new.digest) == (mine.claimed_at_ms, taken.heads[mine.effect_key])
    assert violations(postgres_store) == []


def test_a_claim_after_another_is_chained_to_what_happened_last(postgres_store: Database) -> None:
    """Number, token, attempt and head are those that its row has come to."""
    first = claimed(postgres_store, recorded(postgres_store).effect_key)
    seal_effect(postgres_store, first, "unknown", sent=False)
    (again,) = in_one(postgres_store, first.effect_key).claimed
    assert (again.token, again.version) == (2, first.version + 2)
    assert kinds(postgres_store, first.effect_key)[::2] == ["recorded", "unsent"]
    assert violations(postgres_store) == []


STRANGE = [
    "(head)",
    "(nonce)",
    "(key)",
    str(STAND_IN.version),
    str(STAND_IN.lease_until_ms),
    'a"b',
    "a\\b",
    "é",
    "a'b%s$1",
]


@pytest.mark.parametrize("key", STRANGE)
def test_a_key_that_looks_like_something_else_stays_what_it_is(postgres_store: Database, key: str) -> None:
    """The database puts nothing into it; what JSON would write in another way goes the ordinary way."""
    recorded(postgres_store, effect_key=key)
    (mine,) = claim(postgres_store, key)
    assert mine == row(postgres_store, key)
    assert [one.key for one in journal(postgres_store, key)] == [key, key]
    assert violations(postgres_store) == []


@pytest.mark.parametrize("name", ["bank", "it's", "back\\slash", "per%cent", "d$1", "é"])
def test_a_connector_may_have_any_name(postgres_store: Database, name: str) -> None:
    """Names are constants of the statement: they stand in its text, or are given to it, and mean the same."""
    effect = record(postgres_store, an_intent(connector=name)).effect
    other = recorded(postgres_store)
    reach = Reach({name: 12_345})
    (mine,) = claims.claim(
        postgres_store, EFFECTS, [effect.effect_key, other.effect_key], verb="call", reach=reach, actor="test"
    )
    assert (mine.effect_key, mine.lease_until_ms) == (effect.effect_key, (mine.claimed_at_ms or 0) + 12_345)
    assert violations(postgres_store) == []


def test_what_is_encrypted_is_not_claimed_by_who_has_no_key(
    postgres_store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of that statement is committed: the readable one is claimed by the next, and the other named."""
    sealed, plain = recorded(postgres_store), recorded(postgres_store)
    execute(
        postgres_store,
        "UPDATE tape_effects SET request_json = 'enc1:0a1b2c3d:...' WHERE effect_key = :key",
        key=sealed.effect_key,
    )
    with caplog.at_level(logging.ERROR):
        assert [one.effect_key for one in claim(postgres_store, sealed.effect_key, plain.effect_key)] == [
            plain.effect_key
        ]
    assert sealed.effect_key in caplog.text
    assert row(postgres_store, sealed.effect_key).status is S.PENDING
    assert kinds(postgres_store, plain.effect_key) == ["recorded", "claimed"]


def test_a_row_whose_last_entry_is_missing_is_claimed_all_the_same(postgres_store: Database) -> None:
    """What was taken out of a journal is the audit's to say, and keeps nothing from being sent."""
    effect = recorded(postgres_store)
    execute(postgres_store, "DELETE FROM tape_journal WHERE key = :key", key=effect.effect_key)
    assert claimed(postgres_store, effect.effect_key) == row(postgres_store, effect.effect_key)
    assert kinds(postgres_store, effect.effect_key) == ["claimed"]


def test_a_claim_that_waited_for_who_moved_its_row_is_chained_to_that(
    postgres_store: Database, open_database: Open
) -> None:
    """Its statement does not see the entry that was committed while it waited: it claims in another way."""
    effect, other = recorded(postgres_store), open_database(url_of(postgres_store))
    key = effect.effect_key
    (first,) = journal(other, key)
    moved = replace(effect, version=2)

    def move_under_its_hands(connection: Connection) -> Future[list[Effect]]:
        connection.execute(update(effects).where(effects.c.effect_key == key).values(version=2))
        write_journal(
            connection,
            [entry(moved, "noted", head=first.digest, from_status="PENDING", actor="other", evidence={})],
        )
        result = executor.submit(claim, postgres_store, key)
        until(lambda: scalar(other, "SELECT COUNT(*) FROM pg_locks WHERE NOT granted"), timeout=30, what="the claim")
        return result

    with ThreadPoolExecutor(1, thread_name_prefix="store-test") as executor:
        (mine,) = other.write(move_under_its_hands).result(30)
    assert mine == row(postgres_store, key)
    assert (mine.version, kinds(postgres_store, key)) == (3, ["recorded", "noted", "claimed"])
    assert violations(postgres_store) == []
