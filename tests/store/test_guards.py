"""Who lost its claim, or read a row that has moved since, overwrites nothing; and what it knew is kept."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from tape_celery import state
from tape_celery.errors import NotAllowed, StoreUnavailable
from tape_celery.events import (
    Answered,
    CancelAsked,
    Expired,
    Lapsed,
    Observed,
    OweAsked,
    Resolved,
    Unobservable,
    Withheld,
)
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, ObligationStatus
from tape_celery.store import audit, claims, due, inspection, moves
from tape_celery.store.claims import Reach
from tape_celery.store.database import Database
from tape_celery.store.moves import Move
from tape_celery.store.rows import EFFECTS, OBLIGATIONS
from tests.store.conftest import Open, url_of
from tests.store.steps import (
    BANK,
    REACH,
    TERMS,
    act,
    answer,
    before_statement,
    claim,
    claimed,
    engine_of,
    in_state,
    journal,
    kinds,
    recorded,
    row,
    seal,
    seal_effect,
    together,
)

S = EffectStatus
LEASE_MS = REACH.lease_ms[BANK]
CAN_UNDO = replace(TERMS, can_compensate=True)
CANCEL = CancelAsked(actor="person", reason="not wanted")
LAPSE = Lapsed(actor="sweep")


def taken_over(database: Database, semantics: str = "idempotent") -> tuple[Effect, Effect]:
    """An effect that a first worker lost and a second one has: as each of them knows it."""
    effect = recorded(database, semantics=semantics)
    first = claimed(database, effect.effect_key, actor="first")
    database.shift_ms += LEASE_MS + 1
    assert act(database, effect.effect_key, LAPSE).after.status is S.PENDING
    return first, claimed(database, effect.effect_key, actor="second")


# --- stale tokens ---


@pytest.mark.parametrize("status", ["failed", "unknown"])
def test_a_stale_token_cannot_seal(database: Database, status: str) -> None:
    """What it says is journaled as late, and the claim of the other stands as it was."""
    first, second = taken_over(database)
    late = seal_effect(database, first, status, reason="too late")
    assert late.kind == "late"
    after = row(database, first.effect_key)
    assert after == replace(second, version=second.version + 1, updated_at_ms=after.updated_at_ms)
    entry = journal(database, first.effect_key)[-1]
    assert (entry.kind, entry.status, entry.token) == ("late", "DISPATCHING", second.token)
    assert (entry.evidence["token"], entry.evidence["reason"]) == (first.token, "too late")
    assert seal_effect(database, second, "confirmed", external_ref="ref-2").after.status is S.CONFIRMED


def test_a_stale_token_that_says_confirmed_ends_no_claim_but_its_own(database: Database) -> None:
    """It is noted on the row; the claim that is at work goes on and can then only end CONFIRMED."""
    first, second = taken_over(database)
    assert seal_effect(database, first, "confirmed", external_ref="ref-1").kind == "late"
    noted = row(database, first.effect_key)
    assert (noted.status, noted.token, noted.claim_nonce) == (S.DISPATCHING, second.token, second.claim_nonce)
    assert (noted.landed, noted.landed_ref) == (True, "ref-1")
    ended = seal_effect(database, second, "failed").after
    assert (ended.status, ended.external_ref) == (S.CONFIRMED, "ref-1")


def test_a_stale_token_cannot_renew(database: Database) -> None:
    """Its lease is another's now; the other's can be renewed."""
    first, second = taken_over(database)
    assert claims.renew(database, EFFECTS, first, lease_ms=LEASE_MS) is False
    assert row(database, first.effect_key) == second
    assert claims.renew(database, EFFECTS, second, lease_ms=2 * LEASE_MS) is True
    renewed = row(database, first.effect_key)
    assert renewed.lease_until_ms >= second.claimed_at_ms + 2 * LEASE_MS
    assert renewed == replace(second, lease_until_ms=renewed.lease_until_ms, sweep_at_ms=renewed.lease_until_ms)


@pytest.mark.parametrize("status", ["confirmed", "failed", "unknown"])
def test_a_claim_that_has_ended_cannot_be_renewed(database: Database, status: str) -> None:
    """Nor can one of a row that nobody holds."""
    mine = in_state(database, S.DISPATCHING)
    seal_effect(database, mine, status)
    before = row(database, mine.effect_key)
    assert claims.renew(database, EFFECTS, mine, lease_ms=LEASE_MS) is False
    assert row(database, mine.effect_key) == before


def test_a_lease_that_is_over_but_was_not_ended_can_still_be_renewed(database: Database) -> None:
    """Nobody else has the row: the worker that was slow goes on with it, and no sweep ends it then."""
    mine = in_state(database, S.DISPATCHING)
    database.shift_ms = LEASE_MS + 1
    assert claims.renew(database, EFFECTS, mine, lease_ms=LEASE_MS) is True
    with pytest.raises(NotAllowed, match="renewed"):
        act(database, mine.effect_key, LAPSE)


def test_a_look_that_was_taken_over_is_late(database: Database) -> None:
    """Its answer does not end the look of the other."""
    effect = in_state(database, S.UNKNOWN)
    first = claimed(database, effect.effect_key, verb="look")
    database.shift_ms = LEASE_MS + 1
    second = claimed(database, effect.effect_key, verb="look")
    said = Observed(token=first.token, nonce=first.claim_nonce, status="absent")
    assert seal(database, first, said, kind=EFFECTS).kind == "late"
    after = row(database, effect.effect_key)
    assert (after.status, after.token, after.claim_nonce) == (S.UNKNOWN, second.token, second.claim_nonce)


STALE_ENDS = {
    "confirmed": lambda old: answer(old, "confirmed", external_ref="ref-9"),
    "failed": lambda old: answer(old, "failed"),
    "unknown": lambda old: answer(old, "unknown"),
    "withheld": lambda old: Withheld(token=old.token, nonce=old.claim_nonce),
}


@pytest.mark.parametrize("end", STALE_ENDS)
@pytest.mark.parametrize("kind", [EFFECTS, OBLIGATIONS], ids=["effect", "obligation"])
def test_a_stale_call_does_not_end_the_newer_one(database: Database, kind: Any, end: str) -> None:
    """Whatever it says: the newer claim goes on, under its own token and lease."""
    first = called(database, kind)
    key = kind.key_of(first)
    unsent = Answered(token=first.token, nonce=first.claim_nonce, status="unknown", sent=False)
    seal(database, first, unsent, kind=kind)
    second = claimed(database, key, kind=kind)
    result = seal(database, first, replace(STALE_ENDS[end](first), nonce="another"), kind=kind)
    assert result.kind == "late"
    after = inspection.get_many(database, kind, [key])[key]
    assert (after.status, after.token, after.lease_until_ms) == (kind.calling, second.token, second.lease_until_ms)


STALE_LOOKS = {
    "absent": lambda old: Observed(token=old.token, nonce=old.claim_nonce, status="absent"),
    "failed": lambda old: Observed(token=old.token, nonce=old.claim_nonce, status="failed"),
    "stuck": lambda old: Observed(token=old.token, nonce=old.claim_nonce, status="stuck"),
    "unobservable": lambda old: Unobservable(token=old.token, nonce=old.claim_nonce),
}


@pytest.mark.parametrize("end", STALE_LOOKS)
@pytest.mark.parametrize("kind", [EFFECTS, OBLIGATIONS], ids=["effect", "obligation"])
def test_a_stale_look_does_not_end_the_newer_one(database: Database, kind: Any, end: str) -> None:
    call = called(database, kind)
    key = kind.key_of(call)
    seal(database, call, answer(call, "unknown"), kind=kind)
    first = claimed(database, key, kind=kind, verb="look")
    database.shift_ms = LEASE_MS + 1
    second = claimed(database, key, kind=kind, verb="look")
    assert seal(database, first, STALE_LOOKS[end](first), kind=kind).kind == "late"
    after = inspection.get_many(database, kind, [key])[key]
    assert (after.status, after.token, after.claim_nonce) == ("UNKNOWN", second.token, second.claim_nonce)


def test_the_write_itself_is_fenced_by_the_token(database: Database) -> None:
    """Were a token ever raised without a number in the journal, the row that was read is not the row any more."""
    mine = in_state(database, S.DISPATCHING)
    raise_it = f"UPDATE tape_effects SET token = token + 1 WHERE effect_key = '{mine.effect_key}'"

    def read_then_raised(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE tape_effects SET status") and not raised:
            raised.append(1)
            cursor.execute(raise_it)

    raised: list[int] = []
    event.listen(engine_of(database), "before_cursor_execute", read_then_raised)
    try:
        result = seal_effect(database, mine, "confirmed", external_ref="ref-1")
    finally:
        event.remove(engine_of(database), "before_cursor_execute", read_then_raised)
    assert raised
    assert result.kind == "late"
    assert row(database, mine.effect_key).status is S.DISPATCHING


def test_of_rows_that_are_sealed_together_the_one_that_was_moved_is_not_written(
    server_store: Database, open_database: Open
) -> None:
    """They go in one statement; one of them is taken by somebody else before the write."""
    mine = [in_state(server_store, S.DISPATCHING) for _ in range(5)]
    lost = mine[2]
    other = open_database(url_of(server_store))

    def lapse() -> None:
        other.shift_ms = server_store.shift_ms = LEASE_MS + 1
        moves.act(other, EFFECTS, lost.effect_key, LAPSE, TERMS)

    with before_statement(server_store, "UPDATE tape_effects SET status", lapse) as met:
        results = moves.move(
            server_store,
            EFFECTS,
            [Move(one.effect_key, answer(one, "confirmed", external_ref=one.effect_key), TERMS, one) for one in mine],
        )
    assert met
    assert {key for key, result in results.items() if result.kind == "late"} == {lost.effect_key}
    for one in mine:
        after = row(server_store, one.effect_key)
        assert after.external_ref == one.effect_key
        wanted = ["confirmed"] if one is not lost else ["lapsed", "late"]
        assert kinds(server_store, one.effect_key)[one.version :] == wanted
    assert audit.audit(server_store, live=False, grace_seconds=0) == []


def called(database: Database, kind: Any) -> Any:
    """An effect or an obligation whose call is under way."""
    if kind is EFFECTS:
        return in_state(database, S.DISPATCHING)
    effect = in_state(database, S.CONFIRMED)
    (key,) = act(database, effect.effect_key, OweAsked(actor="test", reason="wrong")).owed
    return claimed(database, key, kind=OBLIGATIONS)


def test_a_stale_inverse_cannot_seal(database: Database) -> None:
    """Obligations are fenced as effects are."""
    effect = in_state(database, S.CONFIRMED)
    (key,) = act(database, effect.effect_key, OweAsked(actor="test", reason="wrong")).owed
    first = claimed(database, key, kind=OBLIGATIONS)
    database.shift_ms = LEASE_MS + 1
    moves.act(database, OBLIGATIONS, key, LAPSE, replace(TERMS, compensation_idempotent=True))
    second = claimed(database, key, kind=OBLIGATIONS, verb="look")
    assert seal(database, first, answer(first, "unknown"), kind=OBLIGATIONS).kind == "late"
    after = inspection.get_obligation(database, key)
    assert after is not None
    assert (after.status, after.token, after.claim_nonce) == (ObligationStatus.UNKNOWN, 2, second.claim_nonce)


# --- rows that move between the read and the write ---


@pytest.fixture
def other(server_store: Database, open_database: Open) -> Database:
    """Somebody else at the same store, with connections of its own."""
    database = open_database(url_of(server_store))
    database.ready()
    return database


def interleaved(database: Database, work: Callable[[], object], act_: Callable[[], object]) -> object:
    """Do ``act_``, with ``work`` done by somebody else between its read and its write."""
    with before_statement(database, "UPDATE tape_", work) as met:
        result = act_()
    assert met, "nothing was written"
    return result


def test_a_seal_meets_the_lapse_of_its_lease(server_store: Database, other: Database) -> None:
    """The sweep was first: the answer is late evidence on the UNKNOWN row, and both are in the journal."""
    mine = in_state(server_store, S.DISPATCHING)
    other.shift_ms = LEASE_MS + 1
    interleaved(
        server_store,
        lambda: act(other, mine.effect_key, LAPSE),
        lambda: seal_effect(server_store, mine, "confirmed", external_ref="ref-1"),
    )
    after = row(server_store, mine.effect_key)
    assert (after.status, after.external_ref, after.version) == (S.CONFIRMED, "ref-1", 4)
    assert kinds(server_store, mine.effect_key) == ["recorded", "claimed", "lapsed", "late"]


def test_a_lapse_meets_the_seal(server_store: Database, other: Database) -> None:
    """The worker was first: there is no lease to end any more."""
    mine = in_state(server_store, S.DISPATCHING)
    server_store.shift_ms = LEASE_MS + 1
    with pytest.raises(NotAllowed, match="CONFIRMED"):
        interleaved(
            server_store,
            lambda: seal_effect(other, mine, "confirmed"),
            lambda: act(server_store, mine.effect_key, LAPSE),
        )
    assert kinds(server_store, mine.effect_key) == ["recorded", "claimed", "confirmed"]


def test_a_lapse_meets_a_renewal(server_store: Database, other: Database) -> None:
    """The worker lives and has extended its lease: it is not ended under it."""
    mine = in_state(server_store, S.DISPATCHING)
    server_store.shift_ms = other.shift_ms = LEASE_MS + 1
    with pytest.raises(NotAllowed, match="renewed"):
        interleaved(
            server_store,
            lambda: claims.renew(other, EFFECTS, mine, lease_ms=LEASE_MS),
            lambda: act(server_store, mine.effect_key, LAPSE),
        )
    after = row(server_store, mine.effect_key)
    assert (after.status, after.token, after.claim_nonce) == (S.DISPATCHING, mine.token, mine.claim_nonce)
    assert kinds(server_store, mine.effect_key) == ["recorded", "claimed"]


def test_a_seal_meets_a_renewal(server_store: Database, other: Database) -> None:
    """Its own worker's keeper extended the lease in that moment: the seal counts, once."""
    mine = in_state(server_store, S.DISPATCHING)
    interleaved(
        server_store,
        lambda: claims.renew(other, EFFECTS, mine, lease_ms=LEASE_MS),
        lambda: seal_effect(server_store, mine, "confirmed"),
    )
    after = row(server_store, mine.effect_key)
    assert (after.status, after.lease_until_ms) == (S.CONFIRMED, None)
    assert kinds(server_store, mine.effect_key) == ["recorded", "claimed", "confirmed"]


