"""A claim takes what is due, free and known, once; and leaves everything else as it was."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from tape_celery.events import CancelAsked, Observed, OweAsked, Unobservable
from tape_celery.records import EffectStatus, Obligation, ObligationStatus
from tape_celery.store import inspection
from tape_celery.store.claims import Reach
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS
from tests.store.conftest import Open, url_of
from tests.store.steps import (
    BANK,
    REACH,
    act,
    as_text,
    claim,
    claimed,
    execute,
    in_state,
    journal,
    kinds,
    record,
    recorded,
    row,
    seal,
    seal_effect,
    together,
)
from tests.store.steps import an_intent as intent
from tests.store.workers import claim_in_chunks, each_in_a_process

S = EffectStatus
EFFECTS_TO_CLAIM = 500
CHUNK = 20


def test_a_claim_leases_the_row_and_journals_itself(database: Database) -> None:
    """The row, what is returned and the journal agree on token, attempt, nonce and lease."""
    effect = recorded(database)
    mine = claimed(database, effect.effect_key, actor="worker-1")
    assert mine == row(database, effect.effect_key)
    assert (mine.status, mine.token, mine.dispatch_token, mine.attempt) == (S.DISPATCHING, 1, 1, 1)
    assert mine.lease_until_ms - mine.claimed_at_ms == REACH.lease_ms[BANK]
    assert mine.sweep_at_ms == mine.lease_until_ms
    assert mine.first_sent_at_ms == mine.claimed_at_ms == mine.updated_at_ms
    entry = journal(database, effect.effect_key)[-1]
    assert (entry.kind, entry.from_status, entry.status) == ("claimed", "PENDING", "DISPATCHING")
    assert (entry.token, entry.seq, entry.actor) == (1, mine.version, "worker-1")
    assert (entry.at_ms, entry.evidence["nonce"]) == (mine.claimed_at_ms, mine.claim_nonce)
    assert entry.evidence["lease_ms"] == REACH.lease_ms[BANK]


def test_what_is_claimed_is_not_claimed_again(database: Database) -> None:
    """By nobody, for a call or a look, for as long as it is under way."""
    effect = in_state(database, S.DISPATCHING)
    assert claim(database, effect.effect_key) == []
    assert claim(database, effect.effect_key, verb="look") == []
    assert row(database, effect.effect_key) == effect


@pytest.mark.parametrize("status", [S.CONFIRMED, S.FAILED, S.CANCELLED, S.STUCK, S.UNKNOWN])
def test_only_what_is_pending_is_claimed_for_a_call(database: Database, status: EffectStatus) -> None:
    """Nothing that has ended, waits for a person, or may have landed is called again."""
    effect = in_state(database, status)
    before = row(database, effect.effect_key)
    assert claim(database, effect.effect_key) == []
    assert row(database, effect.effect_key) == before


@pytest.mark.parametrize("status", [S.PENDING, S.CONFIRMED, S.FAILED, S.CANCELLED, S.STUCK])
def test_only_what_is_unknown_or_watched_is_claimed_for_a_look(database: Database, status: EffectStatus) -> None:
    """A FAILED effect that the upstream refused is not looked at either."""
    effect = in_state(database, status)
    assert claim(database, effect.effect_key, verb="look") == []


def test_a_look_is_leased_and_taken_over_when_its_lease_is_over(database: Database) -> None:
    """A look may be repeated at will: the next worker needs no sweep in between."""
    effect = in_state(database, S.UNKNOWN)
    mine = claimed(database, effect.effect_key, verb="look")
    assert (mine.status, mine.token, mine.looks, mine.attempt) == (S.UNKNOWN, 2, 1, 1)
    assert claim(database, effect.effect_key, verb="look") == []
    database.shift_ms = REACH.lease_ms[BANK] + 1
    theirs = claimed(database, effect.effect_key, verb="look")
    assert (theirs.token, theirs.looks) == (3, 2)
    assert theirs.claim_nonce != mine.claim_nonce


def test_an_absence_that_is_watched_is_looked_at_when_its_time_has_come(database: Database) -> None:
    """Not before, and not for a call."""
    effect = in_state(database, S.UNKNOWN)
    look = claimed(database, effect.effect_key, verb="look")
    absent = Observed(token=look.token, nonce=look.claim_nonce, status="absent")
    failed = seal(database, look, absent, kind=EFFECTS).after
    assert failed.status is S.FAILED
    assert claim(database, effect.effect_key, verb="look") == []
    database.shift_ms = 3_600_001
    assert claim(database, effect.effect_key) == []
    watched = claimed(database, effect.effect_key, verb="look")
    assert (watched.status, watched.watches, watched.looks) == (S.FAILED, 0, failed.looks)


def test_what_is_not_due_waits(database: Database) -> None:
    """Due is the database's time: a minute later the same claim gets it."""
    effect = recorded(database, delay_ms=60_000)
    assert claim(database, effect.effect_key) == []
    database.shift_ms = 59_000
    assert claim(database, effect.effect_key) == []
    database.shift_ms = 60_001
    assert claimed(database, effect.effect_key).status is S.DISPATCHING


