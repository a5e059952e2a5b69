"""Each sentence of the contract on late evidence and on absences that are watched, on each database.

A late answer is a real one: the connector is asked, the claim ends while it is under way, and then it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tape_celery import outcomes
from tape_celery.connectors.base import DispatchResult
from tape_celery.engine import Outcome
from tape_celery.records import Effect, ObligationStatus
from tape_celery.store import claims, moves
from tape_celery.store.rows import EFFECTS
from tests.state.stage import CONFIRMED, FAILED, LOST, MAY_HAVE, RETRY, UNSENT, S, Stage, obs

STUCK = ObligationStatus.STUCK
PENDING = ObligationStatus.PENDING


def late(stage: Stage, key: str, answer: Any, *meanwhile: Callable[[], Any]) -> None:
    """Dispatch ``key``; its lease runs out and ``meanwhile`` happens before ``answer`` comes."""

    def outlive() -> None:
        stage.lapse()
        for act in meanwhile:
            act()

    outcome = stage.dispatch(key, stage.meanwhile(outlive, answer))
    got_stuck = stage.get(key).status is S.STUCK and stage.last(key).from_status != S.STUCK
    assert outcome == (Outcome.STUCK if got_stuck else Outcome.LATE)
    assert stage.last(key).kind == "late"


def looked(stage: Stage, key: str, look: Any) -> Callable[[], Any]:
    return lambda: stage.tape.engine.observe([key]) if stage.connector.looks.append(look) is None else None


# --- late `confirmed` ---


@pytest.mark.parametrize("semantics", ["idempotent", "non_idempotent"])
def test_late_confirmed_ends_pending_and_unknown(stage: Stage, semantics: str) -> None:
    """PENDING (idempotent, after its lease) and UNKNOWN become CONFIRMED, and nothing is sent again."""
    key = stage.record(semantics)
    late(stage, key, CONFIRMED)
    assert (stage.get(key).status, stage.get(key).external_ref) == (S.CONFIRMED, "ref-1")
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOTHING_TO_DO


def test_late_confirmed_ends_stuck(stage: Stage) -> None:
    key = stage.record()
    stage.connector.can_observe = False
    late(stage, key, CONFIRMED, lambda: stage.tape.observe(key))
    assert stage.get(key).status is S.CONFIRMED
    assert "STUCK" in [entry.from_status for entry in stage.tape.journal(key)]


@pytest.mark.parametrize(
    ("second", "ref"),
    [(FAILED, "ref-1"), (LOST, "ref-1"), (UNSENT, "ref-1"), (RuntimeError("x"), "ref-1"), (CONFIRMED, "ref-1")],
    ids=["failed", "unknown", "unsent", "raised", "confirmed"],
)
def test_while_a_newer_claim_is_at_work_it_can_then_only_end_confirmed(stage: Stage, second: Any, ref: str) -> None:
    """The row is marked landed, and whatever the newer claim brings it is CONFIRMED."""
    key = stage.record("idempotent")
    first = stage.claim(key)
    stage.lapse()
    marked: list[bool] = []

    def second_claim(_: Any) -> Any:
        _seal_late(stage, first, CONFIRMED)
        marked.append(stage.get(key).landed)
        if isinstance(second, Exception):
            raise second
        return second

    assert stage.dispatch(key, second_claim) == Outcome.CONFIRMED
    assert marked == [True]
    assert (stage.get(key).status, stage.get(key).external_ref) == (S.CONFIRMED, ref)
    assert stage.tape.obligations(effect_key=key) == []


def test_a_newer_claim_that_lapses_after_late_confirmed_is_confirmed(stage: Stage) -> None:
    key = stage.record("idempotent")
    first = stage.claim(key)
    stage.lapse()
    stage.claim(key)
    _seal_late(stage, first, CONFIRMED)
    assert stage.get(key).status is S.DISPATCHING
    stage.lapse()
    assert (stage.get(key).status, stage.get(key).external_ref) == (S.CONFIRMED, "ref-1")


def test_two_landings_with_two_refs_leave_one_for_a_person(stage: Stage) -> None:
    """Whichever came first, the newer claim's record stays and the other is registered, STUCK."""
    key = stage.record("idempotent")
    first = stage.claim(key)
    stage.lapse()

    def second_claim(_: Any) -> DispatchResult:
        _seal_late(stage, first, CONFIRMED)
        return DispatchResult("confirmed", "ref-2")

    assert stage.dispatch(key, second_claim) == Outcome.CONFIRMED
    assert stage.get(key).external_ref == "ref-2"
    [owed] = stage.tape.obligations(effect_key=key)
    assert (owed.external_ref, owed.status, owed.kind) == ("ref-1", STUCK, "late")