def test_a_cancel_meets_a_claim(server_store: Database, other: Database) -> None:
    """The worker was first: the cancel is noted on the effect that is under way, which is not CANCELLED."""
    effect = recorded(server_store)
    interleaved(
        server_store, lambda: claim(other, effect.effect_key), lambda: act(server_store, effect.effect_key, CANCEL)
    )
    after = row(server_store, effect.effect_key)
    assert (after.status, after.cancel_requested, after.token) == (S.DISPATCHING, True, 1)
    assert kinds(server_store, effect.effect_key) == ["recorded", "claimed", "cancel requested"]


def test_a_claim_meets_a_cancel(server_store: Database, other: Database) -> None:
    """The cancel was first: the claim's one guarded statement finds nothing."""
    effect = recorded(server_store)
    got = interleaved(
        server_store, lambda: act(other, effect.effect_key, CANCEL), lambda: claim(server_store, effect.effect_key)
    )
    assert got == []
    assert kinds(server_store, effect.effect_key) == ["recorded", "cancelled"]


def test_an_expiry_meets_a_claim(server_store: Database, other: Database) -> None:
    """What is under way does not expire."""
    effect = recorded(server_store, expires_in_ms=60_000)
    server_store.shift_ms = 60_001
    with pytest.raises(NotAllowed, match="DISPATCHING"):
        interleaved(
            server_store,
            lambda: claim(other, effect.effect_key),
            lambda: act(server_store, effect.effect_key, Expired(actor="sweep")),
        )
    assert row(server_store, effect.effect_key).status is S.DISPATCHING


