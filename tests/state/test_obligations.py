"""An inverse is itself a call that may land twice: the contract's paragraph on obligations, on each database."""

from __future__ import annotations

from typing import Any

import pytest

from tape_celery import connectors
from tape_celery.connectors.base import DispatchResult, ObservationResult
from tape_celery.engine import Outcome
from tape_celery.errors import NotAllowed
from tape_celery.events import Answered, Lapsed
from tape_celery.records import Obligation, ObligationStatus
from tape_celery.store import moves
from tape_celery.store.rows import OBLIGATIONS
from tests.state.stage import CONFIRMED, LOST, S, Stage, comp, obs

O = ObligationStatus  # noqa: E741 - reads as the states' letter in the table
DONE = comp("compensated")
AMBIGUOUS = comp("failed", ambiguous=True)
NOT_DONE = comp("failed")


def owed(stage: Stage, semantics: str = "non_idempotent", **keywords: Any) -> str:
    """A CONFIRMED effect with one obligation, PENDING."""
    key = stage.record(semantics, **keywords)
    stage.dispatch(key, CONFIRMED)
    return stage.tape.owe(key, reason="ordered twice", actor="ann").obligation_key


def get(stage: Stage, key: str) -> Obligation:
    [found] = [o for o in stage.tape.obligations() if o.obligation_key == key]
    return found


def test_it_is_paid_once_under_its_own_key(stage: Stage) -> None:
    key = owed(stage)
    assert stage.compensate(key, DONE) == Outcome.COMPENSATED
    assert stage.compensate(key, DONE) == Outcome.NOTHING_TO_DO
    [seen] = stage.connector.compensated
    assert seen.idempotency_key == f"compensate:{key}"
    assert seen.payload["external_ref"] == seen.external_ref == "ref-1"
    assert seen.payload["request"] == {"amount": 1}
    assert (seen.token, seen.attempt, seen.status) == (1, 1, O.COMPENSATING)
    assert stage.kinds(key) == ["recorded", "claimed", "compensated"]


def test_definitely_not_done_is_tried_again_with_backoff_until_stuck(stage: Stage) -> None:
    key = owed(stage, max_attempts=3)
    for _ in range(2):
        assert stage.compensate(key, NOT_DONE) == Outcome.PENDING
        assert stage.compensate(key, DONE) == Outcome.NOT_DUE
        stage.move_time(61)
    assert stage.compensate(key, NOT_DONE) == Outcome.STUCK
    assert get(stage, key).reason == "the inverse failed 3 times"


def test_unsent_uses_no_attempt(stage: Stage) -> None:
    key = owed(stage, max_attempts=1)
    for _ in range(3):
        assert stage.compensate(key, comp("failed", sent=False)) == Outcome.PENDING
        assert get(stage, key).attempt == 0
        stage.move_time(61)
    assert stage.compensate(key, DONE) == Outcome.COMPENSATED


def test_a_final_no_is_stuck(stage: Stage) -> None:
    assert stage.compensate(owed(stage), comp("failed", final=True, reason="too late")) == Outcome.STUCK


def test_without_an_inverse_it_is_stuck(stage: Stage) -> None:
    key = owed(stage)
    stage.connector.can_compensate = False
    assert stage.tape.compensate(key) == {key: Outcome.STUCK}
    assert get(stage, key).reason == "no inverse exists"
    assert stage.connector.compensated == []


@pytest.mark.parametrize("answer", [AMBIGUOUS, RuntimeError("lost"), None, DispatchResult("confirmed")], ids=repr)
def test_a_lost_answer_is_unknown_and_never_sent_again_unseen(stage: Stage, answer: Any) -> None:
    key = owed(stage)
    assert stage.compensate(key, answer) == Outcome.UNKNOWN
    stage.lapse(3600)
    assert stage.tape.compensate(key) == {key: Outcome.STUCK}
    assert len(stage.connector.compensated) == 1


def test_a_lease_that_ran_out_is_unknown(stage: Stage) -> None:
    key = owed(stage)
    stage.claim_obligation(key)
    stage.lapse()
    assert get(stage, key).status is O.UNKNOWN


