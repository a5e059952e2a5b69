"""A COMMIT of a seal or of a person's act whose answer is lost: it counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tape_celery import Tape
from tape_celery.errors import StoreUnavailable
from tape_celery.events import CancelAsked, Event, Lapsed, Observed, OweAsked, Resolved, Unobservable
from tape_celery.records import Effect, EffectStatus, ObligationStatus
from tape_celery.store import inspection, moves
from tape_celery.store.database import Database
from tape_celery.store.moves import Move
from tape_celery.store.rows import EFFECTS, OBLIGATIONS
from tests.servers import PostgresServer, TcpProxy
from tests.store.conftest import MakeTape, url_of
from tests.store.gate import closed_gate
from tests.store.steps import (
    BANK,
    COMMIT,
    REACH,
    TERMS,
    act,
    answer,
    claimed,
    commits_of_a_read,
    in_state,
    journal,
    kinds,
    row,
    seal_effect,
)

S = EffectStatus


def look(database: Database) -> Effect:
    effect = in_state(database, S.UNKNOWN)
    return claimed(database, effect.effect_key, verb="look")  # type: ignore[no-any-return]


def said(mine: Effect, status: str, **given: Any) -> Observed:
    return Observed(token=mine.token, nonce=mine.claim_nonce, status=status, **given)  # type: ignore[arg-type]


Case = tuple[Callable[[Database], Effect], Callable[[Effect], Event], EffectStatus, str, int]

CASES: dict[str, Case] = {
    "confirmed": (
        lambda store: in_state(store, S.DISPATCHING),
        lambda mine: answer(mine, "confirmed", external_ref="ref-1"),
        S.CONFIRMED,
        "confirmed",
        0,
    ),
    "failed": (
        lambda store: in_state(store, S.DISPATCHING),
        lambda mine: answer(mine, "failed"),
        S.FAILED,
        "failed",
        0,
    ),
    "retry": (
        lambda store: in_state(store, S.DISPATCHING),
        lambda mine: answer(mine, "failed", retry_in_ms=5_000),
        S.PENDING,
        "retry",
        0,
    ),
    "unsent": (
        lambda store: in_state(store, S.DISPATCHING),
        lambda mine: answer(mine, "unknown", sent=False, backoff_ms=5_000),
        S.PENDING,
        "unsent",
        0,
    ),
    "unknown": (
        lambda store: in_state(store, S.DISPATCHING),
        lambda mine: answer(mine, "unknown"),
        S.UNKNOWN,
        "unknown",
        0,
    ),
    "look again": (look, lambda mine: said(mine, "stuck", backoff_ms=5_000), S.UNKNOWN, "observed", 0),
    "absent": (look, lambda mine: said(mine, "absent"), S.FAILED, "observed", 0),
    "duplicate": (
        look,
        lambda mine: said(mine, "duplicate", external_ref="stays", duplicates=("one", "two")),
        S.CONFIRMED,
        "observed",
        2,
    ),
    "unobservable": (
        look,
        lambda mine: Unobservable(token=mine.token, nonce=mine.claim_nonce),
        S.STUCK,
        "unobservable",
        0,
    ),
    "cancelled": (
        lambda store: in_state(store, S.PENDING),
        lambda mine: CancelAsked(actor="person", reason="no"),
        S.CANCELLED,
        "cancelled",
        0,
    ),
    "cancel requested": (
        lambda store: in_state(store, S.DISPATCHING),
        lambda mine: CancelAsked(actor="person", reason="no"),
        S.DISPATCHING,
        "cancel requested",
        0,
    ),
    "resolved": (
        lambda store: in_state(store, S.STUCK),
        lambda mine: Resolved(actor="person", reason="seen", verdict="confirmed", external_ref="r"),
        S.CONFIRMED,
        "resolved",
        0,
    ),
    "owed": (
        lambda store: in_state(store, S.CONFIRMED),
        lambda mine: OweAsked(actor="person", reason="wrong"),
        S.CONFIRMED,
        "owed",
        1,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "never arrived"])
def test_it_counts_once(far_store: Database, proxy: TcpProxy, server_store: Database, case: str, arrived: bool) -> None:
    """Whether the COMMIT was executed or not: one journal entry, one state, each obligation once and reported."""
    prepare, event, status, kind, obligations = CASES[case]
    effect = prepare(server_store)
    cut = proxy.cut_after(COMMIT) if arrived else proxy.cut_before(COMMIT)
    result = moves.act(far_store, EFFECTS, effect.effect_key, event(effect), TERMS)
    assert cut.happened == 1
    after = row(server_store, effect.effect_key)
    assert (after.status, after.version) == (status, effect.version + 1)
    assert kinds(server_store, effect.effect_key)[effect.version :] == [kind]
    assert (result.kind, result.after) == (kind, after)
    owed = inspection.list_obligations(server_store, effect_key=effect.effect_key)
    assert len(owed) == obligations
    assert sorted(result.owed) == [debt.obligation_key for debt in owed]


def test_a_batch_counts_once_each(far_store: Database, proxy: TcpProxy, server_store: Database) -> None:
    """Sealed together, lost together, found together."""
    batch = [in_state(server_store, S.DISPATCHING) for _ in range(10)]
    cut = proxy.cut_after(COMMIT)
    results = moves.move(far_store, EFFECTS, [Move(mine.effect_key, answer(mine), TERMS) for mine in batch])
    assert cut.happened == 1
    assert {getattr(result, "kind", result) for result in results.values()} == {"confirmed"}
    for mine in batch:
        assert kinds(server_store, mine.effect_key) == ["recorded", "claimed", "confirmed"]


def test_an_obligations_seal_counts_once(far_store: Database, proxy: TcpProxy, server_store: Database) -> None:
    """As an effect's does."""
    effect = in_state(server_store, S.CONFIRMED)
    (key,) = act(server_store, effect.effect_key, OweAsked(actor="test", reason="wrong")).owed
    mine = claimed(server_store, key, kind=OBLIGATIONS)
    cut = proxy.cut_after(COMMIT)
    assert moves.act(far_store, OBLIGATIONS, key, answer(mine), TERMS).kind == "compensated"
    assert cut.happened == 1
    assert kinds(server_store, key) == ["recorded", "claimed", "compensated"]
    found = inspection.get_obligation(server_store, key)
    assert found is not None
    assert found.status is ObligationStatus.COMPENSATED


