"""On PostgreSQL all that a seal writes is sent in one piece; and is what it always was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tape_celery.events import Answered, CancelAsked, Lapsed
from tape_celery.intent import Callback
from tape_celery.records import Effect, RunStatus, replace
from tape_celery.store import claims, moves, runs
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tests.servers import TcpProxy
from tests.store.conftest import Open, url_of
from tests.store.steps import (
    COMMIT,
    REACH,
    TERMS,
    S,
    act,
    an_intent,
    answer,
    before_statement,
    execute,
    journal,
    kinds,
    record,
    recorded,
    row,
    scalar,
    statements,
    violations,
)

WAYS: list[tuple[str, dict[str, Any], S]] = [
    ("confirmed", {"external_ref": "ref-1", "response_json": '{"a":"é"}'}, S.CONFIRMED),
    ("failed", {"reason": "refused", "error_json": '{"b":"\\\\"}'}, S.FAILED),
    ("unknown", {"reason": "lost"}, S.UNKNOWN),
    ("unknown", {"sent": False, "backoff_ms": 1000}, S.PENDING),
]


def taken(database: Database, *keys: str) -> claims.Taken[Effect]:
    """Those effects, claimed; and the heads of their journals."""
    return claims.take(database, EFFECTS, keys, verb="call", reach=REACH, actor="test")


def asked(mine: claims.Taken[Effect], answers: Sequence[Answered], *, head: bool = True) -> list[moves.Move]:
    """The seals of ``mine``."""
    heads = mine.heads if head else {}
    return [
        moves.Move(one.effect_key, event, TERMS, one, heads.get(one.effect_key))
        for one, event in zip(mine.claimed, answers, strict=True)
    ]


def sealed(database: Database, mine: claims.Taken[Effect], answers: Sequence[Answered]) -> dict[str, Any]:
    """What became of ``mine``, of which nothing was written but in one piece."""
    with statements(database, pipelined=False) as seen:
        results = moves.move(database, EFFECTS, asked(mine, answers))
    assert [statement for statement, _ in seen] == []
    return results


def without_names(found: Effect) -> Effect:
    """``found`` without what no other has."""
    names = ("effect_key", "idempotency_key", "run_id", "claim_nonce")
    instants = (name for name in vars(found) if name.endswith("_ms") and getattr(found, name) is not None)
    nothing: dict[str, Any] = {**dict.fromkeys(names, ""), **dict.fromkeys(instants, 0)}
    return replace(found, **nothing)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(("status", "given", "ends"), WAYS)
def test_row_and_entry_are_those_of_the_ordinary_way(
    postgres_store: Database, status: str, given: dict[str, Any], ends: S, number: int
) -> None:
    """But for keys, nonce and instants, whatever the answer was."""
    usual = taken(postgres_store, recorded(postgres_store).effect_key)
    [old] = moves.move(
        postgres_store, EFFECTS, asked(usual, [answer(usual.claimed[0], status, **given)], head=False)
    ).values()
    assert isinstance(old, moves.Moved)
    mine = taken(postgres_store, *(recorded(postgres_store).effect_key for _ in range(number)))
    results = sealed(postgres_store, mine, [answer(one, status, **given) for one in mine.claimed])
    assert len(results) == number
    old_entry = journal(postgres_store, old.after.effect_key)[-1]
    for key, new in results.items():
        assert new.after == row(postgres_store, key)
        assert new.after.status is ends
        assert without_names(new.after) == without_names(old.after)
        entry = journal(postgres_store, key)[-1]
        same = ("seq", "kind", "from_status", "status", "token", "actor")
        assert [getattr(entry, name) for name in same] == [getattr(old_entry, name) for name in same]
        assert entry.evidence == {**old_entry.evidence, "nonce": new.before.claim_nonce}
        assert entry.at_ms == new.after.updated_at_ms
    assert violations(postgres_store) == []


def test_what_ended_in_different_ways_is_sealed_together(postgres_store: Database) -> None:
    """Rows of which other columns change are other statements of the same piece; what is refused is told."""
    mine = taken(postgres_store, *(recorded(postgres_store).effect_key for _ in WAYS * 2))
    answers = [answer(one, way[0], **way[1]) for one, way in zip(mine.claimed, WAYS * 2, strict=True)]
    results = sealed(postgres_store, mine, answers)
    assert [results[one.effect_key].after.status for one in mine.claimed] == [way[2] for way in WAYS * 2]
    assert {row(postgres_store, key) for key in results} == {result.after for result in results.values()}
    assert violations(postgres_store) == []


def test_callbacks_that_fall_due_and_a_closed_run_are_told(postgres_store: Database) -> None:
    """They are in the transaction, and the results say that somebody has to see to them."""
    called = Callback(event="confirmed", signature_json="{}")
    waiting = record(postgres_store, an_intent(callbacks=(called,))).effect
    in_run = recorded(postgres_store, run_id="order-1")
    mine = taken(postgres_store, waiting.effect_key, in_run.effect_key)
    runs.close(postgres_store, "order-1", RunStatus.CANCELLING, reason="over", actor="test")
    results = sealed(postgres_store, mine, [answer(one) for one in mine.claimed])
    assert {result.run_may_walk for result in results.values()} == {True}
    assert results[waiting.effect_key].may_call_back
    assert scalar(postgres_store, "SELECT status FROM tape_callbacks") == "DUE"
    assert scalar(postgres_store, "SELECT version FROM tape_runs WHERE run_id = 'order-1'") == 2


def _cancelled(other: Database, one: Effect) -> None:
    act(other, one.effect_key, CancelAsked(actor="test", reason="not wanted"))


def _renewed(other: Database, one: Effect) -> None:
    assert claims.renew(other, EFFECTS, one, lease_ms=60_000)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    ("meanwhile", "expected"),
    [(_cancelled, ["cancel requested", "confirmed"]), (_renewed, ["confirmed"])],
    ids=["cancelled", "renewed"],
)
def test_a_row_that_somebody_moved_meanwhile_is_sealed_as_it_has_become(
    postgres_store: Database,
    open_database: Open,
    meanwhile: Callable[[Database, Effect], None],
    expected: list[str],
    number: int,
) -> None:
    """Nothing of the piece is committed: the seal is done again, of the row as it is by then."""
    other = open_database(url_of(postgres_store))
    mine = taken(postgres_store, *(recorded(postgres_store).effect_key for _ in range(number)))
    last = mine.claimed[-1]
    with before_statement(postgres_store, "UPDATE tape_effects", lambda: meanwhile(other, last)):
        results = moves.move(postgres_store, EFFECTS, asked(mine, [answer(one) for one in mine.claimed]))
    assert kinds(postgres_store, last.effect_key) == ["recorded", "claimed", *expected]
    for one in mine.claimed:
        result = results[one.effect_key]
        assert isinstance(result, moves.Moved)
        assert result.after == row(postgres_store, one.effect_key)
        assert (result.after.status, kinds(postgres_store, one.effect_key)[-1]) == (S.CONFIRMED, "confirmed")
    assert violations(postgres_store) == []


def test_a_row_that_is_gone_from_under_the_claim_leaves_the_others_as_they_should_be(
    postgres_store: Database, open_database: Open
) -> None:
    """One lease lapsed meanwhile: its answer is late evidence, the other one's is in time."""
    other = open_database(url_of(postgres_store))
    mine = taken(postgres_store, *(recorded(postgres_store).effect_key for _ in range(2)))
    lapsing, staying = (one.effect_key for one in mine.claimed)

    def lapse() -> None:
        execute(other, "UPDATE tape_effects SET lease_until_ms = 0 WHERE effect_key = :key", key=lapsing)
        moves.move(other, EFFECTS, [moves.Move(lapsing, Lapsed(actor="sweep", lease_until_ms=0), TERMS)])

    with before_statement(postgres_store, "UPDATE tape_effects", lapse):
        moves.move(postgres_store, EFFECTS, asked(mine, [answer(one) for one in mine.claimed]))
    assert kinds(postgres_store, lapsing) == ["recorded", "claimed", "lapsed", "late"]
    assert kinds(postgres_store, staying) == ["recorded", "claimed", "confirmed"]
    assert {row(postgres_store, key).status for key in (lapsing, staying)} == {S.CONFIRMED}


