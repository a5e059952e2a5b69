"""A COMMIT of a claim whose answer is lost: only what was read back under the claim's own nonce may be called."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tape_celery.errors import StoreUnavailable
from tape_celery.events import Lapsed
from tape_celery.records import Effect
from tape_celery.store.database import Database
from tests.servers import PostgresServer, TcpProxy, until
from tests.store.gate import closed_gate
from tests.store.steps import (
    BANK,
    COMMIT,
    REACH,
    act,
    before_statement,
    claim,
    claimed,
    in_state,
    journal,
    kinds,
    recorded,
    row,
    unreadable_numbers,
)
from tests.store.steps import S as Status


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_claim_that_was_committed_is_read_back_as_ones_own(
    far_store: Database, proxy: TcpProxy, server_store: Database, then: str
) -> None:
    """The answer was lost, the claim was not: its worker may call."""
    effect = recorded(server_store)
    cut = proxy.cut_after(COMMIT, then=then)  # type: ignore[arg-type]
    mine = claimed(far_store, effect.effect_key)
    assert cut.happened == 1
    assert mine == row(server_store, effect.effect_key)
    assert kinds(server_store, effect.effect_key) == ["recorded", "claimed"]
    assert journal(server_store, effect.effect_key)[-1].evidence["nonce"] == mine.claim_nonce


def test_a_claim_that_was_not_committed_is_nobodys(
    far_store: Database, proxy: TcpProxy, server_store: Database
) -> None:
    """The COMMIT never arrived: nothing is returned, so nothing is sent; the row is free for the next."""
    effect = recorded(server_store)
    cut = proxy.cut_before(COMMIT)
    assert claim(far_store, effect.effect_key) == []
    assert cut.happened == 1
    assert claimed(server_store, effect.effect_key).token == 1


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_a_claim_whose_answer_cannot_be_read_is_read_back_as_ones_own(server_store: Database) -> None:
    """It was committed, whatever the driver makes of what came back."""
    effect = recorded(server_store)
    with unreadable_numbers(server_store) as tries:
        mine = claimed(server_store, effect.effect_key)
    assert len(tries) == 1
    assert mine == row(server_store, effect.effect_key)
    assert kinds(server_store, effect.effect_key) == ["recorded", "claimed"]


@pytest.mark.parametrize("verb", ["call", "look"])
def test_the_same_token_does_not_make_another_workers_claim_ones_own(
    far_store: Database, proxy: TcpProxy, server_store: Database, verb: str
) -> None:
    """A's claim is rolled back and B takes the same token before A reads back: A gets nothing, by its nonce."""
    effect = in_state(server_store, Status.PENDING if verb == "call" else Status.UNKNOWN)
    theirs: list[Effect] = []
    cut = proxy.cut_before(COMMIT)

    def claim_for_b_once_a_was_cut() -> None:
        if cut.happened:
            theirs.append(claimed(server_store, effect.effect_key, verb=verb, actor="B"))

    with before_statement(far_store, "SELECT tape_effects.effect_key", claim_for_b_once_a_was_cut, times=2):
        assert claim(far_store, effect.effect_key, verb=verb, actor="A") == []  # type: ignore[arg-type]
    assert cut.happened == 1
    (b,) = theirs
    assert b.token == effect.token + 1
    assert row(server_store, effect.effect_key) == b
    assert [entry.actor for entry in journal(server_store, effect.effect_key)][-1] == "B"


def test_a_store_that_is_gone_after_the_claims_commit_lets_nobody_call(
    far_store: Database, proxy: TcpProxy, server_store: Database
) -> None:
    """Nobody can tell: the claim raises, so nothing is sent, and the lease ends by itself."""
    effect = recorded(server_store)
    cut = proxy.cut_after(COMMIT, then="hang")
    with ThreadPoolExecutor(1, thread_name_prefix="store-test") as executor:
        future = executor.submit(claim, far_store, effect.effect_key)
        cut.wait()
        proxy.mode = "refuse"
        with pytest.raises(StoreUnavailable):
            future.result(30)
    assert row(server_store, effect.effect_key).status is Status.DISPATCHING
    assert claim(server_store, effect.effect_key) == []


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_a_claim_whose_commit_is_still_under_way_is_not_taken_for_ones_own(
    far_store: Database, proxy: TcpProxy, server_store: Database, postgres: PostgresServer
) -> None:
    """It is not there yet when it is read back, so nobody calls; when it arrives its lease ends by itself."""
    effect = recorded(server_store)
    with closed_gate(postgres, server_store) as gate, ThreadPoolExecutor(1) as executor:
        future = executor.submit(claim, far_store, effect.effect_key)
        gate.wait_for_commit()
        proxy.drop_connections()
        assert future.result(30) == []
        gate.open()
        until(lambda: row(server_store, effect.effect_key).status is Status.DISPATCHING, what="the end of the COMMIT")
    server_store.shift_ms = REACH.lease_ms[BANK] + 1
    assert act(server_store, effect.effect_key, Lapsed(actor="sweep")).after.status is Status.UNKNOWN


def test_a_chunk_whose_answer_is_lost_comes_back_whole(
    far_store: Database, proxy: TcpProxy, server_store: Database
) -> None:
    """Those of the chunk that were claimed, and not those that another worker has."""
    # Few, so that PostgreSQL sends all of its answer at once: of a longer one the first part leaves before the commit.
    keys = [recorded(server_store).effect_key for _ in range(8)]
    taken = {effect.effect_key for effect in claim(server_store, *keys[:3])}
    cut = proxy.cut_after(COMMIT)
    got = claim(far_store, *keys)
    assert cut.happened == 1
    assert {effect.effect_key for effect in got} == set(keys) - taken
    assert len({effect.claim_nonce for effect in got}) == 1