@pytest.mark.parametrize(
    "case", ["confirmed", "failed", "retry", "unsent", "unknown", "look again", "absent", "duplicate", "unobservable"]
)
def test_a_seal_that_is_tried_again_much_later_counts_once(
    far_store: Database, proxy: TcpProxy, server_store: Database, case: str
) -> None:
    """The store was gone right after the COMMIT; the engine tries the same seal again when it is back."""
    prepare, event, status, kind, _ = CASES[case]
    effect = prepare(server_store)
    ended = event(effect)
    with gone_after_commit(proxy, lambda: moves.act(far_store, EFFECTS, effect.effect_key, ended, TERMS)):
        pass
    again = moves.act(far_store, EFFECTS, effect.effect_key, ended, TERMS)
    after = row(server_store, effect.effect_key)
    assert (after.status, after.version) == (status, effect.version + 1)
    assert kinds(server_store, effect.effect_key)[effect.version :] == [kind]
    assert (again.kind, again.after) == (kind, after)


def test_late_evidence_that_is_delivered_twice_is_journaled_once(database: Database) -> None:
    """The seal of an answer that came too late is tried again like any other."""
    mine = in_state(database, S.DISPATCHING)
    database.shift_ms = REACH.lease_ms[BANK] + 1
    act(database, mine.effect_key, Lapsed(actor="sweep"))
    first = seal_effect(database, mine, "confirmed", external_ref="ref-1")
    second = seal_effect(database, mine, "confirmed", external_ref="ref-1")
    assert (first.kind, second.kind) == ("late", "late")
    assert kinds(database, mine.effect_key) == ["recorded", "claimed", "lapsed", "late"]
    assert row(database, mine.effect_key).status is S.CONFIRMED


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_a_commit_that_is_still_under_way_is_waited_for(
    far_store: Database, proxy: TcpProxy, server_store: Database, postgres: PostgresServer
) -> None:
    """The second try waits for the first's COMMIT on the row, and then finds its own entry in the journal."""
    effect = in_state(server_store, S.STUCK)
    verdict = Resolved(actor="person", reason="seen at the bank", verdict="confirmed", external_ref="r")
    with closed_gate(postgres, server_store) as gate, ThreadPoolExecutor(1) as executor:
        future = executor.submit(act, far_store, effect.effect_key, verdict)
        gate.wait_for_commit()
        proxy.drop_connections()
        gate.wait_for_blocked()
        gate.open()
        assert future.result(30).kind == "resolved"
    assert kinds(server_store, effect.effect_key)[effect.version :] == ["resolved"]


def test_a_person_who_owes_is_given_the_obligation_whatever_happened_to_the_answer(
    server_store: Database, proxy: TcpProxy, make_tape: MakeTape
) -> None:
    """`tape.owe` returns it."""
    effect = in_state(server_store, S.CONFIRMED)
    tape: Tape = make_tape(proxy.url(url_of(server_store)))
    assert tape.get(effect.effect_key) is not None
    cut = proxy.cut_after(COMMIT, skip=commits_of_a_read(server_store))  # the effect is read, and then comes the act
    owed = tape.owe(effect.effect_key, reason="wrong account", actor="person")
    assert cut.happened == 1
    assert [owed] == inspection.list_obligations(server_store, effect_key=effect.effect_key)


def test_a_refusal_is_not_made_an_act_by_a_lost_answer(
    far_store: Database, proxy: TcpProxy, server_store: Database
) -> None:
    """Nothing was written, so there is nothing to find; the second try is refused like the first."""
    effect = in_state(server_store, S.CONFIRMED)
    cut = proxy.cut_after(COMMIT)
    results = moves.move(far_store, EFFECTS, [Move(effect.effect_key, CancelAsked(reason="no"), TERMS)])
    assert cut.happened == 1
    assert isinstance(results[effect.effect_key], moves.NotAllowed)
    assert len(journal(server_store, effect.effect_key)) == effect.version


@contextmanager
def gone_after_commit(proxy: TcpProxy, work: Callable[[], object]) -> Iterator[None]:
    """``work``, whose COMMIT is executed and never answered, on a store that is gone until the block is left."""
    cut = proxy.cut_after(COMMIT, then="hang")
    with ThreadPoolExecutor(1, thread_name_prefix="store-test") as executor:
        future = executor.submit(work)
        cut.wait()
        proxy.mode = "refuse"
        with pytest.raises(StoreUnavailable):
            future.result(30)
    yield
    proxy.mode = "pass"