def test_late_confirmed_on_confirmed_with_another_ref_is_an_obligation_born_stuck(stage: Stage) -> None:
    key = stage.record()
    late(stage, key, CONFIRMED, looked(stage, key, obs("confirmed", "other")))
    effect = stage.get(key)
    assert (effect.status, effect.external_ref) == (S.CONFIRMED, "other")
    [owed] = stage.tape.obligations(effect_key=key)
    assert (owed.external_ref, owed.status) == ("ref-1", STUCK)


@pytest.mark.parametrize("ref", ["ref-1", ""])
def test_late_confirmed_on_confirmed_with_the_same_or_no_ref_changes_nothing(stage: Stage, ref: str) -> None:
    key = stage.record()
    late(stage, key, DispatchResult("confirmed", ref), looked(stage, key, obs("confirmed", "ref-1")))
    assert stage.get(key).status is S.CONFIRMED
    assert stage.tape.obligations(effect_key=key) == []


def _absent(stage: Stage, key: str) -> Callable[[], Any]:
    """The upstream does not have it, and that has settled: FAILED."""

    def act() -> None:
        stage.move_time(60)
        looked(stage, key, obs("absent"))()
        assert stage.get(key).status is S.FAILED

    return act


def test_late_confirmed_on_failed_is_a_contradiction(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """And loud: the outcome of the pass is STUCK, and an error is logged."""
    key = stage.record()
    late(stage, key, CONFIRMED, _absent(stage, key))
    [told] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert told.getMessage() == f"{key} is STUCK: {stage.get(key).reason}"
    effect = stage.get(key)
    assert effect.status is S.STUCK
    assert effect.reason.startswith("contradiction")


def test_late_confirmed_on_failed_whose_business_key_was_taken_since_is_stuck_and_journaled(stage: Stage) -> None:
    key = stage.record(business_key="inv-1")
    taken: list[str] = []

    def take() -> None:
        taken.append(stage.tape.effect.delay("scripted", {"amount": 1}, business_key="inv-1").id)
        stage.connector.answers.insert(0, DispatchResult("confirmed", "ref-of-the-successor"))
        stage.tape.engine.dispatch([taken[0]])

    late(stage, key, CONFIRMED, _absent(stage, key), take)
    assert stage.get(key).status is S.STUCK
    assert not stage.get(key).holds_business_key
    assert stage.get(taken[0]).status is S.CONFIRMED
    assert stage.last(key).evidence["external_ref"] == "ref-1"


def test_late_confirmed_on_cancelled_is_a_contradiction(stage: Stage) -> None:
    """Unsent, cancelled while PENDING again; then the first worker says that it had landed after all."""
    key = stage.record()
    first = stage.claim(key)
    _seal_late(stage, first, UNSENT)
    stage.tape.cancel(key, reason="r", actor="ann")
    _seal_late(stage, first, CONFIRMED)
    assert stage.get(key).status is S.STUCK


def test_the_same_evidence_once_more_does_not_decide_a_contradiction(stage: Stage) -> None:
    """The table says STUCK → CONFIRMED on late `confirmed`.

    A contradiction is for a person, however often it is told.
    """
    key = stage.record()
    first = stage.claim(key)
    stage.lapse()
    _absent(stage, key)()
    for _ in range(3):
        _seal_late(stage, first, CONFIRMED)
        assert stage.get(key).status is S.STUCK


@pytest.mark.parametrize(
    "look", [obs("duplicate", "ref-2", duplicates=["ref-1"]), obs("duplicate", "ref-1")], ids=["list", "one"]
)
def test_a_duplicate_seen_while_a_newer_call_is_at_work_is_reversed_by_nobody_alone(stage: Stage, look: Any) -> None:
    """The newer call's answer may make the extra the record that stays: so a person decides on it."""
    key = stage.record("idempotent")
    stage.dispatch(key, LOST)
    second = DispatchResult("confirmed", "ref-1")

    def meanwhile(_: Any) -> Any:
        """The look's lease runs out, the effect is looked at again, is absent, and is called anew."""
        stage.move_time(61)
        stage.connector.looks.append(obs("absent"))
        stage.tape.observe(key)
        claims_before.append(stage.claim(key))
        return look

    claims_before: list[Any] = []
    assert stage.observe(key, meanwhile) == Outcome.LATE
    _seal_late(stage, claims_before[0], second)
    assert (stage.get(key).status, stage.get(key).external_ref) == (S.CONFIRMED, "ref-1")
    owed = stage.tape.obligations(effect_key=key)
    assert owed
    assert {debt.status for debt in owed} == {STUCK}


# --- late `duplicate`, `failed`, unsent, `unknown` ---


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (obs("duplicate", "ref-1", duplicates=["extra"]), {"extra": PENDING}),
        (obs("duplicate", "extra"), {"extra": PENDING}),
        (obs("duplicate", "", duplicates=["extra"]), {"extra": PENDING}),
        (obs("duplicate", "ref-2", duplicates=["extra"]), {"ref-2": STUCK, "extra": PENDING}),
        (obs("duplicate", "ref-2", duplicates=["ref-1", "ref-2"]), {"ref-1": STUCK, "ref-2": STUCK}),
    ],
    ids=["list", "one", "nameless", "another stays", "each is one that stays"],
)
def test_late_duplicate_on_confirmed_registers_its_obligations(
    stage: Stage, look: Any, expected: dict[str, ObligationStatus]
) -> None:
    """What stays by the upstream's word is not reversed, and where it is not the effect's own record somebody sees it:
    that one may have been reversed since, as it is after a cancel."""
    key = stage.record()
    stage.dispatch(key, LOST)

    def confirmed_meanwhile(_: Any) -> Any:
        stage.tape.resolve(key, "confirmed", reason="r", actor="ann", external_ref="ref-1")
        return look

    assert stage.observe(key, confirmed_meanwhile) == Outcome.LATE
    assert {owed.external_ref: owed.status for owed in stage.tape.obligations(effect_key=key)} == expected


