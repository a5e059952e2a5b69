"""The pipeline: claim → connector → decide → seal. What it holds to, whatever the connector and the store do."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, text

from tape_celery import effect as effect_decorator
from tape_celery import engine
from tape_celery.authored import by_name
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.engine import Outcome
from tape_celery.errors import CommitUncertain, StoreUnavailable
from tape_celery.records import Effect
from tape_celery.store import pipelining
from tape_celery.store.database import Database
from tests.servers.waiting import until
from tests.state.stage import CONFIRMED, LOST, UNSENT, S, Stage, comp, obs


def test_no_transaction_is_open_while_a_connector_runs(stage: Stage) -> None:
    """A connector's call must not hold a row, a lock or a connection of the store."""
    open_now: list[int] = []
    pool = stage.tape.database._engine.pool

    def look(_: Any) -> DispatchResult:
        open_now.append(pool.checkedout())  # type: ignore[attr-defined]
        return CONFIRMED

    key = stage.record()
    stage.dispatch(key, look)
    assert open_now == [0]


def test_a_claim_is_committed_before_anything_is_sent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When COMMIT of the claim fails, or the statement that is claim and COMMIT in one, nothing is sent."""
    key = stage.record()
    database_engine = stage.tape.database._engine
    failed: list[int] = []

    def refuse(*_: Any) -> None:
        failed.append(1)
        raise RuntimeError("the process dies in COMMIT")

    event.listen(database_engine, "commit", refuse)
    monkeypatch.setattr(pipelining, "_execute", refuse)
    with pytest.raises(RuntimeError):
        stage.dispatch(key, CONFIRMED)
    monkeypatch.undo()
    event.remove(database_engine, "commit", refuse)
    assert failed
    assert stage.connector.dispatched == []
    assert stage.get(key).status is S.PENDING


def test_a_lease_that_is_over_is_never_sent_on(ready_url: str) -> None:
    """A claim that waited for a lock until too little of its lease was left is handed back unsent, and uses no
    attempt.
    """
    stage = Stage(ready_url, lease_seconds=0.6)
    key = stage.record()
    outcomes: list[Outcome] = []
    claiming = threading.Thread(target=lambda: outcomes.append(stage.dispatch(key, CONFIRMED)))
    began = time.monotonic()
    with stage.tape.database._engine.connect() as other:
        other.execute(text("UPDATE tape_effects SET reason = 'held'"))
        claiming.start()
        until(lambda: time.monotonic() - began > 0.6)
        other.commit()
    claiming.join()
    effect = stage.get(key)
    assert stage.connector.dispatched == []
    assert (effect.status, effect.attempt, effect.may_have_landed) == (S.PENDING, 0, False)
    assert (outcomes, stage.last(key).kind) == ([Outcome.PENDING], "unsent")
    stage.close()


def test_the_lease_of_a_long_call_is_renewed_while_it_runs(ready_url: str) -> None:
    """A call bounded by 40 s under a lease of 2 s: the sweeps that go on around it leave it alone."""
    stage = Stage(ready_url, lease_seconds=2.0, settle_seconds=0)
    stage.connector.total_seconds = 40.0
    key = stage.record()

    def long_call(effect: Effect) -> DispatchResult:
        first = effect.lease_until_ms or 0
        # Two leases later it is still leased, and no sweep has ended it.
        until(
            lambda: stage.tape.sweep() is not None and (stage.get(key).lease_until_ms or 0) > first + 4000, timeout=30
        )
        assert stage.get(key).status is S.DISPATCHING
        return CONFIRMED

    assert stage.dispatch(key, long_call) == Outcome.CONFIRMED
    assert "lapsed" not in stage.kinds(key)
    stage.close()


def test_renewal_ends_at_the_bound_of_the_call(ready_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A call that outlives its total_seconds loses its lease, which the log says; its answer is late evidence."""
    stage = Stage(ready_url, lease_seconds=2.0, settle_seconds=0)
    stage.connector.total_seconds = 3.0
    key = stage.record()

    def told() -> list[logging.LogRecord]:
        return [record for record in caplog.records if "not renewed any more" in record.msg]

    def endless(_: Effect) -> DispatchResult:
        until(lambda: stage.tape.sweep() is not None and stage.get(key).status is S.UNKNOWN, timeout=60)
        until(told, timeout=60)
        return CONFIRMED

    assert stage.dispatch(key, endless) == Outcome.LATE
    [lost] = told()
    assert (vars(lost)["effect"], vars(lost)["connector"], vars(lost)["token"]) == (key, "scripted", 1)
    assert stage.get(key).status is S.CONFIRMED
    stage.close()