def test_a_persons_verdict_meets_late_evidence(server_store: Database, other: Database) -> None:
    """The person is told what the row has become, and the verdict is not written over it."""
    mine = in_state(server_store, S.DISPATCHING)
    seal_effect(server_store, mine, "unknown")
    verdict = Resolved(actor="person", reason="the bank says no", verdict="failed")
    with pytest.raises(NotAllowed, match="CONFIRMED"):
        interleaved(
            server_store,
            lambda: seal_effect(other, mine, "confirmed", external_ref="ref-1"),
            lambda: act(server_store, mine.effect_key, verdict),
        )
    after = row(server_store, mine.effect_key)
    assert (after.status, after.external_ref, after.reason) == (S.CONFIRMED, "ref-1", "")


def test_a_seal_meets_a_cancel(server_store: Database, other: Database) -> None:
    """The cancel was noted first, so the CONFIRMED effect owes its compensation, in the seal's own transaction."""
    mine = in_state(server_store, S.DISPATCHING)
    interleaved(
        server_store,
        lambda: act(other, mine.effect_key, CANCEL),
        lambda: seal(server_store, mine, answer(mine, "confirmed", external_ref="r"), kind=EFFECTS, terms=CAN_UNDO),
    )
    assert row(server_store, mine.effect_key).status is S.CONFIRMED
    (owed,) = inspection.list_obligations(server_store, effect_key=mine.effect_key)
    assert (owed.kind, owed.external_ref) == ("cancelled", "r")
    assert kinds(server_store, mine.effect_key) == ["recorded", "claimed", "cancel requested", "confirmed"]