@pytest.mark.parametrize(("answer", "ends"), [(FAILED, S.FAILED), (UNSENT, S.PENDING)], ids=["failed", "unsent"])
def test_late_proof_that_nothing_landed_counts_as_if_it_had_come_in_time(stage: Stage, answer: Any, ends: S) -> None:
    key = stage.record()
    late(stage, key, answer)
    assert stage.get(key).status is ends


def test_late_failed_leaves_the_flag_of_an_earlier_attempt(stage: Stage) -> None:
    """That the last call failed says nothing about the one before it."""
    key = stage.record("idempotent", max_attempts=2)
    stage.dispatch(key, MAY_HAVE)
    late(stage, key, FAILED)
    assert (stage.get(key).status, stage.get(key).may_have_landed) == (S.UNKNOWN, True)


def test_late_failed_of_an_earlier_claim_proves_nothing(stage: Stage) -> None:
    key = stage.record("idempotent", max_attempts=2)
    first = stage.claim(key)
    stage.lapse()
    stage.claim(key)
    stage.lapse()
    before = stage.get(key)
    assert before.status is S.UNKNOWN
    _seal_late(stage, first, FAILED)
    assert stage.get(key).status is S.UNKNOWN
    assert stage.last(key).kind == "late"


@pytest.mark.parametrize("answer", [LOST, MAY_HAVE], ids=["unknown", "may have landed"])
def test_late_answers_that_prove_nothing_are_journaled_and_change_nothing(stage: Stage, answer: Any) -> None:
    key = stage.record()
    late(stage, key, answer)
    assert stage.get(key).status is S.UNKNOWN


