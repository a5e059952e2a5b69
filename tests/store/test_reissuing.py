"""One successor for an effect, whatever races, dies or is not answered."""

from __future__ import annotations

from typing import Literal

import pytest
from sqlalchemy import Connection, delete, insert

from tape_celery import Tape
from tape_celery.errors import AlreadyReissued, KeyConflict
from tape_celery.events import CancelAsked, Observed
from tape_celery.records import Effect, EffectStatus
from tape_celery.schema import effects, tombstones
from tape_celery.schema import journal as journals
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tests.servers import TcpProxy
from tests.store.conftest import MakeTape, url_of
from tests.store.steps import (
    COMMIT,
    TERMS,
    act,
    an_intent,
    before_statement,
    claimed,
    commits_of_a_read,
    count,
    in_state,
    kinds,
    record,
    row,
    seal,
    together,
)

S = EffectStatus


def reissued(tape: Tape, effect: Effect) -> str:
    """The successor's key, made or met."""
    try:
        return str(tape.reissue(effect.effect_key, reason="again", actor="test").id)
    except AlreadyReissued as refused:
        return refused.successor


def test_of_many_who_reissue_at_once_one_does(database: Database, make_tape: MakeTape) -> None:
    """The others are told the name of its successor."""
    effect = in_state(database, S.FAILED, business_key="b-1")
    tapes = [make_tape(url_of(database)) for _ in range(6)]
    for tape in tapes:
        tape.database.ready()
    successors = together([lambda tape=tape: reissued(tape, effect) for tape in tapes])
    assert len(set(successors)) == 1
    assert count(database) == 2
    assert row(database, effect.effect_key).reissued_as == successors[0]
    assert kinds(database, effect.effect_key)[-2:] == ["failed", "reissued"]
    assert tapes[0].audit() == []


def test_a_business_key_that_is_taken_under_the_reissue_wins(database: Database, tape: Tape) -> None:
    """The index decides, and nothing of the reissue stays."""
    effect = in_state(database, S.FAILED, business_key="b-1")
    taken = []

    def take() -> None:
        taken.append(record(database, an_intent(business_key="b-1")).effect)

    if database.url.get_backend_name() == "sqlite":
        take()
        with pytest.raises(KeyConflict):
            reissued(tape, effect)
    else:
        with before_statement(tape.database, "INSERT INTO tape_effects", take), pytest.raises(KeyConflict) as conflict:
            reissued(tape, effect)
        assert conflict.value.effect_key == taken[0].effect_key
    assert row(database, effect.effect_key) == effect
    assert count(database) == 2


def test_a_business_key_that_is_free_again_is_taken(database: Database, tape: Tape) -> None:
    """Its holder ends between the refusal of the index and the look for whom to name."""
    effect = in_state(database, S.FAILED, business_key="b-1")
    other = record(database, an_intent(business_key="b-1")).effect

    def let_go() -> None:
        act(database, other.effect_key, CancelAsked(actor="test", reason="no"))

    with before_statement(tape.database, "SELECT tape_effects.effect_key, tape_effects.status", let_go) as met:
        fresh = reissued(tape, effect)
    assert len(met) == 1
    assert row(database, fresh).holds_business_key


@pytest.mark.parametrize(("status", "ends"), [("CONFIRMED", S.FAILED), ("FAILED", S.STUCK)])
def test_a_successor_that_was_pruned_is_known_by_its_tombstone(
    database: Database, tape: Tape, status: str, ends: S
) -> None:
    """What is seen of the first may be its record, as long as anything of it is kept."""
    key = in_state(database, S.UNKNOWN).effect_key
    look(database, key, "absent")
    fresh = row(database, reissued(tape, row(database, key)))
    same = ("effect_key", "connector", "idempotency_key", "business_key", "run_id", "request_digest", "external_ref")
    buried = {name: getattr(fresh, name) for name in same}
    buried |= {"status": status, "created_at_ms": 1, "ended_at_ms": 1, "pruned_at_ms": 1}

    def prune(connection: Connection) -> None:
        connection.execute(insert(tombstones), buried)
        connection.execute(delete(journals).where(journals.c.effect_key == fresh.effect_key))
        connection.execute(delete(effects).where(effects.c.effect_key == fresh.effect_key))

    database.write(prune)
    assert tape.audit() == []
    database.shift_ms = TERMS.watch_ms[0] + 1000
    look(database, key, "confirmed")
    assert row(database, key).status is ends


def look(database: Database, key: str, status: Literal["absent", "confirmed"]) -> None:
    mine = claimed(database, key, verb="look")
    seal(database, mine, Observed(token=mine.token, nonce=mine.claim_nonce, status=status), kind=EFFECTS)


@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "never arrived"])
def test_a_lost_answer_to_commit_makes_no_second_successor(
    server_store: Database, proxy: TcpProxy, make_tape: MakeTape, arrived: bool
) -> None:
    """Reading back gives the successor that was made, or makes the one."""
    effect = in_state(server_store, S.FAILED, business_key="b-1")
    tape = make_tape(proxy.url(url_of(server_store)))
    assert tape.get(effect.effect_key) is not None
    skip = commits_of_a_read(server_store)  # the effect is read, and then comes the act
    cut = proxy.cut_after(COMMIT, skip=skip) if arrived else proxy.cut_before(COMMIT, skip=skip)
    handle = tape.reissue(effect.effect_key, reason="again", actor="test")
    assert cut.happened == 1
    assert row(server_store, effect.effect_key).reissued_as == handle.id
    assert row(server_store, handle.id).reissue_of == effect.effect_key
    assert count(server_store) == 2
    assert kinds(server_store, effect.effect_key).count("reissued") == 1
    assert kinds(server_store, handle.id) == ["recorded"]
