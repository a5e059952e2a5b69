"""The audit is empty on whatever the product wrote, and finds every kind of row that the product would not write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tape_celery.edges import EFFECT_EDGES, OBLIGATION_EDGES
from tape_celery.events import CancelAsked, Lapsed, Observed, OweAsked, Resolved
from tape_celery.records import EffectStatus, Violation
from tape_celery.store import audit, inspection
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS
from tests.invariants import broken_invariants
from tests.model.transitions import NOT_PLAYED, TRANSITIONS
from tests.store.conftest import MakeTape, url_of
from tests.store.steps import (
    BANK,
    REACH,
    act,
    answer,
    claim,
    claimed,
    execute,
    in_state,
    recorded,
    row,
    seal,
    seal_effect,
)

S = EffectStatus


def violations(database: Database, *, live: bool = False, grace_seconds: float = 0) -> list[Violation]:
    return audit.audit(database, live=live, grace_seconds=grace_seconds)


def a_history_of_everything(database: Database) -> None:
    """Effects that took every way that there is, with obligations, late evidence, and people."""
    for number, status in enumerate(S):
        in_state(database, status, business_key=f"b-{number}")
    with_duplicates(database)
    late = in_state(database, S.DISPATCHING, semantics="idempotent")
    seal_effect(database, claimed_again(database, late), "confirmed", external_ref="second")
    seal_effect(database, late, "confirmed", external_ref="first")
    resolved = in_state(database, S.STUCK)
    act(database, resolved.effect_key, Resolved(actor="person", reason="seen", verdict="confirmed", external_ref="r"))
    (owed,) = act(database, resolved.effect_key, OweAsked(actor="person", reason="wrong")).owed
    undoing = claimed(database, owed, kind=OBLIGATIONS)
    seal(database, undoing, answer(undoing), kind=OBLIGATIONS)
    landed_after_all(database)
    unsent = in_state(database, S.DISPATCHING)
    seal_effect(database, unsent, "unknown", sent=False)
    expired = recorded(database, delay_ms=60_000)
    act(database, expired.effect_key, CancelAsked(actor="person", reason="no"))
    cancelled = in_state(database, S.DISPATCHING)
    act(database, cancelled.effect_key, CancelAsked(actor="person", reason="no"))
    seal_effect(database, cancelled, "failed", retry_in_ms=0)


def with_duplicates(database: Database) -> list[str]:
    """A confirmed effect with two extra records; the keys of what is owed for them."""
    effect = in_state(database, S.UNKNOWN)
    look = claimed(database, effect.effect_key, verb="look")
    said = Observed(
        token=look.token, nonce=look.claim_nonce, status="duplicate", external_ref="stays", duplicates=("one", "two")
    )
    return list(seal(database, look, said, kind=EFFECTS).owed)


def claimed_again(database: Database, lost: object) -> object:
    """The effect of a worker that was lost, under the claim of the next."""
    key = lost.effect_key  # type: ignore[attr-defined]
    database.shift_ms += REACH.lease_ms[BANK] + 1
    act(database, key, Lapsed(actor="sweep"))
    return claimed(database, key)


def landed_after_all(database: Database) -> None:
    """An effect that FAILED because it was absent, and whose first answer came then: the contradiction."""
    mine = in_state(database, S.DISPATCHING)
    database.shift_ms += REACH.lease_ms[BANK] + 1
    act(database, mine.effect_key, Lapsed(actor="sweep"))
    look = claimed(database, mine.effect_key, verb="look")
    absent = Observed(token=look.token, nonce=look.claim_nonce, status="absent")
    assert seal(database, look, absent, kind=EFFECTS).after.status is S.FAILED
    assert seal_effect(database, mine, "confirmed", external_ref="ref").after.status is S.STUCK


def test_a_clean_history_of_everything_breaks_nothing(database: Database) -> None:
    """Every state, every kind of obligation, late evidence, and what people decided."""
    a_history_of_everything(database)
    assert violations(database) == []
    assert {effect.status for effect in inspection.list_effects(database, limit=1000)} == set(S)
    assert {owed.kind for owed in inspection.list_obligations(database)} >= {"duplicate", "late", "owed"}


def test_an_empty_store_breaks_nothing(database: Database) -> None:
    """Live or not."""
    assert violations(database, live=True) == []


# --- rows that the product would not write ---

KEY = "effect_key = :key"
ROW = "the row is what its last journal entry says"
CHAIN = "the journal is a chain"
EFFECT_CASES: list[tuple[str, EffectStatus, str]] = [
    (ROW, S.PENDING, f"UPDATE tape_effects SET status = 'CONFIRMED' WHERE {KEY}"),
    (ROW, S.UNKNOWN, f"UPDATE tape_effects SET status = 'PENDING' WHERE {KEY}"),
    (ROW, S.CONFIRMED, f"UPDATE tape_effects SET version = version + 1 WHERE {KEY}"),
    (ROW, S.CONFIRMED, f"UPDATE tape_effects SET version = version - 1 WHERE {KEY}"),
    (ROW, S.CONFIRMED, f"UPDATE tape_effects SET token = token + 1 WHERE {KEY}"),
    (ROW, S.PENDING, "DELETE FROM tape_journal WHERE key = :key"),
    (ROW, S.CONFIRMED, "DELETE FROM tape_journal WHERE key = :key AND seq = 3"),
    (ROW, S.CONFIRMED, "UPDATE tape_journal SET status = 'FAILED' WHERE key = :key AND seq = 3"),
    (
        ROW,
        S.CONFIRMED,
        "INSERT INTO tape_journal SELECT key, seq + 1, effect_key, at_ms, 'late', status, status, token, actor, "
        "evidence_json, digest FROM tape_journal WHERE key = :key AND seq = 3",
    ),
    (CHAIN, S.CONFIRMED, "DELETE FROM tape_journal WHERE key = :key AND seq = 2"),
    (CHAIN, S.CONFIRMED, "DELETE FROM tape_journal WHERE key = :key AND seq = 1"),
    (CHAIN, S.CONFIRMED, "UPDATE tape_journal SET from_status = 'UNKNOWN' WHERE key = :key AND seq = 3"),
    (CHAIN, S.CONFIRMED, "UPDATE tape_journal SET status = 'PENDING' WHERE key = :key AND seq = 2"),
    (
        "the journal begins with the recording, and only with it",
        S.PENDING,
        "UPDATE tape_journal SET kind = 'claimed' WHERE key = :key AND seq = 1",
    ),
    (
        "every claim raises the token, and nothing else does",
        S.CONFIRMED,
        "UPDATE tape_journal SET token = 7 WHERE key = :key AND seq = 2",
    ),
    (
        "time never runs back",
        S.CONFIRMED,
        "UPDATE tape_journal SET at_ms = at_ms + 3600000 WHERE key = :key AND seq = 2",
    ),
    (
        "an ended effect holds no business key",
        S.FAILED,
        f"UPDATE tape_effects SET held_business_key = 'b-1' WHERE {KEY}",
    ),
    (
        "an ended effect holds no business key",
        S.CANCELLED,
        f"UPDATE tape_effects SET held_business_key = 'b-1' WHERE {KEY}",
    ),
    (
        "a live effect holds its business key",
        S.UNKNOWN,
        f"UPDATE tape_effects SET held_business_key = NULL WHERE {KEY}",
    ),
    (
        "a live effect holds its business key",
        S.PENDING,
        f"UPDATE tape_effects SET held_business_key = 'another' WHERE {KEY}",
    ),
    (
        "what is CONFIRMED has evidence",
        S.PENDING,
        f"UPDATE tape_effects SET status = 'CONFIRMED' WHERE {KEY}",
    ),
    ("what is HELD says why", S.HELD, f"UPDATE tape_effects SET reason = '' WHERE {KEY}"),
    ("what is HELD was never sent", S.HELD, f"UPDATE tape_effects SET attempt = 1 WHERE {KEY}"),
    ("what was reissued exists, or was pruned", S.FAILED, f"UPDATE tape_effects SET reissued_as = 'gone' WHERE {KEY}"),
    ("what is STUCK says why", S.STUCK, f"UPDATE tape_effects SET reason = '' WHERE {KEY}"),
    ("what is under way is leased", S.DISPATCHING, f"UPDATE tape_effects SET lease_until_ms = NULL WHERE {KEY}"),
    ("what is under way is leased", S.DISPATCHING, f"UPDATE tape_effects SET claim_nonce = '' WHERE {KEY}"),
    ("what is unsettled is swept", S.PENDING, f"UPDATE tape_effects SET sweep_at_ms = NULL WHERE {KEY}"),
    ("what is unsettled is swept", S.DISPATCHING, f"UPDATE tape_effects SET sweep_at_ms = NULL WHERE {KEY}"),
    ("what is unsettled is swept", S.UNKNOWN, f"UPDATE tape_effects SET sweep_at_ms = NULL WHERE {KEY}"),
]


NEW_ENTRY = """
    INSERT INTO tape_journal SELECT :key, 99, 'gone', 0, 'late', 'PENDING', 'PENDING', 0, 'x', '{}', '' WHERE :key <> ''