@pytest.mark.parametrize("state", [S.CONFIRMED, S.FAILED, S.CANCELLED, S.STUCK])
@pytest.mark.parametrize("answer", [FAILED, UNSENT, LOST], ids=["failed", "unsent", "unknown"])
def test_what_is_over_is_not_changed_by_a_late_answer_that_is_no_landing(stage: Stage, state: S, answer: Any) -> None:
    key = stage.record()
    claimed = stage.claim(key)
    stage.lapse()
    if state is S.STUCK:
        stage.connector.can_observe = False
        stage.tape.observe(key)
    elif state is S.CANCELLED:
        _seal_late(stage, claimed, UNSENT)
        stage.tape.cancel(key, reason="r", actor="ann")
    else:
        verdict = "confirmed" if state is S.CONFIRMED else "failed"
        stage.tape.resolve(key, verdict, reason="r", actor="ann")
    assert stage.get(key).status is state
    _seal_late(stage, claimed, answer)
    assert stage.get(key).status is state
    # The same evidence of the same claim is told once: unsent it was in time already.
    assert stage.last(key).kind == ("cancelled" if state is S.CANCELLED and answer is UNSENT else "late")


# --- the absence is watched ---


def _failed_by_absence(stage: Stage, **keywords: Any) -> str:
    key = stage.record(**keywords)
    stage.dispatch(key, LOST)
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED
    return key


def test_a_look_at_an_absence_that_is_lost_with_its_worker_uses_up_no_span(stage: Stage) -> None:
    """It is taken again when its lease is over, and the look after a day still comes."""
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.move_time(61)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED
    stage.move_time(3600)
    database, reach = stage.tape.database, stage.tape.engine.reach()
    assert claims.claim(database, EFFECTS, [key], verb="look", reach=reach, actor="a worker that dies")
    stage.move_time(61)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED
    stage.move_time(86_400)
    assert stage.observe(key, obs("confirmed", "landed after all")) == Outcome.STUCK


def test_an_absence_is_looked_at_again_after_an_hour_and_after_a_day(stage: Stage) -> None:
    key = _failed_by_absence(stage)
    assert stage.observe(key, obs("absent")) == Outcome.NOT_DUE
    stage.move_time(3601)
    assert stage.tape.sweep().observe_hints == 1
    assert stage.observe(key, obs("absent")) == Outcome.FAILED
    assert stage.observe(key, obs("absent")) == Outcome.NOT_DUE
    stage.move_time(86_400)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED
    assert stage.get(key).due_at_ms is None
    assert stage.observe(key, obs("confirmed")) == Outcome.NOTHING_TO_DO


@pytest.mark.parametrize("look", [obs("confirmed", "r"), obs("duplicate", "r")], ids=["confirmed", "duplicate"])
def test_a_watched_absence_that_landed_after_all_is_a_contradiction(stage: Stage, look: Any) -> None:
    key = _failed_by_absence(stage)
    stage.move_time(3601)
    assert stage.observe(key, look) == Outcome.STUCK
    assert stage.get(key).reason.startswith("contradiction")


def _cancelled_by_absence(stage: Stage, key: str) -> None:
    """Cancelled while it was UNKNOWN, and then the upstream did not have it."""
    stage.dispatch(key, LOST)
    stage.tape.cancel(key, reason="r", actor="ann")
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.CANCELLED