def test_where_the_inverse_is_idempotent_it_is_sent_again_under_the_same_key(stage: Stage) -> None:
    stage.connector.compensation_semantics = "idempotent"
    key = owed(stage, max_attempts=3)
    assert stage.compensate(key, AMBIGUOUS) == Outcome.UNKNOWN
    assert stage.tape.compensate(key) == {key: Outcome.PENDING}
    assert stage.compensate(key, DONE) == Outcome.NOT_DUE
    stage.move_time(61)
    assert stage.compensate(key, DONE) == Outcome.COMPENSATED
    assert len({seen.idempotency_key for seen in stage.connector.compensated}) == 1


def test_where_the_inverse_is_idempotent_the_window_and_the_attempts_still_bound_it(stage: Stage) -> None:
    stage.connector.compensation_semantics = "idempotent"
    stage.connector.idempotency_window_seconds = 60.0
    key = owed(stage)
    stage.compensate(key, AMBIGUOUS)
    stage.move_time(61)
    assert stage.tape.compensate(key) == {key: Outcome.STUCK}
    key = owed(stage, max_attempts=1)
    stage.compensate(key, AMBIGUOUS)
    assert stage.tape.compensate(key) == {key: Outcome.STUCK}


@pytest.mark.parametrize("between", ["at once", "after it was refused", "after it was not sent"])
def test_a_resend_that_comes_after_the_window_is_withheld(stage: Stage, between: str) -> None:
    """PENDING inside the window, claimed after it: the upstream may have forgotten the key, so nothing is sent."""
    stage.connector.compensation_semantics = "idempotent"
    key = owed(stage)
    stage.compensate(key, AMBIGUOUS)
    stage.tape.compensate(key)
    stage.move_time(61)
    if between != "at once":
        answer = NOT_DONE if between == "after it was refused" else comp("failed", sent=False)
        assert stage.compensate(key, answer) == Outcome.PENDING
    calls = len(stage.connector.compensated)
    stage.move_time(86_401)
    assert stage.tape.compensate(key) == {key: Outcome.UNKNOWN}
    assert len(stage.connector.compensated) == calls
    assert stage.kinds(key)[-1] == "withheld"
    assert stage.tape.compensate(key) == {key: Outcome.STUCK}


def test_an_inverse_that_was_definitely_not_done_may_be_sent_after_any_time(stage: Stage) -> None:
    """Refused or not sent, and never in doubt: there is nothing that could be done twice."""
    key = owed(stage)
    for answer in (NOT_DONE, comp("failed", sent=False)):
        assert stage.compensate(key, answer) == Outcome.PENDING
        stage.move_time(10 * 86_400)
    assert stage.compensate(key, DONE) == Outcome.COMPENSATED


def test_near_the_end_of_the_window_it_waits_for_a_person_at_once(stage: Stage) -> None:
    """A resend that could be withheld when its lease is about to end is not begun: no loop of claims and looks."""
    stage.connector.compensation_semantics = "idempotent"
    key = owed(stage)
    stage.compensate(key, AMBIGUOUS)
    stage.move_time(86_400 - 29)
    assert stage.tape.compensate(key) == {key: Outcome.STUCK}


def test_late_proof_that_nothing_was_sent_counts_after_a_person_asked_for_a_look(stage: Stage) -> None:
    key = owed(stage)
    lost = stage.claim_obligation(key)
    stage.lapse()
    stage.tape.resolve(key, "observe", reason="look once more", actor="ann")
    unsent = Answered(token=lost.token, nonce=lost.claim_nonce, status="unknown", sent=False)
    moves.act(stage.tape.database, OBLIGATIONS, key, unsent, stage.tape.engine.terms(lost))
    assert (get(stage, key).status, get(stage, key).attempt) == (O.PENDING, 0)


def can_look(stage: Stage, *looks: ObservationResult) -> None:
    script = list(looks)
    stage.connector.observe_compensation = lambda obligation: script.pop(0)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("look", "ends"),
    [
        (obs("confirmed"), O.COMPENSATED),
        (obs("duplicate"), O.STUCK),
        (obs("failed"), O.STUCK),
        (obs("stuck"), O.UNKNOWN),
    ],
    ids=lambda value: getattr(value, "status", value),
)
def test_an_unknown_inverse_is_looked_at_where_the_connector_can(stage: Stage, look: Any, ends: O) -> None:
    can_look(stage, look)
    key = owed(stage)
    stage.compensate(key, AMBIGUOUS)
    stage.tape.compensate(key)
    assert get(stage, key).status is ends
    assert len(stage.connector.compensated) == 1