"""


EFFECT_CASES += [
    ("the token counts the claims", S.PENDING, f"UPDATE tape_effects SET token = 3 WHERE {KEY}"),
    ("no attempt was made without a claim", S.PENDING, f"UPDATE tape_effects SET attempt = 1 WHERE {KEY}"),
    (
        "every transition is one that the table allows",
        S.CONFIRMED,
        "UPDATE tape_journal SET kind = 'observed' WHERE key = :key AND kind = 'confirmed'",
    ),
    (
        "every transition is one that the table allows",
        S.CANCELLED,
        "UPDATE tape_journal SET kind = 'vanished' WHERE key = :key AND kind = 'cancelled'",
    ),
    ("what a person does says who", S.CANCELLED, "UPDATE tape_journal SET actor = '' WHERE key = :key"),
    ("what is CANCELLED is not in doubt", S.CANCELLED, f"UPDATE tape_effects SET may_have_landed = 1 WHERE {KEY}"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_an_audit_in_batches_goes_on_from_its_watermark(
    sqlite_store: Database, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Every effect is in one batch and in one alone, wherever it is stopped and gone on with."""
    monkeypatch.setattr(audit, "BATCH", size)
    for status in S:
        in_state(sqlite_store, status, business_key=f"b-{status}")
    effects = [effect.effect_key for effect in inspection.list_effects(sqlite_store)]
    with behind_the_checks(sqlite_store) as connection:
        connection.execute("UPDATE tape_effects SET token = token + 1")
    found: list[str] = []
    watermark, rounds = "", 0
    while rounds == 0 or watermark:
        batch = next(audit.batches(sqlite_store, after=watermark))
        found += [one.key for one in batch.violations if one.invariant == "the token counts the claims"]
        watermark, rounds = batch.watermark, rounds + 1
    assert found == sorted(effects)
    assert rounds == len(effects) // size + 1
    assert [one for one in violations(sqlite_store) if one.invariant == "the token counts the claims"]