def _cancelled_after_absence(stage: Stage, key: str) -> None:
    """The upstream did not have it, so it was to be sent again, and was cancelled before it was."""
    stage.dispatch(key, LOST)
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.PENDING
    stage.tape.cancel(key, reason="r", actor="ann")


def _refused_after_absence(stage: Stage, key: str) -> None:
    """The upstream did not have it, and when it was sent again it was refused."""
    stage.dispatch(key, LOST)
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.PENDING
    stage.dispatch(key, FAILED)


@pytest.mark.parametrize("way", [_cancelled_by_absence, _cancelled_after_absence, _refused_after_absence])
@pytest.mark.parametrize("watch", ["confirmed", "duplicate", "absent", "nothing can look"])
def test_whatever_ends_in_vain_after_a_believed_absence_is_watched(
    stage: Stage, way: Callable[[Stage, str], None], watch: str
) -> None:
    """A worker that was stopped after its last check may still send, whatever the effect became meanwhile."""
    key = stage.record("idempotent", max_attempts=3)
    way(stage, key)
    ended = stage.get(key).status
    assert ended in (S.CANCELLED, S.FAILED)
    assert stage.observe(key, obs("absent")) == Outcome.NOT_DUE
    stage.move_time(3601)
    assert stage.tape.sweep().observe_hints == 1
    stage.connector.can_observe = watch != "nothing can look"
    outcome = stage.observe(key, obs(watch if stage.connector.can_observe else "absent"))
    assert outcome == ("stuck" if watch in ("confirmed", "duplicate") else ended.lower())
    assert (stage.get(key).due_at_ms is not None) == (watch == "absent")


def test_a_successor_that_changes_nothing_upstream_explains_no_record(stage: Stage) -> None:
    """It left none there, so what is seen is what was believed absent."""
    key = _failed_by_absence(stage, business_key="inv-1")
    second = stage.record(business_key="inv-1", semantics="observe_only")
    stage.dispatch(second, CONFIRMED)
    stage.move_time(3601)
    assert stage.observe(key, obs("confirmed", "ref-1")) == Outcome.STUCK