def test_an_absent_inverse_is_done_again_only_when_its_absence_has_settled(stage: Stage) -> None:
    can_look(stage, obs("absent"), obs("absent"))
    key = owed(stage)
    stage.compensate(key, AMBIGUOUS)
    assert stage.tape.compensate(key) == {key: Outcome.UNKNOWN}
    assert get(stage, key).due_at_ms == get(stage, key).settled_at_ms
    stage.move_time(31)
    assert stage.tape.compensate(key) == {key: Outcome.PENDING}
    assert stage.compensate(key, DONE) == Outcome.COMPENSATED


def test_a_late_compensated_counts(stage: Stage) -> None:
    """UNKNOWN after its lease, and then the answer comes: COMPENSATED, with the answer in the journal."""
    key = owed(stage)

    def outlive(_: Any) -> Any:
        stage.lapse()
        return DONE

    assert stage.compensate(key, outlive) == Outcome.LATE
    assert get(stage, key).status is O.COMPENSATED


def test_a_late_compensated_while_a_newer_claim_is_at_work_can_only_end_compensated(stage: Stage) -> None:
    stage.connector.compensation_semantics = "idempotent"
    key = owed(stage)

    def first(_: Any) -> Any:
        stage.lapse()
        stage.tape.compensate(key)
        stage.connector.inverses.append(second)
        stage.tape.engine.compensate([key])
        return DONE

    def second(_: Any) -> Any:
        return AMBIGUOUS

    assert stage.compensate(key, first) == Outcome.LATE
    assert get(stage, key).status is O.COMPENSATED


def test_there_is_one_obligation_for_each_record_whatever_its_reason(stage: Stage) -> None:
    key = stage.record()
    stage.dispatch(key, CONFIRMED)
    stage.tape.owe(key, reason="r", actor="ann")
    with pytest.raises(NotAllowed, match="for the same record is PENDING"):
        stage.tape.owe(key, reason="r", actor="ann")
    assert len(stage.tape.obligations(effect_key=key)) == 1
    assert stage.get(key).version == len(stage.tape.journal(key))


@pytest.mark.parametrize(
    ("look", "stays", "expected"),
    [
        (obs("duplicate", "stays", duplicates=["x"]), "stays", [("x", O.PENDING)]),
        (obs("duplicate", "stays", duplicates=[]), "stays", []),
        (obs("duplicate", "stays", duplicates=["", "x"]), "stays", [("", O.STUCK), ("x", O.PENDING)]),
        (obs("duplicate", "stays", duplicates=["stays"]), "stays", [("stays", O.STUCK)]),
        (obs("duplicate", "stays", duplicates=[7, None]), "stays", [("", O.STUCK), ("7", O.PENDING)]),
        (obs("duplicate", "extra"), "", [("extra", O.PENDING)]),
        (obs("duplicate", ""), "", [("", O.STUCK)]),
    ],
    ids=[
        "list",
        "empty list",
        "extra without a ref",
        "extra is the one that stays",
        "odd refs",
        "no list",
        "no list, no ref",
    ],
)
def test_the_record_that_stays_is_never_the_one_that_is_reversed(
    stage: Stage, look: Any, stays: str, expected: list[tuple[str, O]]
) -> None:
    key = stage.record()
    stage.dispatch(key, LOST)
    assert stage.observe(key, look) == Outcome.CONFIRMED
    assert stage.get(key).external_ref == stays
    assert sorted((o.external_ref, o.status) for o in stage.tape.obligations(effect_key=key)) == expected


