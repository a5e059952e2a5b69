"""One effect for every key, whatever the race; and what a caller is told when its keys meet another request."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import replace

import pytest

from tape_celery.errors import KeyConflict
from tape_celery.events import CancelAsked, Observed
from tape_celery.records import EffectStatus
from tape_celery.store.database import Database
from tape_celery.store.intents import Recorded
from tape_celery.store.rows import EFFECTS
from tests.store.steps import (
    act,
    an_intent,
    claimed,
    count,
    in_state,
    journal,
    record,
    recorded,
    row,
    seal,
    seal_effect,
    together,
)

S = EffectStatus
REQUEST = {"account": "A1", "amount": 100}
OTHER = {"account": "A1", "amount": 999}
BOTH_KEYS = [{"business_key": "b-1"}, {"idempotency_key": "i-1"}, {"business_key": "b-1", "idempotency_key": "i-1"}]


def test_a_recorded_intent_is_one_row_and_one_journal_entry(database: Database) -> None:
    """Both on the database's clock, PENDING and due at once, with the text that will be sent."""
    asked = an_intent(REQUEST, business_key="b-1", run_id="run-1")
    found = record(database, asked)
    effect = row(database, asked.effect_key)
    assert found.created
    assert found.effect == effect
    assert (effect.status, effect.attempt, effect.token, effect.version) == (S.PENDING, 0, 0, 1)
    assert (effect.request, effect.business_key, effect.run_id) == (REQUEST, "b-1", "run-1")
    assert effect.due_at_ms == effect.created_at_ms == effect.updated_at_ms
    (entry,) = journal(database, asked.effect_key)
    assert (entry.seq, entry.kind, entry.from_status, entry.status) == (1, "recorded", "", "PENDING")
    assert entry.at_ms == effect.created_at_ms
    assert entry.evidence["request_digest"] == effect.request_digest


@pytest.mark.parametrize("keys", BOTH_KEYS)
@pytest.mark.parametrize("status", [S.PENDING, S.DISPATCHING, S.UNKNOWN, S.STUCK, S.CONFIRMED])
def test_the_same_key_and_request_meet_the_same_effect(
    database: Database, keys: dict[str, str], status: EffectStatus
) -> None:
    """Whatever state it is in: nothing is recorded, nothing is changed."""
    first = in_state(database, status, request=REQUEST, **keys)
    before = row(database, first.effect_key)
    again = record(database, an_intent(REQUEST, **keys))
    assert again == Recorded(before, created=False)
    assert row(database, first.effect_key) == before
    assert (count(database), len(journal(database, first.effect_key))) == (1, before.version)


@pytest.mark.parametrize("keys", BOTH_KEYS)
@pytest.mark.parametrize("status", [S.PENDING, S.UNKNOWN, S.CONFIRMED])
def test_the_same_key_with_another_request_is_refused_and_both_are_named(
    database: Database, keys: dict[str, str], status: EffectStatus
) -> None:
    """The error names the key, the effect that has it, and both requests by their digests."""
    first = in_state(database, status, request=REQUEST, **keys)
    asked = an_intent(OTHER, **keys)
    with pytest.raises(KeyConflict) as conflict:
        record(database, asked)
    told = str(conflict.value)
    assert conflict.value.effect_key == first.effect_key
    for named in (*list(keys.values())[-1:], first.effect_key, first.request_digest[:12], asked.request_digest[:12]):
        assert named in told
    assert (count(database), count(database, "tape_journal")) == (1, first.version)


def test_a_key_is_refused_to_another_connector_or_another_business_key(database: Database) -> None:
    """An idempotency key stands for one request to one upstream about one thing."""
    recorded(database, REQUEST, business_key="b-1", idempotency_key="i-1")
    with pytest.raises(KeyConflict, match=r"'bank\.wire'.*'bank\.sepa'"):
        record(database, an_intent(REQUEST, business_key="b-1", idempotency_key="i-1", connector="bank.sepa"))
    with pytest.raises(KeyConflict, match=r"'b-1'.*'b-2'"):
        record(database, an_intent(REQUEST, business_key="b-2", idempotency_key="i-1"))
    assert (count(database), count(database, "tape_journal")) == (1, 1)


