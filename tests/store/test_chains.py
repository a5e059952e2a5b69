"""Each entry of the journal is chained to the one before it, whoever wrote it; and what was tampered with is named."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import pytest
from sqlalchemy import select

from tape_celery.events import OweAsked, ReissueAsked, Resolved, Shared
from tape_celery.intent import new_key
from tape_celery.policy import Terms
from tape_celery.records import EffectStatus
from tape_celery.schema import journal as journal_table
from tape_celery.store import bulk, chains, inspection, moves, reissues
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS
from tests.servers import until
from tests.store.steps import (
    TERMS,
    act,
    an_intent,
    answer,
    claim,
    claimed,
    execute,
    in_state,
    journal,
    recorded,
    row,
    scalar,
    seal,
    seal_effect,
    statements,
)

S = EffectStatus

MISSING = "no entry is missing"
WRITTEN = "an entry is as it was written, and after the one before it"
BLANK = "every entry of a chain has a digest"
ENDS = "the chain ends where its row is"
ROW = "the row is what its chain ends with"
ORPHAN = "every chain is a row's"
REQUEST = "the request is the one that was recorded"
SINCE = "no entry is without a digest since there are any"
KEPT = "a head that was kept is still there"


def found(database: Database) -> set[tuple[str, str]]:
    """The invariants that are broken, and of which key."""
    return {(one.invariant, one.key) for batch in chains.batches(database) for one in batch.violations}


def entries(database: Database) -> list[dict[str, Any]]:
    statement = select(journal_table).order_by(journal_table.c.key, journal_table.c.seq)
    rows = database.read(lambda connection: connection.execute(statement).mappings().all())
    return [dict(one) for one in rows]


def a_history(database: Database) -> str:
    """Effects by every way that an entry is written; the key of one with the entries recorded, claimed, unknown,
    resolved."""
    for number, status in enumerate(S):
        in_state(database, status, business_key=f"b-{number}")
    bulk.record_many(database, [an_intent({"n": n}) for n in range(3)], actor="many", hint_ms=0)
    failed = in_state(database, S.FAILED)
    event = ReissueAsked(actor="person", reason="again", successor=new_key())
    reissues.reissue(database, row(database, failed.effect_key), event, TERMS)
    undone = in_state(database, S.CONFIRMED, business_key="undone")
    (owed,) = act(database, undone.effect_key, OweAsked(actor="person", reason="wrong")).owed
    undoing = claimed(database, owed, kind=OBLIGATIONS)
    seal(database, undoing, answer(undoing), kind=OBLIGATIONS)
    late = in_state(database, S.DISPATCHING)
    seal_effect(database, late, "unknown")
    seal_effect(database, late, "confirmed", external_ref="w-1")
    many = [recorded(database) for _ in range(3)]
    for effect in claim(database, *[effect.effect_key for effect in many]):
        seal_effect(database, effect)
    resolved = in_state(database, S.UNKNOWN, business_key="resolved")
    told = Resolved(actor="person", reason="seen", verdict="confirmed", external_ref="r-1")
    act(database, resolved.effect_key, told)
    return resolved.effect_key


def test_every_entry_is_chained_to_the_one_before_it(database: Database) -> None:
    """By the recipe that the docs give, made here once more: SHA-256 of a JSON array."""
    a_history(database)
    before: dict[str, str] = {}
    listed = entries(database)
    assert len({one["key"] for one in listed if one["key"] != one["effect_key"]}) == 1
    assert {"recorded", "claimed", "look", "late", "reissued", "owed", "resolved"} <= {one["kind"] for one in listed}
    for one in listed:
        names = ("key", "effect_key", "seq", "at_ms", "kind", "from_status", "status", "token", "actor")
        told = [before.get(one["key"], ""), *[one[name] for name in names], one["evidence_json"]]
        text = json.dumps(told, separators=(",", ":"))
        assert one["digest"] == hashlib.sha256(text.encode()).hexdigest(), one
        before[one["key"]] = one["digest"]
    assert found(database) == set()
    batches = list(chains.batches(database))
    assert sum(batch.entries for batch in batches) == len(listed)
    assert sum(batch.unchained for batch in batches) == 0
    assert journal(database, listed[-1]["key"])[-1].digest == listed[-1]["digest"]


def test_the_chain_costs_no_statement(sqlite_store: Database) -> None:
    """What it is chained to comes with the row: a claim is its update and its entry, a seal reads the row as before."""
    effect = recorded(sqlite_store)
    with statements(sqlite_store) as seen:
        mine = claimed(sqlite_store, effect.effect_key)
    assert [told.split()[0] for told, _ in seen] == ["BEGIN", "UPDATE", "INSERT"]
    with statements(sqlite_store) as seen:
        seal_effect(sqlite_store, mine)
    assert [told.split()[0] for told, _ in seen if "tape_journal" in told] == ["SELECT", "INSERT"]
    assert [told.split()[0] for told, _ in seen if "tape_effects" in told] == ["SELECT", "UPDATE"]


def test_a_claim_that_waited_is_chained_to_what_it_waited_for(database: Database) -> None:
    """PostgreSQL gives it the row as somebody left it meanwhile, and the journal as it was before."""
    effect = recorded(database)
    moved, go_on = threading.Event(), threading.Event()

    def share(connection: Any) -> None:
        shared = moves.Move(effect.effect_key, Shared(actor="run", run_id="other"), Terms())
        moves.move_within(connection, database, EFFECTS, [shared])
        moved.set()
        assert go_on.wait(30)

    sharing = threading.Thread(target=database.write, args=(share,))
    sharing.start()
    assert moved.wait(30)
    got: list[Any] = []
    claiming = threading.Thread(target=lambda: got.extend(claim(database, effect.effect_key)))
    claiming.start()
    if database.url.get_backend_name() == "postgresql":
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        until(lambda: scalar(database, waits), what="the claim to wait for the row")
    go_on.set()
    sharing.join(30)
    claiming.join(30)
    assert [one.version for one in got] == [3]
    assert found(database) == set()


TAMPERED = [
    (WRITTEN, "UPDATE tape_journal SET evidence_json = REPLACE(evidence_json, 'seen', 'sawn') WHERE key = :key"),
    (WRITTEN, "UPDATE tape_journal SET actor = 'nobody' WHERE key = :key AND seq = 4"),
    (WRITTEN, "UPDATE tape_journal SET at_ms = at_ms + 1 WHERE key = :key AND seq = 2"),
    (WRITTEN, "UPDATE tape_journal SET token = token + 1 WHERE key = :key AND seq = 2"),
    (WRITTEN, "UPDATE tape_journal SET kind = 'observed' WHERE key = :key AND seq = 4"),
    (WRITTEN, "UPDATE tape_journal SET digest = :other WHERE key = :key AND seq = 3"),
    (MISSING, "DELETE FROM tape_journal WHERE key = :key AND seq = 1"),
    (MISSING, "DELETE FROM tape_journal WHERE key = :key AND seq = 3"),
    (ENDS, "DELETE FROM tape_journal WHERE key = :key AND seq = 4"),
    (ENDS, "DELETE FROM tape_journal WHERE key = :key"),
    (BLANK, "UPDATE tape_journal SET digest = '' WHERE key = :key AND seq = 4"),
    (WRITTEN, "UPDATE tape_journal SET digest = '' WHERE key = :key AND seq = 1"),
    (WRITTEN, "UPDATE tape_journal SET digest = '' WHERE key = :key AND seq <= 3"),
    (SINCE, "UPDATE tape_journal SET digest = '' WHERE key = :key"),
    (ENDS, "UPDATE tape_effects SET version = version + 1 WHERE effect_key = :key"),
    (ROW, "UPDATE tape_effects SET status = 'PENDING', sweep_at_ms = 1 WHERE effect_key = :key"),
    (REQUEST, "UPDATE tape_effects SET request_json = '{}' WHERE effect_key = :key"),
    (REQUEST, "UPDATE tape_effects SET request_digest = :other WHERE effect_key = :key"),
]


@pytest.mark.parametrize(("invariant", "change"), TAMPERED, ids=[f"{n}-{case[0]}" for n, case in enumerate(TAMPERED)])
def test_what_was_tampered_with_is_named(story: tuple[Database, str], invariant: str, change: str) -> None:
    """One byte changed, an entry taken out, a digest blanked, a row set back: the key is named, and no other one."""
    database, key = story
    if invariant == SINCE:
        # Blanked a day after the others were chained: younger than that, it may be from before the chain.
        later = f"UPDATE tape_journal SET at_ms = at_ms + 86400000 WHERE {quoted(database)} = :key"
        execute(database, later, key=key)
    given = {"key": key} | ({"other": "0" * 64} if ":other" in change else {})
    execute(database, change.replace(" key ", f" {quoted(database)} "), **given)
    broken = found(database)
    assert (invariant, key) in broken
    assert {named for _, named in broken} == {key}


def test_two_entries_that_were_swapped_are_named(story: tuple[Database, str]) -> None:
    database, key = story
    for old, new in ((2, 99), (3, 2), (99, 3)):
        swap = f"UPDATE tape_journal SET seq = :new WHERE {quoted(database)} = :key AND seq = :old"
        execute(database, swap, key=key, old=old, new=new)
    told = [one for batch in chains.batches(database) for one in batch.violations]
    assert {(one.invariant, one.key) for one in told} == {(WRITTEN, key)}
    assert len(told) >= 2


def test_the_history_of_a_row_that_is_gone_is_named(story: tuple[Database, str]) -> None:
    database, key = story
    execute(database, "DELETE FROM tape_effects WHERE effect_key = :key", key=key)
    assert (ORPHAN, key) in found(database)


def test_entries_from_before_the_chain_are_counted_and_none_may_follow_a_chained_one(database: Database) -> None:
    """A store that was upgraded has them; what is written since is chained to the last of them."""
    old = claimed(database, recorded(database).effect_key)
    execute(database, "UPDATE tape_journal SET digest = ''")
    assert found(database) == set()
    seal_effect(database, old)
    fresh = recorded(database)
    assert found(database) == set()
    batches = list(chains.batches(database))
    assert sum(batch.unchained for batch in batches) == 2
    assert sum(batch.entries for batch in batches) == 4
    assert [one.digest == "" for one in journal(database, old.effect_key)] == [True, True, False]
    assert journal(database, fresh.effect_key)[0].digest


def test_an_audit_in_batches_goes_on_from_its_watermark(
    sqlite_store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every entry is in one batch and in one alone, obligations' with their effects'."""
    monkeypatch.setattr(chains, "BATCH", 2)
    a_history(sqlite_store)
    seen: list[str] = []
    total, watermark = 0, ""
    while not seen or watermark:
        batch = next(chains.batches(sqlite_store, after=watermark))
        assert batch.violations == []
        seen += [head.key for head in batch.heads]
        total, watermark = total + batch.entries, batch.watermark
    assert len(seen) == len(set(seen))
    assert total == len(entries(sqlite_store))


