"""Effects of one ordering key: numbers in the order of their commits, one claim at a time, and the next is woken."""

from __future__ import annotations

import random
import threading

import pytest
from sqlalchemy import select

from tape_celery.errors import KeyConflict
from tape_celery.events import CancelAsked, Expired, Observed, Resolved
from tape_celery.records import Effect, EffectStatus
from tape_celery.schema import effects
from tape_celery.store import due
from tape_celery.store.claims import Reach
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tests.store.steps import (
    BANK,
    REACH,
    S,
    act,
    an_intent,
    before_statement,
    claim,
    claimed,
    in_state,
    record,
    recorded,
    row,
    seal,
    seal_effect,
    together,
)

KEY = "account-7"


def ordered(database: Database, count: int = 3, **given: object) -> list[Effect]:
    return [recorded(database, {"n": n}, ordering_key=KEY, **given) for n in range(count)]


def keys(found: list[Effect]) -> list[str]:
    return [effect.effect_key for effect in found]


def swept(database: Database) -> list[due.Due]:
    return due.due(database, EFFECTS, connector=BANK, reach=REACH, limit=100)


# --- numbers ---


def test_numbers_follow_the_order_of_recording(database: Database) -> None:
    """Each ordering key has its own; an effect without one has none."""
    assert [effect.order_number for effect in ordered(database)] == [1, 2, 3]
    assert recorded(database, ordering_key="another").order_number == 1
    assert recorded(database).order_number == 0
    assert recorded(database, ordering_key=KEY).order_number == 4


def test_a_number_goes_with_its_intent(database: Database) -> None:
    """An intent that meets its own effect or is refused takes none, or one that nobody misses."""
    first = recorded(database, {"n": 1}, ordering_key=KEY, business_key="b")
    assert record(database, an_intent({"n": 1}, ordering_key=KEY, business_key="b")).effect == first
    with pytest.raises(KeyConflict):
        record(database, an_intent({"n": 2}, ordering_key=KEY, business_key="b"))
    assert recorded(database, ordering_key=KEY).order_number == 2


def test_whoever_sees_a_number_sees_all_before_it(database: Database) -> None:
    """While 8 threads record the very first ones, and a reader watches."""
    ended = threading.Event()
    gaps: list[list[int]] = []

    def watch() -> None:
        statement = select(effects.c.order_number).where(effects.c.ordering_key == KEY)
        while not ended.is_set():
            seen = sorted(database.read(lambda connection: connection.execute(statement).scalars().all()))
            if seen != list(range(1, len(seen) + 1)):
                gaps.append(seen)

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        made = together([lambda: [recorded(database, ordering_key=KEY).order_number for _ in range(5)]] * 8)
    finally:
        ended.set()
        reader.join(30)
    assert gaps == []
    assert sorted(number for numbers in made for number in numbers) == list(range(1, 41))
    assert all(numbers == sorted(numbers) for numbers in made)


# --- whose turn it is ---


def test_of_one_key_a_claim_takes_the_first_alone(database: Database, rng: random.Random) -> None:
    """In whatever order they are asked for; those of other keys and of none are not concerned."""
    mine, others = ordered(database), [recorded(database, ordering_key="another"), recorded(database)]
    asked = keys([*mine, *others])
    rng.shuffle(asked)
    assert set(keys(claim(database, *asked))) == {mine[0].effect_key, *keys(others)}
    assert claim(database, *keys(mine)) == []
    assert [row(database, key).attempt for key in keys(mine)] == [1, 0, 0]


@pytest.mark.parametrize("status", [S.PENDING, S.DISPATCHING, S.UNKNOWN, S.STUCK])
def test_what_is_not_settled_holds_its_key(database: Database, status: EffectStatus) -> None:
    """Whatever the connector of the next one is; a PENDING one that waits for its time holds it too."""
    delay = {"delay_ms": 60_000} if status is S.PENDING else {}
    in_state(database, status, ordering_key=KEY, **delay)
    second = recorded(database, ordering_key=KEY, connector="bank.sepa")
    assert claim(database, second.effect_key, reach=Reach({BANK: 30_000, "bank.sepa": 30_000})) == []


@pytest.mark.parametrize("status", [S.CONFIRMED, S.FAILED, S.CANCELLED])
def test_what_is_settled_does_not(database: Database, status: EffectStatus) -> None:
    """However it ended."""
    in_state(database, status, ordering_key=KEY)
    claimed(database, recorded(database, ordering_key=KEY).effect_key)


def test_many_claimers_take_one_at_a_time(database: Database, rng: random.Random) -> None:
    """8 threads claim all of them at once, again and again: there is never more than one under way."""
    mine = ordered(database, 6)
    order: list[str] = []
    lock, under_way = threading.Lock(), [0]

    def work() -> bool:
        while len(order) < len(mine):
            asked = keys(mine)
            for got in claim(database, *asked):
                with lock:
                    under_way[0] += 1
                    assert under_way[0] == 1
                    order.append(got.effect_key)
                with lock:
                    under_way[0] -= 1
                seal_effect(database, got, rng.choice(["confirmed", "failed"]))
        return True

    assert all(together([work] * 8))
    assert order == keys(mine)