def test_two_keys_that_belong_to_two_effects_meet_the_one_of_the_idempotency_key(database: Database) -> None:
    """And an intent whose keys point at different effects records nothing."""
    by_key = recorded(database, REQUEST, idempotency_key="i-1")
    recorded(database, REQUEST, business_key="b-1")
    assert record(database, an_intent(REQUEST, idempotency_key="i-1")).effect == by_key
    with pytest.raises(KeyConflict):
        record(database, an_intent(REQUEST, idempotency_key="i-1", business_key="b-1"))
    assert count(database) == 2


def test_an_effect_key_that_is_taken_is_refused(database: Database) -> None:
    """A `task_id` handed in twice with different keys of its own does not hide that the first exists."""
    first = recorded(database, REQUEST)
    with pytest.raises(KeyConflict, match=first.effect_key):
        record(database, an_intent(REQUEST, effect_key=first.effect_key, idempotency_key="i-2"))
    assert count(database) == 1


def test_a_business_key_is_one_connectors(database: Database) -> None:
    """Two upstreams may have a thing of the same name each."""
    first = recorded(database, REQUEST, business_key="b-1")
    second = recorded(database, OTHER, business_key="b-1", connector="bank.sepa")
    assert first.effect_key != second.effect_key
    assert count(database) == 2


def test_effects_without_a_business_key_do_not_meet(database: Database) -> None:
    """No key is no key: not the empty one."""
    assert recorded(database, REQUEST).effect_key != recorded(database, REQUEST).effect_key
    assert count(database) == 2


VARIANTS = [
    "Inv-1",
    "inv-1",
    "Inv-1 ",
    " Inv-1",
    "Inv‑1",
    "Inv-\N{FULLWIDTH DIGIT ONE}",
    "\N{LATIN CAPITAL LETTER I WITH ACUTE}nv-1",
    unicodedata.normalize("NFD", "\N{LATIN CAPITAL LETTER I WITH ACUTE}nv-1"),
    "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}nv-1",
    "stra\N{LATIN SMALL LETTER SHARP S}e",
    "strasse",
    "\N{ANGSTROM SIGN}",
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}",
    " ",
    "%",
    "_",
    "'; DROP TABLE tape_effects; --",
    "\N{PILE OF POO}",
    "k" * 199,
    "k" * 200,
]


def test_business_keys_are_compared_byte_by_byte(database: Database) -> None:
    """Case, accents in either form, width and trailing spaces make another key: another payment."""
    made = {key: recorded(database, {"key": key}, business_key=key).effect_key for key in VARIANTS}
    assert len(set(made.values())) == count(database) == len(VARIANTS)
    for key, effect_key in made.items():
        assert record(database, an_intent({"key": key}, business_key=key)).effect.effect_key == effect_key


@pytest.mark.parametrize("status", [S.FAILED, S.CANCELLED])
def test_a_business_key_is_free_again_when_its_effect_did_not_happen(database: Database, status: EffectStatus) -> None:
    """Another request may then take it, and the first effect never takes it back."""
    first = in_state(database, status, business_key="b-1")
    assert not row(database, first.effect_key).holds_business_key
    second = record(database, an_intent(OTHER, business_key="b-1"))
    assert second.created
    assert row(database, second.effect.effect_key).holds_business_key


def test_a_business_key_that_was_let_go_is_never_taken_back(database: Database) -> None:
    """An effect that ended as absent and turns out to have landed is STUCK, while the key is its successor's."""
    first = in_state(database, S.UNKNOWN, business_key="b-1")
    look = claimed(database, first.effect_key, verb="look")
    absent = Observed(token=look.token, nonce=look.claim_nonce, status="absent")
    assert seal(database, look, absent, kind=EFFECTS).after.status is S.FAILED
    successor = recorded(database, OTHER, business_key="b-1")
    of_the_first_claim = replace(first, token=first.dispatch_token, claim_nonce="its nonce")
    assert seal_effect(database, of_the_first_claim, "confirmed", external_ref="ref-9").after.status is S.STUCK
    assert not row(database, first.effect_key).holds_business_key
    assert row(database, successor.effect_key).holds_business_key