def test_two_who_owe_the_same_register_one_obligation(server_store: Database, other: Database) -> None:
    """The second is told the obligation of the first."""
    effect = in_state(server_store, S.CONFIRMED)
    asked = OweAsked(actor="person", reason="wrong account")
    with pytest.raises(NotAllowed, match="obligation"):
        interleaved(
            server_store,
            lambda: act(other, effect.effect_key, asked),
            lambda: act(server_store, effect.effect_key, asked),
        )
    assert len(inspection.list_obligations(server_store, effect_key=effect.effect_key)) == 1


def test_of_a_batch_only_what_moved_is_decided_again(server_store: Database, other: Database) -> None:
    """The others are written once; the one that moved is late."""
    batch = [in_state(server_store, S.DISPATCHING) for _ in range(5)]
    moved_one = batch[2]
    other.shift_ms = LEASE_MS + 1
    sealed = [Move(mine.effect_key, answer(mine), TERMS, mine) for mine in batch]
    results = interleaved(
        server_store,
        lambda: act(other, moved_one.effect_key, LAPSE),
        lambda: moves.move(server_store, EFFECTS, sealed),
    )
    assert isinstance(results, dict)
    assert {key: result.kind for key, result in results.items()} == {
        mine.effect_key: "late" if mine is moved_one else "confirmed" for mine in batch
    }
    for mine in batch:
        assert row(server_store, mine.effect_key).version == len(journal(server_store, mine.effect_key))