def test_a_chunk_runs_at_once_and_every_key_gets_its_outcome(stage: Stage) -> None:
    """Three calls meet in the middle: none could get there if they ran one after another."""
    keys = [stage.record() for _ in range(3)]
    together = threading.Barrier(3, timeout=10)

    def meet(_: Effect) -> DispatchResult:
        together.wait()
        return CONFIRMED

    stage.connector.answers = [meet, meet, meet]
    missing = "no-such-effect"
    done = stage.record()
    stage.connector.answers.insert(0, CONFIRMED)
    stage.tape.dispatch(done)
    outcomes = stage.tape.dispatch(*keys, missing, done)
    assert outcomes == dict.fromkeys(keys, Outcome.CONFIRMED) | {
        missing: Outcome.NO_SUCH_KEY,
        done: Outcome.NOTHING_TO_DO,
    }


def test_one_call_that_raises_does_not_disturb_the_others(stage: Stage) -> None:
    keys = [stage.record() for _ in range(4)]
    stage.connector.answers = [CONFIRMED, RuntimeError("x"), LOST, CONFIRMED]
    outcomes = stage.tape.dispatch(*keys)
    assert sorted(outcomes.values()) == ["confirmed", "confirmed", "unknown", "unknown"]


def test_a_store_that_goes_away_takes_no_outcome_and_no_follow_up_with_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was called keeps its outcome and its look; the rest has a name. Where nothing was done, the pass raises."""
    key = stage.record()
    stage.connector.answers.append(LOST)

    def away(*_: Any) -> Any:
        raise StoreUnavailable("away for one read")

    monkeypatch.setattr("tape_celery.store.inspection.get_many", away)
    report = stage.tape.engine.dispatch([key, "of-nobody"])
    assert report.outcomes == {key: Outcome.UNKNOWN, "of-nobody": Outcome.STORE_AWAY}
    assert [effect.effect_key for effect in report.to_observe] == [key]
    with pytest.raises(StoreUnavailable):
        stage.tape.engine.dispatch(["of-nobody"])


def test_a_seal_is_tried_again_and_the_call_never_is(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The store refuses when the answer comes.

    The result is written when it works again, and the upstream is called once.
    """
    key = stage.record()

    def rename(old: str, new: str) -> None:
        with stage.tape.database._engine.begin() as other:
            other.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    def repair() -> None:
        until(lambda: "a seal is tried again" in caplog.text)
        rename("tape_journal_away", "tape_journal")

    repairing = threading.Thread(target=repair)

    def break_the_store(_: Effect) -> DispatchResult:
        rename("tape_journal", "tape_journal_away")
        repairing.start()
        return CONFIRMED

    assert stage.dispatch(key, break_the_store) == Outcome.CONFIRMED
    repairing.join()
    assert len(stage.connector.dispatched) == 1


def test_a_seal_that_is_tried_again_after_another_took_the_row_has_a_named_outcome(stage: Stage) -> None:
    """The answer to the seal's COMMIT was lost; before it is tried again, the row is under somebody else's call."""
    key = stage.record()
    real, claims_since, tried = Database.write, [], []

    def lose_the_answer(database: Database, unit: Any) -> Any:
        tried.append(unit)
        if len(tried) == 1:
            real(database, unit)
            raise CommitUncertain("the answer to COMMIT was lost")
        if len(tried) == 2:
            stage.move_time(61)
            claims_since.append(stage.claim(key))
        return real(database, unit)

    with pytest.MonkeyPatch.context() as patched:

        def unsent(_: Effect) -> DispatchResult:
            patched.setattr(Database, "write", lose_the_answer)
            return UNSENT

        assert stage.dispatch(key, unsent) == Outcome.HELD
    assert stage.kinds(key) == ["recorded", "claimed", "unsent", "claimed"]
    assert stage.get(key).token == claims_since[0].token