def test_what_has_expired_is_not_claimed(database: Database) -> None:
    """Even if no sweep has come by to cancel it."""
    effect = recorded(database, expires_in_ms=60_000)
    database.shift_ms = 60_001
    assert claim(database, effect.effect_key) == []
    database.shift_ms = 0
    assert claimed(database, effect.effect_key).status is S.DISPATCHING


def test_rows_of_connectors_and_effects_that_a_worker_does_not_know_are_left_alone(database: Database) -> None:
    """A row names both, and both must be known."""
    plain = recorded(database)
    foreign = recorded(database, connector="bank.sepa")
    named = recorded(database, effect_name="shop.pay")
    other = recorded(database, effect_name="shop.refund")
    keys = [effect.effect_key for effect in (plain, foreign, named, other)]
    got = claim(database, *keys, reach=Reach({BANK: 30_000}, ["shop.pay"]))
    assert [effect.effect_key for effect in got] == sorted([plain.effect_key, named.effect_key])
    for effect in (foreign, other):
        assert row(database, effect.effect_key) == effect


def test_a_worker_that_knows_no_connector_claims_nothing(database: Database) -> None:
    """It got a hint all the same; that is no error."""
    effect = recorded(database)
    assert claim(database, effect.effect_key, reach=Reach({})) == []
    assert claim(database, effect.effect_key, verb="look", reach=Reach({})) == []


def test_keys_that_do_not_exist_are_no_error(database: Database) -> None:
    """A message is a hint: it may be of another store, or of nothing."""
    effect = recorded(database)
    got = claim(database, "no-such-key", effect.effect_key, "", "x" * 10_000, "\N{PILE OF POO}")
    assert [found.effect_key for found in got] == [effect.effect_key]
    assert claim(database) == []


def test_each_connector_has_its_own_lease(database: Database) -> None:
    """Also in one chunk, in one statement."""
    leases = {BANK: 10_000, "bank.sepa": 20_000, "mail": 20_000}
    effects = [recorded(database, connector=name) for name in leases]
    got = claim(database, *[effect.effect_key for effect in effects], reach=Reach(leases))
    assert {effect.connector: effect.lease_until_ms - effect.claimed_at_ms for effect in got} == leases
    for effect in got:
        assert journal(database, effect.effect_key)[-1].evidence["lease_ms"] == leases[effect.connector]


def test_the_flag_is_remembered_as_it_was_when_the_call_was_claimed(database: Database) -> None:
    """`might_before` is what late proof of this call's failure falls back to."""
    effect = recorded(database, semantics="idempotent")
    mine = claimed(database, effect.effect_key)
    pending = seal_effect(database, mine, "failed", may_have_landed=True).after
    assert (pending.status, pending.may_have_landed, pending.might_before) == (S.PENDING, True, False)
    assert claimed(database, effect.effect_key).might_before is True


# --- obligations ---


def an_obligation(database: Database) -> Obligation:
    """A compensation that is owed for a confirmed effect."""
    effect = in_state(database, S.CONFIRMED)
    (key,) = act(database, effect.effect_key, OweAsked(actor="test", reason="wrong account")).owed
    found = inspection.get_obligation(database, key)
    assert found is not None
    return found


def test_an_obligation_is_claimed_like_an_effect(database: Database) -> None:
    """Own token, nonce, lease, attempt and journal."""
    owed = an_obligation(database)
    mine = claimed(database, owed.obligation_key, kind=OBLIGATIONS)
    assert (mine.status, mine.token, mine.attempt) == (ObligationStatus.COMPENSATING, 1, 1)
    assert mine == inspection.get_obligation(database, owed.obligation_key)
    assert claim(database, owed.obligation_key, kind=OBLIGATIONS) == []
    assert kinds(database, owed.obligation_key) == ["recorded", "claimed"]


@pytest.mark.parametrize("status", [S.UNKNOWN, S.STUCK, S.DISPATCHING])
def test_an_obligation_waits_until_its_effect_is_confirmed(database: Database, status: EffectStatus) -> None:
    """Nothing is compensated while its effect is anything else."""
    owed = an_obligation(database)
    nonce_and_reason = "claim_nonce = 'n', lease_until_ms = 1, reason = 'set by the test', sweep_at_ms = 1"
    change = f"UPDATE tape_effects SET status = '{status}', {nonce_and_reason} WHERE effect_key = :key"
    execute(database, change, key=owed.effect_key)
    assert claim(database, owed.obligation_key, kind=OBLIGATIONS) == []
    execute(database, "UPDATE tape_effects SET status = 'CONFIRMED' WHERE effect_key = :key", key=owed.effect_key)
    assert claimed(database, owed.obligation_key, kind=OBLIGATIONS).attempt == 1