@pytest.mark.parametrize("begins", ["SELECT CAST", "UPDATE tape_effects", "UPDATE tape_r"])
def test_a_connection_that_breaks_before_any_statement_costs_nothing(
    postgres_store: Database, open_database: Open, begins: str
) -> None:
    """Nothing was committed, so it is all done again on another connection; once."""
    other = open_database(url_of(postgres_store))
    mine = taken(postgres_store, recorded(postgres_store).effect_key, recorded(postgres_store).effect_key)

    def break_all_others() -> None:
        scalar(
            other,
            "SELECT COUNT(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )

    with before_statement(postgres_store, begins, break_all_others) as met:
        results = moves.move(postgres_store, EFFECTS, asked(mine, [answer(one) for one in mine.claimed]))
    assert met
    for key, result in results.items():
        assert isinstance(result, moves.Moved)
        assert kinds(postgres_store, key) == ["recorded", "claimed", "confirmed"]
    assert violations(postgres_store) == []


@pytest.mark.parametrize("table", ["tape_effects", "tape_journal"])
def test_what_the_database_refuses_for_once_is_tried_again(postgres_store: Database, table: str) -> None:
    """A deadlock, say, that ends the piece in its middle."""
    mine = taken(postgres_store, recorded(postgres_store).effect_key)
    execute(postgres_store, "CREATE SEQUENCE tries")
    execute(
        postgres_store,
        "CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('tries') = 1 THEN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END IF;"
        " RETURN NEW; END $$",
    )
    execute(
        postgres_store,
        f"CREATE TRIGGER refuse_once BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_once()",
    )
    try:
        moves.move(postgres_store, EFFECTS, asked(mine, [answer(mine.claimed[0])]))
        assert scalar(postgres_store, "SELECT last_value FROM tries") == 2
    finally:
        execute(postgres_store, "DROP FUNCTION refuse_once CASCADE")
        execute(postgres_store, "DROP SEQUENCE tries")
    assert kinds(postgres_store, mine.claimed[0].effect_key) == ["recorded", "claimed", "confirmed"]


@pytest.mark.parametrize("begins", ["SELECT CAST", "UPDATE tape_effects", "UPDATE tape_r"])
def test_who_is_stopped_in_the_middle_has_written_nothing(postgres_store: Database, begins: str) -> None:
    """A time limit's exception, for instance; the next unit has a connection that is as it should be."""
    mine = taken(postgres_store, recorded(postgres_store).effect_key)
    [one] = mine.claimed

    def stop() -> None:
        raise KeyboardInterrupt

    with before_statement(postgres_store, begins, stop), pytest.raises(KeyboardInterrupt):
        moves.move(postgres_store, EFFECTS, asked(mine, [answer(one)]))
    assert (row(postgres_store, one.effect_key), kinds(postgres_store, one.effect_key)) == (
        one,
        ["recorded", "claimed"],
    )
    sealed(postgres_store, mine, [answer(one)])
    assert kinds(postgres_store, one.effect_key) == ["recorded", "claimed", "confirmed"]


def test_the_effects_of_an_ordering_key_are_sealed_in_the_ordinary_way(postgres_store: Database) -> None:
    """The next one's turn is another row of the same transaction."""
    first = recorded(postgres_store, ordering_key="account-1")
    second = recorded(postgres_store, ordering_key="account-1")
    mine = taken(postgres_store, first.effect_key)
    [result] = moves.move(postgres_store, EFFECTS, asked(mine, [answer(mine.claimed[0])])).values()
    assert isinstance(result, moves.Moved)
    assert result.next is not None
    assert result.next.effect_key == second.effect_key


@pytest.mark.parametrize("server", ["postgresql", "postgresql15"], indirect=True)
def test_a_piece_whose_answer_is_lost_counts_once(far_store: Database, proxy: TcpProxy, server_store: Database) -> None:
    """It was committed with all that is in it, and nobody was told: what it made is read from the journal."""
    called = Callback(event="confirmed", signature_json="{}")
    keys = [record(server_store, an_intent(callbacks=(called,))).effect.effect_key for _ in range(3)]
    mine = taken(far_store, *keys)
    cut = proxy.cut_after(COMMIT)
    results = moves.move(far_store, EFFECTS, asked(mine, [answer(one) for one in mine.claimed]))
    assert cut.happened == 1
    for key, result in results.items():
        assert isinstance(result, moves.Moved)
        assert (result.kind, result.may_call_back) == ("confirmed", True)
        assert result.after == row(server_store, key)
        assert kinds(server_store, key) == ["recorded", "claimed", "confirmed"]
    assert scalar(server_store, "SELECT COUNT(*) FROM tape_callbacks WHERE status = 'DUE'") == 3
    assert violations(server_store) == []