def test_a_row_that_never_stands_still_is_given_up_with_nothing_written(
    server_store: Database, other: Database
) -> None:
    """The error names the row, and the whole batch is as it was."""
    moving, still = in_state(server_store, S.UNKNOWN), recorded(server_store)
    again = Resolved(actor="other", reason="look", verdict="observe")
    batch = [Move(still.effect_key, CANCEL, TERMS), Move(moving.effect_key, CANCEL, TERMS)]
    batch.sort(key=lambda item: item.key)
    with (
        before_statement(server_store, "UPDATE tape_", lambda: act(other, moving.effect_key, again), times=200),
        pytest.raises(StoreUnavailable, match=moving.effect_key),
    ):
        moves.move(server_store, EFFECTS, batch)
    assert row(server_store, still.effect_key).status is S.PENDING
    assert not row(server_store, moving.effect_key).cancel_requested


def test_the_relay_of_a_hint_moves_nothing_else(database: Database) -> None:
    """It only puts off the next hint; one of two sweeps gets it."""
    effect = recorded(database)
    taken = together([lambda: due.mark_relayed(database, EFFECTS, [effect.effect_key], relay_ms=30_000)] * 4)
    assert sorted(taken) == [[], [], [], [effect.effect_key]]
    after = row(database, effect.effect_key)
    assert after == replace(effect, sweep_at_ms=after.sweep_at_ms)
    assert after.sweep_at_ms >= effect.sweep_at_ms + 30_000


# --- everything at once ---