@pytest.mark.parametrize("single", [True, False])
def test_connectors_may_be_async(stage: Stage, single: bool) -> None:
    """`async def` methods run on one event loop a thread: what they keep open from call to call goes on working."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def answer(result: Any) -> Any:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        return result

    stage.connector.answers = [lambda _: answer(LOST)] * 3
    keys = [stage.record() for _ in range(1 if single else 3)]
    assert set(stage.tape.dispatch(*keys).values()) == {Outcome.UNKNOWN}
    stage.connector.looks = [lambda _: answer(obs("duplicate", "s", duplicates=["x"]))] * 3
    assert set(stage.tape.observe(*keys).values()) == {Outcome.CONFIRMED}
    stage.connector.inverses = [lambda _: answer(comp("compensated"))] * 3
    owed = [o.obligation_key for o in stage.tape.obligations()]
    assert set(stage.tape.compensate(*owed).values()) == {Outcome.COMPENSATED}
    assert not any(loop.is_closed() for loop in loops)


def test_the_engine_may_be_called_from_an_event_loop(stage: Stage) -> None:
    async def call() -> DispatchResult:
        return CONFIRMED

    async def main(key: str) -> Any:
        return stage.dispatch(key, lambda _: call())

    assert asyncio.run(main(stage.record())) == Outcome.CONFIRMED


def test_what_a_connector_is_given(stage: Stage) -> None:
    key = stage.record(business_key="b-1", run_id="run-1", idempotency_key="i-1")
    stage.dispatch(key, CONFIRMED)
    [seen] = stage.connector.dispatched
    assert (seen.effect_key, seen.idempotency_key, seen.business_key, seen.run_id) == (key, "i-1", "b-1", "run-1")
    assert (seen.connector, seen.semantics, seen.attempt, seen.external_ref) == ("scripted", "non_idempotent", 1, "")
    assert (seen.request, seen.request_json) == ({"amount": 1}, '{"amount":1}')


class OnlyDispatches:
    """A connector that can neither look nor undo."""

    name = "mute"
    can_observe = False
    can_compensate = False

    def dispatch(self, effect: Effect) -> DispatchResult:
        return LOST


@pytest.fixture
def decorated(stage: Stage) -> Callable[..., Any]:
    from tape_celery import connectors

    connectors.register(OnlyDispatches())

    @effect_decorator(
        connector="mute",
        name="tests.wire",
        status_check=lambda effect: ObservationResult("confirmed", "by-the-check"),
        compensate=lambda obligation: CompensationResult("compensated"),
    )
    def wire(amount: int) -> dict[str, Any]:
        return {"amount": amount}

    return wire


def test_a_status_check_and_an_inverse_are_used_where_the_connector_has_none(
    stage: Stage, decorated: Callable[..., Any]
) -> None:
    request = decorated(5)
    key = stage.tape.effect.apply_async(("mute", request), effect_name="tests.wire").id
    assert stage.tape.dispatch(key) == {key: Outcome.UNKNOWN}
    assert stage.tape.observe(key) == {key: Outcome.CONFIRMED}
    assert stage.get(key).external_ref == "by-the-check"
    owed = stage.tape.owe(key, reason="r", actor="ann").obligation_key
    assert stage.tape.compensate(owed) == {owed: Outcome.COMPENSATED}


def test_a_worker_that_does_not_know_the_decorated_effect_leaves_its_row_alone(
    stage: Stage, decorated: Callable[..., Any]
) -> None:
    key = stage.tape.effect.apply_async(("mute", {"amount": 1}), effect_name="tests.wire").id
    known = by_name.pop("tests.wire")
    assert stage.tape.dispatch(key) == {key: Outcome.UNKNOWN_CONNECTOR}
    stage.lapse(60)
    assert stage.get(key).status is S.PENDING
    by_name["tests.wire"] = known
    assert stage.tape.dispatch(key) == {key: Outcome.UNKNOWN}


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("POST https://user:CANARY@bank.example/wires?token=CANARY#CANARY failed"),
        ValueError("line one\nline two \x1b[31mred"),
        RuntimeError("x" * 100_000),
    ],
    ids=["url", "control characters", "long"],
)
def test_an_exception_is_kept_as_type_and_scrubbed_message(stage: Stage, error: Exception) -> None:
    """No user, password or query of a URL, no control characters, and bounded; in row and journal alike."""
    key = stage.record()
    stage.dispatch(key, error)
    effect = stage.get(key)
    kept = effect.error_json + effect.reason + str([entry.evidence for entry in stage.tape.journal(key)])
    assert "CANARY" not in kept
    assert effect.error["type"] == f"builtins.{type(error).__name__}"
    assert effect.error["message"].isprintable()
    assert len(effect.error["message"]) <= 2048


def test_what_a_connector_says_of_an_error_is_scrubbed_and_bounded(stage: Stage) -> None:
    """Texts anywhere in it, and its names; the words that decide are kept."""
    url = "https://user:CANARY@bank.example/wires?token=CANARY"
    said = {"sent": False, "url": url, "tried": [{url: f"{url}\x1b[31m"}], "long": "x" * 12_000}
    key = stage.record()
    assert stage.dispatch(key, DispatchResult("unknown", error=said)) == Outcome.PENDING
    effect = stage.get(key)
    assert "CANARY" not in effect.error_json
    assert effect.error_json.isprintable()
    assert len(effect.error_json) <= 4096
    assert effect.error["sent"] is False


def test_a_result_that_is_never_sealed_is_told_without_its_bodies(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store stays away: which effect, which status, which reference, so that a person can go by it."""
    monkeypatch.setattr("tape_celery.engine.SEAL_FOR_SECONDS", 0.0)
    key = stage.record()

    def rename(old: str, new: str) -> None:
        with stage.tape.database._engine.begin() as other:
            other.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    def break_the_store(_: Effect) -> DispatchResult:
        rename("tape_journal", "tape_journal_away")
        return DispatchResult("confirmed", "ref-1", {"body": "CANARY"})

    assert stage.dispatch(key, break_the_store) == Outcome.NOT_SEALED
    rename("tape_journal_away", "tape_journal")
    assert f"dispatch of {key} could not be written: confirmed 'ref-1'" in caplog.text
    assert "CANARY" not in caplog.text