def test_a_batch_holds_what_belongs_to_its_effects(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Obligations and both journals with them, on every database; a store without a fault gives none in any batch."""
    monkeypatch.setattr(audit, "BATCH", 2)
    a_history_of_everything(database)
    assert [batch.violations for batch in audit.batches(database)] == [[]] * len(list(audit.batches(database)))


def test_a_journal_of_nothing_is_found(sqlite_store: Database) -> None:
    effect = recorded(sqlite_store)
    with behind_the_checks(sqlite_store) as connection:
        connection.execute(NEW_ENTRY, {"key": effect.effect_key + "0"})
    assert "every entry is about a row" in {violation.invariant for violation in violations(sqlite_store)}


def test_the_model_and_the_audit_know_the_same_edges() -> None:
    """Written down twice, from the contract and beside the code."""
    told = {("effect", *edge) for edge in EFFECT_EDGES} | {("obligation", *edge) for edge in OBLIGATION_EDGES}
    assert told == TRANSITIONS | NOT_PLAYED


def buried(effect_key: str = "'gone'", idempotency_key: str = "'gone'", held_business_key: str = "NULL") -> str:
    """Plants a tombstone that shares these columns with the effect."""
    return (
        "INSERT INTO tape_tombstones (effect_key, connector, idempotency_key, business_key, held_business_key, run_id, "
        "request_digest, status, external_ref, created_at_ms, ended_at_ms, pruned_at_ms) "
        f"SELECT {effect_key}, connector, {idempotency_key}, business_key, {held_business_key}, run_id, "
        f"request_digest, 'CONFIRMED', '', 1, 1, 1 FROM tape_effects WHERE {KEY}"
    )


EFFECT_CASES += [
    ("no key belongs to a tombstone and a row", S.CONFIRMED, buried(effect_key="effect_key")),
    ("no key belongs to a tombstone and a row", S.FAILED, buried(idempotency_key="idempotency_key")),
    ("no key belongs to a tombstone and a row", S.PENDING, buried(held_business_key="held_business_key")),
]


@pytest.mark.parametrize(("invariant", "status", "change"), EFFECT_CASES)
def test_an_effect_that_was_tampered_with_is_found(
    sqlite_store: Database, invariant: str, status: EffectStatus, change: str
) -> None:
    """By the name of the invariant and the key of the effect; its neighbours are not accused."""
    in_state(sqlite_store, status, business_key="b-other")
    effect = in_state(sqlite_store, status, business_key="b-1")
    assert violations(sqlite_store) == []
    with behind_the_checks(sqlite_store) as connection:
        connection.execute(change, {"key": effect.effect_key})
    found = violations(sqlite_store)
    assert invariant in {violation.invariant for violation in found}
    assert {violation.key for violation in found} == {effect.effect_key}
    assert all(violation.detail for violation in found)
    assert set(broken_invariants(sqlite_store)) == {(one.invariant, one.key, one.detail) for one in found}


OBLIGATION_CASES = [
    (ROW, "UPDATE tape_obligations SET status = 'COMPENSATED' WHERE obligation_key = :key"),
    (ROW, "UPDATE tape_obligations SET version = 2 WHERE obligation_key = :key"),
    (ROW, "DELETE FROM tape_journal WHERE key = :key"),
    (
        "the journal begins with the recording, and only with it",
        "UPDATE tape_journal SET kind = 'late' WHERE key = :key",
    ),
    (
        "the record that stays is never reversed as a duplicate",
        "UPDATE tape_obligations SET external_ref = 'stays' WHERE obligation_key = :key",
    ),
    ("what is unsettled is swept", "UPDATE tape_obligations SET sweep_at_ms = NULL WHERE obligation_key = :key"),
    (
        "what is under way is leased",
        "UPDATE tape_obligations SET status = 'COMPENSATING', lease_until_ms = NULL WHERE obligation_key = :key",
    ),
    (
        "what is STUCK says why",
        "UPDATE tape_obligations SET status = 'STUCK', reason = '' WHERE obligation_key = :key",
    ),
]


@pytest.mark.parametrize(("invariant", "change"), OBLIGATION_CASES)
def test_an_obligation_that_was_tampered_with_is_found(sqlite_store: Database, invariant: str, change: str) -> None:
    """As an effect is."""
    first, second = with_duplicates(sqlite_store)
    assert violations(sqlite_store) == []
    with behind_the_checks(sqlite_store) as connection:
        connection.execute(change, {"key": first})
    found = violations(sqlite_store)
    assert invariant in {violation.invariant for violation in found}
    assert second not in {violation.key for violation in found}


def test_an_obligation_of_an_effect_that_never_was_confirmed_is_found(sqlite_store: Database) -> None:
    """It would undo what nobody knows to have happened."""
    first, second = with_duplicates(sqlite_store)
    unknown = in_state(sqlite_store, S.UNKNOWN)
    with behind_the_checks(sqlite_store) as connection:
        connection.execute("UPDATE tape_obligations SET effect_key = ?", (unknown.effect_key,))
    found = {violation.key for violation in violations(sqlite_store)}
    assert {first, second} <= found


def test_a_second_call_of_what_may_have_landed_is_found(sqlite_store: Database) -> None:
    """The one thing that must never happen, whatever wrote it: a claim after a lost answer."""
    effect = in_state(sqlite_store, S.UNKNOWN)
    again = "UPDATE tape_effects SET status = 'PENDING' WHERE effect_key = ?"
    with behind_the_checks(sqlite_store) as connection:
        connection.execute(again, (effect.effect_key,))
    assert len(claim(sqlite_store, effect.effect_key)) == 1
    found = violations(sqlite_store)
    names = {violation.invariant for violation in found if violation.key == effect.effect_key}
    assert "a non-idempotent call that may have landed is never made again" in names


def test_it_is_found_beside_another_that_was_proved_unsent(sqlite_store: Database) -> None:
    """The late proof of one effect says nothing of any other."""
    unsent = claimed(sqlite_store, recorded(sqlite_store).effect_key)
    sqlite_store.shift_ms = REACH.lease_ms[BANK] + 1
    act(sqlite_store, unsent.effect_key, Lapsed(actor="sweep"))
    assert seal_effect(sqlite_store, unsent, "unknown", sent=False).after.status is S.PENDING
    sqlite_store.shift_ms += 61_000
    claimed(sqlite_store, unsent.effect_key)
    assert violations(sqlite_store) == []
    test_a_second_call_of_what_may_have_landed_is_found(sqlite_store)


def test_a_retry_of_what_definitely_did_not_land_is_no_second_call(database: Database) -> None:
    """The same effect may be claimed again after a definite failure, or proof that nothing was sent."""
    effect = recorded(database)
    seal_effect(database, claimed(database, effect.effect_key), "failed", retry_in_ms=0)
    seal_effect(database, claimed(database, effect.effect_key), "unknown", sent=False)
    late = claimed(database, effect.effect_key)
    database.shift_ms = REACH.lease_ms[BANK] + 1
    act(database, effect.effect_key, Lapsed(actor="sweep"))
    assert seal_effect(database, late, "failed", retry_in_ms=0).after.status is S.PENDING
    claimed(database, effect.effect_key)
    assert row(database, effect.effect_key).token == 4
    assert violations(database) == []


def test_an_idempotent_effect_may_be_called_again(database: Database) -> None:
    """A lapse puts it back under the same key: that is no violation."""
    effect = in_state(database, S.DISPATCHING, semantics="idempotent")
    claimed_again(database, effect)
    assert violations(database) == []


def test_the_audit_in_one_statement_finds_the_same(database: Database) -> None:
    """It is what other tests ask at their end, on each database."""
    in_state(database, S.CONFIRMED, business_key="b-other")
    effect = in_state(database, S.CONFIRMED, business_key="b-1")
    assert broken_invariants(database) == []
    execute(
        database, f"UPDATE tape_effects SET token = token + 7, version = 9 WHERE effect_key = '{effect.effect_key}'"
    )
    found = {(violation.invariant, violation.key) for violation in violations(database)}
    assert {key for _, key in found} == {effect.effect_key}
    assert {(invariant, key) for invariant, key, _ in broken_invariants(database)} == found


def test_an_audit_lists_a_bounded_number(sqlite_store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is broken all over does not fill the memory of whoever asks."""
    for _ in range(5):
        recorded(sqlite_store)
    with behind_the_checks(sqlite_store) as connection:
        connection.execute("DELETE FROM tape_journal")
    assert len(violations(sqlite_store)) == 5
    monkeypatch.setattr(audit, "MOST", 3)
    assert len(violations(sqlite_store)) == 3


# --- live ---


def test_a_live_audit_finds_what_is_overdue(database: Database) -> None:
    """An effect or an obligation that nobody swept, once the grace is over; not without ``live``."""
    late = recorded(database)
    (owed,) = act(database, in_state(database, S.CONFIRMED).effect_key, OweAsked(actor="p", reason="wrong")).owed
    recorded(database, delay_ms=3_600_000)
    assert violations(database, live=True, grace_seconds=60) == []
    database.shift_ms = 61_000
    found = {(violation.invariant, violation.key) for violation in violations(database, live=True, grace_seconds=60)}
    assert found == {("nothing is overdue", late.effect_key), ("no obligation is overdue", owed)}
    assert violations(database) == []


def test_a_lease_that_nobody_ended_is_overdue(database: Database) -> None:
    """The lease of a killed worker, where no sweep runs."""
    mine = in_state(database, S.DISPATCHING)
    database.shift_ms = REACH.lease_ms[BANK] + 61_000
    (found,) = violations(database, live=True, grace_seconds=60)
    assert (found.invariant, found.key, found.detail) == ("nothing is overdue", mine.effect_key, "DISPATCHING")


def test_a_tapes_audit_gives_a_few_sweeps_of_grace(database: Database, make_tape: MakeTape) -> None:
    """`tape.audit(live=True)` does not cry over what the next sweep will find."""
    tape = make_tape(url_of(database), sweep_seconds=5, relay_seconds=30)
    effect = recorded(database)
    assert tape.audit(live=True) == []
    tape.database.shift_ms = 46_000
    assert [violation.key for violation in tape.audit(live=True)] == [effect.effect_key]
    assert tape.audit() == []


@contextmanager
def behind_the_checks(database: Database) -> Iterator[sqlite3.Connection]:
    """A connection on which the file's own CHECKs, foreign keys and triggers do not hold."""
    with closing(sqlite3.connect(str(database.url.database))) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA foreign_keys = OFF")
        for name in ("tape_journal_is_not_changed", "tape_journal_is_kept"):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        yield connection