def test_what_was_cancelled_is_owed_whoever_decides(stage: Stage) -> None:
    """A process that does not know the connector cannot tell whether there is an inverse: a worker that does, will."""
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.tape.cancel(key, reason="a mistake", actor="ann")
    connectors.clear()
    stage.tape.resolve(key, "confirmed", reason="the bank says so", actor="ann", external_ref="ref-1")
    [debt] = stage.tape.obligations(effect_key=key)
    assert (debt.status, debt.external_ref, debt.kind) == (O.PENDING, "ref-1", "cancelled")
    connectors.register(stage.connector)
    assert stage.compensate(debt.obligation_key, DONE) == Outcome.COMPENSATED


def test_the_duplicate_and_its_obligation_are_one_transaction(stage: Stage) -> None:
    """The store goes away in the middle of that seal: neither is there, and the next look finds both again."""
    from sqlalchemy import event

    key = stage.record()
    stage.dispatch(key, LOST)
    engine = stage.tape.database._engine
    broken: list[str] = []

    def break_obligations(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO tape_obligations" in statement and not broken:
            broken.append(statement)
            raise RuntimeError("the process dies here")

    event.listen(engine, "before_cursor_execute", break_obligations)
    with pytest.raises(RuntimeError):
        stage.observe(key, obs("duplicate", "s", duplicates=["x"]))
    event.remove(engine, "before_cursor_execute", break_obligations)
    assert stage.get(key).status is S.UNKNOWN
    assert stage.tape.obligations(effect_key=key) == []
    stage.move_time(31)
    assert stage.observe(key, obs("duplicate", "s", duplicates=["x"])) == Outcome.CONFIRMED
    assert len(stage.tape.obligations(effect_key=key)) == 1


@pytest.mark.parametrize(
    ("verdict", "ends"), [("confirmed", O.COMPENSATED), ("failed", O.PENDING), ("observe", O.UNKNOWN)]
)
def test_a_person_resolves_a_stuck_obligation(stage: Stage, verdict: str, ends: O) -> None:
    key = owed(stage)
    stage.compensate(key, comp("failed", final=True))
    stage.tape.resolve(key, verdict, reason="called the bank", actor="ann")
    assert get(stage, key).status is ends


@pytest.mark.parametrize("state", list(O))
@pytest.mark.parametrize("act", ["confirmed", "failed", "observe", "lapse"])
def test_what_an_obligation_does_not_allow_leaves_it_untouched(stage: Stage, state: O, act: str) -> None:
    """From every state: a person resolves UNKNOWN and STUCK, a lease ends under a call, and nothing else."""
    key = bring(stage, state)
    allowed = {O.COMPENSATING} if act == "lapse" else {O.UNKNOWN, O.STUCK}
    stage.move_time(61)
    before = get(stage, key)

    def do() -> None:
        if act == "lapse":
            moves.act(stage.tape.database, OBLIGATIONS, key, Lapsed(actor="sweep"), stage.tape.engine.terms(before))
        else:
            stage.tape.resolve(key, act, reason="r", actor="ann")

    if state in allowed:
        do()
        assert get(stage, key).version == before.version + 1
        return
    with pytest.raises(NotAllowed) as refused:
        do()
    assert (refused.value.key, refused.value.status) == (key, state)
    assert get(stage, key) == before
    assert len(stage.tape.journal(key)) == before.version


def bring(stage: Stage, state: O) -> str:
    """A fresh obligation in ``state``."""
    key = owed(stage)
    if state is O.COMPENSATING:
        stage.claim_obligation(key)
    elif state is O.STUCK:
        stage.compensate(key, comp("failed", final=True))
    elif state is not O.PENDING:
        stage.compensate(key, AMBIGUOUS if state is O.UNKNOWN else DONE)
    assert get(stage, key).status is state
    return key


def test_an_inverse_that_nobody_asked_for_is_not_run_by_asking_for_a_look(stage: Stage) -> None:
    """Born STUCK, looked at on request, not done: STUCK again. Only `failed` (not done, do it) makes it due."""
    stage.connector.compensation_semantics = "idempotent"
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.observe(key, obs("duplicate", "s", duplicates=["s"]))
    [born_stuck] = stage.tape.obligations(effect_key=key)
    stage.tape.resolve(born_stuck.obligation_key, "observe", reason="r", actor="ann")
    assert stage.tape.compensate(born_stuck.obligation_key) == {born_stuck.obligation_key: Outcome.STUCK}
    assert stage.connector.compensated == []