@pytest.mark.parametrize("successor", ["under way", "CONFIRMED", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("status", ["confirmed", "duplicate"])
def test_while_a_successor_has_the_business_key_only_a_duplicate_is_news(
    stage: Stage, successor: str, status: str
) -> None:
    key = _failed_by_absence(stage, business_key="inv-1")
    second = stage.record(business_key="inv-1")
    assert second != key
    if successor in ("CONFIRMED", "FAILED"):
        stage.dispatch(second, CONFIRMED if successor == "CONFIRMED" else FAILED)
    elif successor == "CANCELLED":
        stage.tape.cancel(second, reason="r", actor="ann")
    stage.move_time(3601)
    outcome = stage.observe(key, obs(status, "r"))
    is_news = status == "duplicate" or successor in ("FAILED", "CANCELLED")
    assert outcome == (Outcome.STUCK if is_news else Outcome.FAILED)


def test_an_effect_that_ended_once_is_never_sent_again(stage: Stage) -> None:
    """FAILED by absence, contradicted, looked at again by a person, absent once more.

    FAILED, though it is idempotent.
    """
    key = stage.record("idempotent", max_attempts=5)
    stage.dispatch(key, FAILED)
    _seal_late(stage, stage.connector.dispatched[0], CONFIRMED)
    assert stage.get(key).status is S.STUCK
    stage.tape.resolve(key, "observe", reason="look again", actor="ann")
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED


def _seal_late(stage: Stage, claimed: Effect, answer: DispatchResult) -> None:
    """The worker that had ``claimed`` gets ``answer`` now and seals it, as the engine does."""
    event = outcomes.dispatched(answer, worker_now_ms=0, backoff_ms=1000, most_bytes=65_536)
    told = replace(event, token=claimed.token, nonce=claimed.claim_nonce, actor="the first worker")
    moves.move(stage.tape.database, EFFECTS, [moves.Move(claimed.effect_key, told, stage.tape.engine.terms(claimed))])


def test_what_an_earlier_claim_says_once_more_proves_nothing_about_the_last(stage: Stage) -> None:
    """Refused at first, then lost: the first refusal told again is no proof that the second call did not land."""
    key = stage.record()
    first = stage.claim(key)
    _seal_late(stage, first, RETRY)
    stage.move_time(61)
    stage.claim(key)
    stage.lapse()
    _seal_late(stage, first, FAILED)
    assert stage.get(key).status is S.UNKNOWN


@pytest.mark.parametrize("look", [obs("failed"), obs("absent"), obs("stuck")], ids=lambda look: look.status)
def test_a_look_whose_lease_is_over_does_not_end_the_look_after_it(stage: Stage, look: Any) -> None:
    """Two observers: the first was away for longer than its lease, and the second is at work when it answers."""
    key = stage.record()
    stage.dispatch(key, LOST)
    during: list[Effect] = []

    def first(_: Any) -> Any:
        stage.move_time(61)
        stage.connector.looks.append(second)
        stage.tape.engine.observe([key])
        return obs("stuck")

    def second(effect: Effect) -> Any:
        event = outcomes.observed(look, backoff_ms=0, most_bytes=65_536)
        told = replace(event, token=effect.token - 1, nonce="the-first", actor="the first observer")
        moves.move(stage.tape.database, EFFECTS, [moves.Move(key, told, stage.tape.engine.terms(effect))])
        during.append(stage.get(key))
        return obs("confirmed", "ref-1")

    stage.observe(key, first)
    [while_second_looks] = during
    assert while_second_looks.status is S.UNKNOWN
    assert while_second_looks.lease_until_ms is not None
    assert stage.get(key).status is S.CONFIRMED


def _contradicted(stage: Stage) -> str:
    """One that ended FAILED by an absence, and lost its business key, when its call landed after all."""
    key = stage.record(business_key="inv-1")
    claimed = stage.claim(key)
    stage.lapse()
    stage.move_time(61)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED
    _seal_late(stage, claimed, DispatchResult("confirmed", "ref-1"))
    assert stage.get(key).status is S.STUCK
    return key


def _is_left_to_a_person(stage: Stage, key: str, ref: str, why: str) -> None:
    [owed] = stage.tape.obligations(effect_key=key)
    assert (owed.external_ref, owed.status) == (ref, STUCK)
    assert why in owed.reason


def test_the_record_of_who_has_the_business_key_now_is_reversed_by_nobody_alone(stage: Stage) -> None:
    """Both calls landed. To the upstream the later one is too many; to us it is what its effect was CONFIRMED with."""
    first = _contradicted(stage)
    second = stage.record(business_key="inv-1")
    assert stage.dispatch(second, DispatchResult("confirmed", "ref-2")) == Outcome.CONFIRMED
    stage.tape.resolve(first, "observe", reason="look again", actor="ann")
    assert stage.observe(first, obs("duplicate", "ref-1", duplicates=["ref-2"])) == Outcome.CONFIRMED
    _is_left_to_a_person(stage, first, "ref-2", "the effect that has the business key now")


def test_the_record_of_one_that_has_lost_the_business_key_is_reversed_by_nobody_alone(stage: Stage) -> None:
    """A person said that it is CONFIRMED with it."""
    first = _contradicted(stage)
    stage.tape.resolve(first, "confirmed", reason="it is paid", actor="ann", external_ref="ref-1")
    second = stage.record(business_key="inv-1")
    stage.dispatch(second, LOST)
    assert stage.observe(second, obs("duplicate", "ref-2", duplicates=["ref-1"])) == Outcome.CONFIRMED
    _is_left_to_a_person(stage, second, "ref-1", "another effect with the same business key")