def test_late_evidence_of_an_ended_one_does_not_stop_the_next(database: Database) -> None:
    """It becomes STUCK; what is under way by then goes on, and what comes after waits."""
    first, second, third = ordered(database)
    look = claimed(database, in_unknown(database, first).effect_key, verb="look")
    seal(database, look, Observed(token=look.token, nonce=look.claim_nonce, status="absent"), kind=EFFECTS)
    assert row(database, first.effect_key).status is S.FAILED
    going = claimed(database, second.effect_key)
    watch = claimed(database, forced_due(database, first.effect_key), verb="look")
    stuck = seal(
        database, watch, Observed(token=watch.token, nonce=watch.claim_nonce, status="confirmed"), kind=EFFECTS
    )
    assert stuck.after.status is S.STUCK
    assert seal_effect(database, going).after.status is S.CONFIRMED
    assert claim(database, third.effect_key) == []
    act(database, first.effect_key, Resolved(actor="ann", reason="r", verdict="confirmed"))
    claimed(database, third.effect_key)


def in_unknown(database: Database, effect: Effect) -> Effect:
    return seal_effect(database, claimed(database, effect.effect_key), "unknown").after


def forced_due(database: Database, key: str) -> str:
    """The clock is where the absence is watched."""
    database.shift_ms += 2 * 86_400_000
    return key


# --- the sweep ---


def test_those_that_wait_are_left_alone_until_they_are_woken(database: Database) -> None:
    """A sweep finds them once, and the next one again when the one before it is settled."""
    first, second, third = ordered(database)
    found = {one.key: one for one in swept(database)}
    assert [found[key].waits for key in keys([first, second, third])] == [False, True, True]
    due.park(database, [found[second.effect_key], found[third.effect_key]], span_ms=60_000)
    assert [one.key for one in swept(database)] == [first.effect_key]
    done = seal_effect(database, claimed(database, first.effect_key))
    assert done.next is not None
    assert done.next.effect_key == second.effect_key
    assert [(one.key, one.waits) for one in swept(database)] == [(second.effect_key, False)]


def test_one_that_was_woken_is_not_put_to_sleep_again(database: Database) -> None:
    """A sweep that read it before is too late."""
    first, second = ordered(database, 2, delay_ms=-5000)
    seen = [one for one in swept(database) if one.waits]
    seal_effect(database, claimed(database, first.effect_key))
    due.park(database, seen, span_ms=60_000)
    assert [one.key for one in swept(database)] == [second.effect_key]


def test_one_that_waits_expires_in_time(database: Database) -> None:
    """It is left alone until then at most."""
    ordered(database, 1)
    second = recorded(database, ordering_key=KEY, expires_in_ms=5000)
    due.park(database, [one for one in swept(database) if one.waits], span_ms=60_000)
    assert row(database, second.effect_key).sweep_at_ms == second.expires_at_ms
    database.shift_ms += 5001
    third = recorded(database, ordering_key=KEY)
    assert act(database, second.effect_key, Expired(actor="test")).next is None
    assert claim(database, third.effect_key) == []


@pytest.mark.parametrize("way", ["seal", "look", "cancel", "resolve", "expiry"])
def test_however_one_is_settled_the_next_is_woken(database: Database, way: str) -> None:
    """In the same transaction: whoever dies then, the next sweep finds it."""
    first = recorded(database, ordering_key=KEY, expires_in_ms=1000)
    second = recorded(database, ordering_key=KEY)
    due.park(database, [one for one in swept(database) if one.waits], span_ms=60_000)
    key = first.effect_key
    if way == "seal":
        moved = seal_effect(database, claimed(database, key), "failed")
    elif way == "look":
        look = claimed(database, in_unknown(database, first).effect_key, verb="look")
        moved = seal(
            database, look, Observed(token=look.token, nonce=look.claim_nonce, status="confirmed"), kind=EFFECTS
        )
    elif way == "cancel":
        moved = act(database, key, CancelAsked(actor="ann", reason="r"))
    elif way == "resolve":
        in_unknown(database, first)
        moved = act(database, key, Resolved(actor="ann", reason="r", verdict="failed"))
    else:
        database.shift_ms += 1001
        moved = act(database, key, Expired(actor="test"))
    assert moved.after.status.settled
    assert moved.next is not None
    assert moved.next.effect_key == second.effect_key
    assert second.effect_key in [one.key for one in swept(database)]


def test_of_one_that_is_cancelled_while_the_one_before_it_ends_the_next_is_woken(server_store: Database) -> None:
    """Between the look for who is next and the write that wakes it, that one ends: it is the one after it then."""
    database = server_store  # SQLite has one writer at a time
    first, second, third = ordered(database)
    other = Database(database.url.render_as_string(hide_password=False))
    mine = claimed(database, first.effect_key)
    met = 0

    def cancel_second() -> None:
        nonlocal met
        met += 1
        if met == 2:  # the first UPDATE is the end of the first one, the second wakes
            act(other, second.effect_key, CancelAsked(actor="ann", reason="r"))

    with before_statement(database, "UPDATE tape_effects", cancel_second, times=2):
        moved = seal_effect(database, mine)
    other.close()
    assert moved.next is not None
    assert moved.next.effect_key == third.effect_key