def test_an_expired_effect_is_named_so(stage: Stage) -> None:
    key = stage.tape.effect.apply_async(("scripted", {}), {"business_key": "b"}, expires=5).id
    stage.move_time(6)
    assert stage.tape.dispatch(key) == {key: Outcome.EXPIRED}
    assert stage.connector.dispatched == []


@pytest.mark.parametrize("number", [1000, 1001])
def test_more_duplicates_than_can_be_believed_are_no_answer(stage: Stage, number: int) -> None:
    """None is dropped silently: all are owed, or the look says why not."""
    key = stage.record()
    stage.dispatch(key, LOST)
    extras = [f"extra-{index}" for index in range(number)]
    outcome = stage.observe(key, obs("duplicate", "stays", duplicates=extras))
    assert outcome == (Outcome.CONFIRMED if number == 1000 else Outcome.UNKNOWN)
    assert len(stage.tape.obligations(effect_key=key)) == (1000 if number == 1000 else 0)
    if number == 1001:
        assert "1001 duplicates" in stage.get(key).error["message"]
        stage.tape.resolve(key, "failed", reason="cleaned up by hand", actor="ann")


@pytest.mark.parametrize(
    "response",
    [
        {"big": "x" * 200_000},
        {"nan": float("nan")},
        {"odd": object()},
        {"nul": "a\0b", "lone": "\ud800"},
        ["list"],
        None,
    ],
    ids=["big", "nan", "object", "nul", "list", "none"],
)
def test_whatever_an_upstream_answers_can_be_stored(stage: Stage, response: Any) -> None:
    """A confirmed call is evidence, whatever its body looks like; the body is bounded and never lost silently."""
    key = stage.record()
    assert stage.dispatch(key, DispatchResult("confirmed", "r", response)) == Outcome.CONFIRMED
    kept = stage.get(key)
    assert len(kept.response_json) <= 65_536
    assert isinstance(kept.response, dict)


@pytest.mark.parametrize(
    "ref", ["a\0b", "x" * 1000, "two\nlines", "\ud800"], ids=["nul", "long", "newline", "surrogate"]
)
def test_a_reference_that_cannot_be_sent_back_unchanged_is_no_reference(stage: Stage, ref: str) -> None:
    """Half a reference is somebody else's record."""
    key = stage.record()
    assert stage.dispatch(key, DispatchResult("confirmed", ref)) == Outcome.CONFIRMED
    assert stage.get(key).external_ref == ""


def test_no_more_is_claimed_than_may_be_called_at_once(ready_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for room is not claimed yet: its lease does not run, and a worker that dies leaves it PENDING."""
    monkeypatch.setattr(engine, "MOST_CALLS_AT_ONCE", 5)
    stage = Stage(ready_url)
    claimed: list[int] = []

    def count(_: Effect) -> DispatchResult:
        claimed.append(len(stage.tape.effects(status="DISPATCHING")))
        return CONFIRMED

    chunks = [[stage.record() for _ in range(3)] for _ in range(8)]
    stage.connector.answers = [count] * 24
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda keys: stage.tape.dispatch(*keys), chunks))
    assert [list(each.values()) for each in outcomes] == [[Outcome.CONFIRMED] * 3] * 8
    assert max(claimed) <= 5
    stage.close()