def test_heads_that_were_kept_find_a_history_that_was_made_anew(database: Database) -> None:
    """Whoever can write all of the journal can make its digests anew: only what was kept elsewhere tells."""
    key = in_state(database, S.UNKNOWN).effect_key
    gone = recorded(database)
    heads = [head for batch in chains.batches(database) for head in batch.heads]
    assert {(head.key, head.seq) for head in heads} == {(key, 3), (gone.effect_key, 1)}
    act(database, key, Resolved(actor="person", reason="seen", verdict="confirmed"))
    assert list(chains.against(database, heads)) == []
    forge(database, key)
    column = quoted(database)
    execute(database, f"DELETE FROM tape_journal WHERE {column} = :key", key=gone.effect_key)
    execute(database, "DELETE FROM tape_effects WHERE effect_key = :key", key=gone.effect_key)
    assert found(database) == set()
    assert {(one.invariant, one.key) for one in chains.against(database, heads)} == {
        (KEPT, key),
        (KEPT, gone.effect_key),
    }


def forge(database: Database, key: str) -> None:
    """Change an entry, and make the digests from there on anew."""
    before = ""
    for one in entries(database):
        if one["key"] == key:
            changed = one | {"actor": "somebody else"}
            before = chains.digest(before, changed)
            where = f"WHERE {quoted(database)} = :key AND seq = :seq"
            forged = f"UPDATE tape_journal SET actor = :actor, digest = :digest {where}"
            execute(database, forged, actor="somebody else", digest=before, key=key, seq=one["seq"])


def quoted(database: Database) -> str:
    """``key``, which is a word of MariaDB's own."""
    return "`key`" if database.url.get_backend_name() == "mysql" else "key"


@pytest.fixture
def story(database: Database) -> tuple[Database, str]:
    """A store with a history, and the key of an effect with the entries recorded, claimed, unknown, resolved."""
    key = a_history(database)
    assert [one.kind for one in inspection.read_journal(database, key)][-1] == "resolved"
    assert found(database) == set()
    return database, key