@pytest.mark.parametrize("status", [S.CONFIRMED, S.STUCK])
def test_a_business_key_stays_taken(database: Database, status: EffectStatus) -> None:
    """By what happened, and by what may have happened."""
    in_state(database, status, request=REQUEST, business_key="b-1")
    with pytest.raises(KeyConflict):
        record(database, an_intent(OTHER, business_key="b-1"))


@pytest.mark.parametrize("status", [S.FAILED, S.CANCELLED, S.CONFIRMED])
def test_an_idempotency_key_is_unique_for_ever(database: Database, status: EffectStatus) -> None:
    """Also when its effect is over: the same request meets it, another is refused."""
    first = in_state(database, status, request=REQUEST, business_key="b-1", idempotency_key="i-1")
    again = record(database, an_intent(REQUEST, business_key="b-1", idempotency_key="i-1"))
    assert (again.created, again.effect.effect_key, again.effect.status) == (False, first.effect_key, status)
    with pytest.raises(KeyConflict):
        record(database, an_intent(OTHER, business_key="b-2", idempotency_key="i-1"))
    assert count(database) == 1


def test_32_threads_that_record_one_business_key_make_one_effect(database: Database) -> None:
    """One of them made it, and all of them hold it."""
    intents = [an_intent(REQUEST, business_key="b-1") for _ in range(32)]
    results = together([lambda asked=asked: record(database, asked) for asked in intents])
    assert [result.created for result in results].count(True) == 1
    assert len({result.effect.effect_key for result in results}) == 1
    assert (count(database), count(database, "tape_journal")) == (1, 1)


def test_of_16_requests_for_one_business_key_one_is_recorded(database: Database) -> None:
    """The others are refused, each naming the one that is."""

    def attempt(number: int) -> str:
        try:
            return record(database, an_intent({"amount": number}, business_key="b-1")).effect.effect_key
        except KeyConflict as conflict:
            return f"refused by {conflict.effect_key}"

    told = together([lambda number=number: attempt(number) for number in range(16)])
    (winner,) = [answer for answer in told if not answer.startswith("refused")]
    assert sorted(told) == sorted([winner, *[f"refused by {winner}"] * 15])
    assert (count(database), count(database, "tape_journal")) == (1, 1)


def test_recording_races_with_the_end_of_the_holder(database: Database, rng: random.Random) -> None:
    """While a key's holder is cancelled, each of many callers gets an effect that held the key, one at a time."""
    first = recorded(database, REQUEST, business_key="b-1")

    def cancel() -> str:
        return act(database, first.effect_key, CancelAsked(actor="test", reason="not wanted")).after.effect_key

    works = [lambda: record(database, an_intent(REQUEST, business_key="b-1")).effect.effect_key for _ in range(15)]
    works.insert(rng.randrange(len(works)), cancel)
    keys = set(together(works))
    holders = [key for key in keys if row(database, key).holds_business_key]
    assert len(holders) <= 1
    assert keys <= {first.effect_key, *holders}
    assert count(database) == 1 + len(holders)


def test_countdown_and_expiry_are_the_databases(database: Database) -> None:
    """Due and expiry are counted from the database's own now, and the sweep looks at whichever comes first."""
    delayed = recorded(database, delay_ms=60_000)
    assert delayed.due_at_ms == delayed.sweep_at_ms == delayed.created_at_ms + 60_000
    expiring = recorded(database, delay_ms=60_000, expires_in_ms=5_000)
    assert expiring.sweep_at_ms == expiring.expires_at_ms == expiring.created_at_ms + 5_000
    hinted = record(database, an_intent(), hint_ms=5_000).effect
    assert hinted.due_at_ms == hinted.created_at_ms
    assert hinted.sweep_at_ms == hinted.created_at_ms + 5_000