def test_whatever_races_the_journal_gives_the_row(database: Database, rng: random.Random) -> None:
    """12 threads do what workers, sweeps, people and zombies do to 6 effects.

    No error but `NotAllowed`; the audit is empty; and every journal, replayed through the table, gives its row.
    """
    recorded_as = [
        recorded(database, {"number": number}, semantics=semantics, business_key=f"b-{number}", max_attempts=1000)
        for number, semantics in enumerate(["idempotent", "non_idempotent", "observe_only"] * 2)
    ]
    keys = [effect.effect_key for effect in recorded_as]
    seeds = [rng.random() for _ in range(12)]
    together([lambda seed=seed: _live(database, keys, random.Random(seed)) for seed in seeds])
    assert audit.audit(database, live=False, grace_seconds=0) == []
    for first in recorded_as:
        entries, after = journal(database, first.effect_key), row(database, first.effect_key)
        assert [entry.seq for entry in entries] == list(range(1, after.version + 1))
        replayed = state.replay(first, entries[1:])
        assert (replayed.status, replayed.token, replayed.attempt, replayed.version) == (
            after.status,
            after.token,
            after.attempt,
            after.version,
        )
        assert (replayed.looks, replayed.may_have_landed, replayed.landed, replayed.holds_business_key) == (
            after.looks,
            after.may_have_landed,
            after.landed,
            after.holds_business_key,
        )


def test_the_journal_of_a_lease_that_was_renewed_gives_its_row_too(database: Database) -> None:
    """An absence is believed from the end of the *renewed* lease on, also when the journal is replayed."""
    first = recorded(database)
    terms = replace(TERMS, settle_ms=20_000)
    mine = claimed(database, first.effect_key)
    database.shift_ms = 25_000
    assert claims.renew(database, EFFECTS, mine, lease_ms=LEASE_MS)
    database.shift_ms = 56_000
    act(database, first.effect_key, LAPSE, terms=terms)
    database.shift_ms = 60_000
    look = claimed(database, first.effect_key, verb="look")
    absent = Observed(token=look.token, nonce=look.claim_nonce, status="absent")
    after = seal(database, look, absent, kind=EFFECTS, terms=terms).after
    assert after.status is S.UNKNOWN
    replayed = state.replay(first, journal(database, first.effect_key)[1:])
    assert (replayed.status, replayed.settled_at_ms) == (after.status, after.settled_at_ms)


def test_the_journal_of_a_lease_that_was_renewed_after_the_clock_went_back_gives_its_row_too(
    database: Database,
) -> None:
    """By that clock the renewed lease ends before the first one did; it lapses then, and the journal says the same."""
    first = recorded(database)
    mine = claimed(database, first.effect_key)
    database.shift_ms = -10_000
    assert claims.renew(database, EFFECTS, mine, lease_ms=LEASE_MS)
    database.shift_ms = -5_000 + LEASE_MS
    after = act(database, first.effect_key, LAPSE).after
    assert after.status is S.UNKNOWN
    assert after.updated_at_ms < (mine.lease_until_ms or 0)
    replayed = state.replay(first, journal(database, first.effect_key)[1:])
    assert (replayed.status, replayed.settled_at_ms) == (after.status, after.settled_at_ms)


def _live(database: Database, keys: list[str], rng: random.Random) -> None:
    """What one thread does; the leases are so short that most of them run out."""
    held: list[Effect] = []
    terms = Terms(settle_ms=0, can_compensate=True)
    reach = Reach({BANK: 2})
    for _ in range(40):
        key, dice = rng.choice(keys), rng.random()
        try:
            if dice < 0.35:
                held += claim(database, *rng.sample(keys, 3), reach=reach)
            elif dice < 0.45:
                held += claim(database, key, verb="look", reach=reach)
            elif dice < 0.75 and held:
                mine = held.pop(rng.randrange(len(held)))
                said = rng.choice(["confirmed", "failed", "unknown"] + ["failed"] * 5)
                if mine.status is S.UNKNOWN or mine.status is S.FAILED:
                    event = Observed(
                        token=mine.token, nonce=mine.claim_nonce, status=rng.choice(["absent", "stuck", "confirmed"])
                    )
                else:
                    event = answer(mine, said, retry_in_ms=0, sent=rng.random() < 0.8 or said == "confirmed")
                seal(database, mine, event, kind=EFFECTS, terms=terms)
            elif dice < 0.85:
                act(database, key, LAPSE, terms=terms)
            elif dice < 0.88:
                act(database, key, CANCEL, terms=terms)
            elif dice < 0.95:
                act(database, key, Resolved(actor="person", reason="look again", verdict="observe"), terms=terms)
            elif held:
                claims.renew(database, EFFECTS, rng.choice(held), lease_ms=2)
        except NotAllowed:
            pass