def test_an_obligation_of_a_connector_that_is_not_known_is_left_alone(database: Database) -> None:
    """As its effect would be."""
    owed = an_obligation(database)
    assert claim(database, owed.obligation_key, kind=OBLIGATIONS, reach=Reach({"bank.sepa": 1_000})) == []


# --- races ---


def test_32_threads_claim_500_effects_each_exactly_once(database: Database, rng: random.Random) -> None:
    """All want all of them, in chunks, each in an order of its own."""
    keys = record_many(database)
    orders = [chunks(keys, rng) for _ in range(32)]
    got = together([lambda order=order: claim_all(database, order) for order in orders])
    assert_each_was_claimed_once(database, keys, got)


def test_8_processes_claim_500_effects_each_exactly_once(database: Database, rng: random.Random) -> None:
    """Real processes, each with its own connections; one by one, so that none is through before another begins."""
    keys = record_many(database)
    url = url_of(database)
    given = [(url, chunks(keys, rng, 1), dict(REACH.lease_ms), f"worker-{number}") for number in range(8)]
    got = each_in_a_process(claim_in_chunks, given)
    assert_each_was_claimed_once(database, keys, got)


def test_looks_are_raced_for_as_calls_are(database: Database, open_database: Open) -> None:
    """16 workers want to look at the same UNKNOWN effects; one looks at each."""
    keys = [in_state(database, S.UNKNOWN).effect_key for _ in range(10)]
    got = together([lambda: [e.effect_key for e in claim(database, *keys, verb="look")] for _ in range(16)])
    assert Counter(key for part in got for key in part) == Counter(keys)
    assert all(row(database, key).token == 2 for key in keys)


def test_a_claim_races_with_a_cancel(database: Database) -> None:
    """Either the effect is CANCELLED and nobody calls, or one calls and the cancel is noted."""
    for _ in range(10):
        effect = recorded(database)

        def cancel(key: str = effect.effect_key) -> list[object]:
            act(database, key, CancelAsked(actor="test", reason="not wanted"))
            return []

        works = [lambda key=effect.effect_key: claim(database, key) for _ in range(4)]
        got = [found for part in together([*works, cancel]) for found in part]
        after = row(database, effect.effect_key)
        if after.status is S.CANCELLED:
            assert (got, after.token) == ([], 0)
        else:
            assert (len(got), after.status, after.token, after.cancel_requested) == (1, S.DISPATCHING, 1, True)


def record_many(database: Database) -> list[str]:
    return [record(database, intent({"number": number})).effect.effect_key for number in range(EFFECTS_TO_CLAIM)]


def chunks(keys: Sequence[str], rng: random.Random, size: int = CHUNK) -> list[list[str]]:
    mixed = rng.sample(list(keys), len(keys))
    return [mixed[start : start + size] for start in range(0, len(mixed), size)]


def claim_all(database: Database, order: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    return [(effect.effect_key, effect.token) for chunk in order for effect in claim(database, *chunk)]


def assert_each_was_claimed_once(
    database: Database, keys: Sequence[str], got: Sequence[Sequence[tuple[str, int]]]
) -> None:
    """By what was returned, by the rows, and by the journal; and not all by the same one."""
    assert Counter(pair for part in got for pair in part) == Counter((key, 1) for key in keys)
    rows = inspection.get_many(database, EFFECTS, list(keys)).values()
    assert {(effect.status, effect.token, effect.attempt, effect.version) for effect in rows} == {
        (S.DISPATCHING, 1, 1, 2)
    }
    claims = database.read(
        lambda connection: connection.exec_driver_sql(
            "SELECT effect_key, COUNT(*) FROM tape_journal WHERE kind = 'claimed' GROUP BY effect_key"
        ).all()
    )
    assert sorted((as_text(key), number) for key, number in claims) == [(key, 1) for key in sorted(keys)]
    assert sum(1 for part in got if part) > 1


def test_an_unobservable_effect_that_is_stuck_is_nobodys(database: Database) -> None:
    """It waits for a person, and no worker takes it up by itself."""
    effect = in_state(database, S.UNKNOWN)
    look = claimed(database, effect.effect_key, verb="look")
    seal(database, look, Unobservable(token=look.token, nonce=look.claim_nonce), kind=EFFECTS)
    database.shift_ms = 10 * 86_400_000
    assert claim(database, effect.effect_key) == claim(database, effect.effect_key, verb="look") == []
