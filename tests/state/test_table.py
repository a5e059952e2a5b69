"""Each row of the contract's table of states, for both columns, on each database."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from tape_celery.connectors.base import DispatchResult
from tape_celery.engine import Outcome
from tape_celery.errors import NotAllowed
from tape_celery.events import Expired, Lapsed
from tape_celery.records import Effect, ObligationStatus
from tape_celery.similar import HoldSimilar
from tape_celery.store import moves
from tape_celery.store.rows import EFFECTS
from tests.state.stage import CONFIRMED, FAILED, LOST, MAY_HAVE, RETRY, UNSENT, S, Stage, obs

RESENDABLE = ["idempotent", "observe_only"]
ALL = [*RESENDABLE, "non_idempotent"]


# --- PENDING ---


@pytest.mark.parametrize("semantics", ALL)
def test_a_pending_effect_that_is_due_is_claimed(stage: Stage, semantics: str) -> None:
    """PENDING, claimed: DISPATCHING, token and attempt one higher, before the connector is called."""
    key = stage.record(semantics)
    seen: list[Effect] = []
    stage.dispatch(key, lambda effect: seen.append(stage.get(key)) or CONFIRMED)
    assert [(e.status, e.token, e.attempt) for e in seen] == [(S.DISPATCHING, 1, 1)]
    assert seen[0].lease_until_ms is not None


def test_an_effect_is_not_claimed_before_it_is_due(stage: Stage) -> None:
    key = stage.tape.effect.apply_async(("scripted", {"a": 1}), {"business_key": "b"}, countdown=60).id
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOT_DUE
    stage.move_time(61)
    assert stage.dispatch(key, CONFIRMED) == Outcome.CONFIRMED


def test_an_effect_of_an_unknown_connector_stays_pending(stage: Stage) -> None:
    """A worker that does not know the connector leaves the row alone, and so does its sweep."""
    key = stage.tape.effect.delay("nobody.knows", {"a": 1}, business_key="b").id
    before = stage.get(key)
    assert stage.tape.dispatch(key) == {key: Outcome.UNKNOWN_CONNECTOR}
    stage.lapse(3600)
    assert stage.get(key) == before
    assert [(count.connector, count.status) for count in stage.tape.counts()] == [("nobody.knows", "PENDING")]


@pytest.mark.parametrize("semantics", ALL)
def test_a_pending_effect_is_cancelled(stage: Stage, semantics: str) -> None:
    key = stage.record(semantics)
    assert stage.tape.cancel(key, reason="ordered twice", actor="ann").status is S.CANCELLED
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOTHING_TO_DO
    assert not stage.get(key).holds_business_key


def test_a_pending_effect_whose_expiry_passed_is_cancelled(stage: Stage) -> None:
    key = stage.tape.effect.apply_async(("scripted", {"a": 1}), {"business_key": "b"}, expires=10).id
    stage.move_time(11)
    assert stage.dispatch(key, CONFIRMED) != Outcome.CONFIRMED
    stage.tape.sweep()
    assert (stage.get(key).status, stage.get(key).reason) == (S.CANCELLED, "expired")
    assert stage.connector.dispatched == []


def test_a_cancel_with_the_flag_set_leads_to_unknown(stage: Stage) -> None:
    """An idempotent effect that may have landed cannot be cancelled unseen: UNKNOWN, with the cancel noted."""
    key = stage.record("idempotent")
    stage.dispatch(key, MAY_HAVE)
    assert stage.get(key).status is S.PENDING
    after = stage.tape.cancel(key, reason="r", actor="ann")
    assert (after.status, after.cancel_requested) == (S.UNKNOWN, True)


def test_an_expiry_with_the_flag_set_leads_to_unknown(stage: Stage) -> None:
    given = {"business_key": "b", "semantics": "idempotent"}
    key = stage.tape.effect.apply_async(("scripted", {"a": 1}), given, expires=10).id
    stage.dispatch(key, MAY_HAVE)
    stage.move_time(11)
    stage.tape.sweep()
    assert stage.get(key).status is S.UNKNOWN


# --- DISPATCHING ---


@pytest.mark.parametrize("semantics", ALL)
def test_confirmed(stage: Stage, semantics: str) -> None:
    key = stage.record(semantics)
    assert stage.dispatch(key, CONFIRMED) == Outcome.CONFIRMED
    effect = stage.get(key)
    assert (effect.status, effect.external_ref, effect.response) == (S.CONFIRMED, "ref-1", {"ok": True})
    assert effect.holds_business_key


@pytest.mark.parametrize("semantics", ALL)
def test_failed_with_a_retry_goes_back_to_pending(stage: Stage, semantics: str) -> None:
    """`failed` means that it definitely did not land, so another attempt is safe whatever the semantics."""
    key = stage.record(semantics)
    retry = DispatchResult("failed", retry_at_ms=time.time_ns() // 1_000_000 + 20_000)
    assert stage.dispatch(key, retry) == Outcome.PENDING
    effect = stage.get(key)
    assert not effect.may_have_landed
    assert 15_000 < (effect.due_at_ms or 0) - effect.updated_at_ms <= 20_000
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOT_DUE
    stage.move_time(21)
    assert stage.dispatch(key, CONFIRMED) == Outcome.CONFIRMED
    assert stage.get(key).attempt == 2


@pytest.mark.parametrize("semantics", RESENDABLE)
def test_failed_that_may_have_landed_is_tried_again_where_that_is_safe(stage: Stage, semantics: str) -> None:
    key = stage.record(semantics, max_attempts=2)
    assert stage.dispatch(key, MAY_HAVE) == Outcome.PENDING
    assert stage.get(key).may_have_landed
    assert stage.dispatch(key, MAY_HAVE) == Outcome.UNKNOWN


def test_failed_that_may_have_landed_is_unknown_for_a_non_idempotent_effect(stage: Stage) -> None:
    key = stage.record()
    assert stage.dispatch(key, MAY_HAVE) == Outcome.UNKNOWN
    assert stage.get(key).may_have_landed


@pytest.mark.parametrize("semantics", ALL)
@pytest.mark.parametrize("how", ["no retry", "attempts used up"])
def test_failed_for_good(stage: Stage, semantics: str, how: str) -> None:
    key = stage.record(semantics, max_attempts=1)
    assert stage.dispatch(key, FAILED if how == "no retry" else RETRY) == Outcome.FAILED
    effect = stage.get(key)
    assert effect.status is S.FAILED
    assert not effect.holds_business_key


@pytest.mark.parametrize("semantics", RESENDABLE)
def test_failed_after_an_attempt_that_may_have_landed_is_unknown(stage: Stage, semantics: str) -> None:
    """That the second call was refused says nothing about the first."""
    key = stage.record(semantics)
    stage.dispatch(key, MAY_HAVE)
    assert stage.dispatch(key, FAILED) == Outcome.UNKNOWN


@pytest.mark.parametrize("semantics", ALL)
def test_unsent_uses_no_attempt(stage: Stage, semantics: str) -> None:
    """What was provably never sent goes back to PENDING with backoff, for as long as it takes."""
    key = stage.record(semantics, max_attempts=1)
    for _ in range(4):
        assert stage.dispatch(key, UNSENT) == Outcome.PENDING
        effect = stage.get(key)
        assert effect.attempt == 0
        assert (effect.due_at_ms or 0) > effect.updated_at_ms
        stage.move_time(61)
    assert stage.dispatch(key, CONFIRMED) == Outcome.CONFIRMED


@pytest.mark.parametrize("semantics", ALL)
@pytest.mark.parametrize(
    "answer",
    [
        LOST,
        RuntimeError("no idea"),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        None,
        {"status": "confirmed"},
        DispatchResult("maybe"),  # type: ignore[arg-type]
        DispatchResult("failed", retry_at_ms="soon"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_whatever_is_no_answer_is_unknown(stage: Stage, semantics: str, answer: Any) -> None:
    """`unknown`, any exception, anything that is no DispatchResult: the call may have landed.

    What is meant to end the process does so after the seal.
    """
    key = stage.record(semantics)
    stage.connector.answers.append(answer)
    if isinstance(answer, SystemExit | KeyboardInterrupt):
        with pytest.raises(type(answer)):
            stage.tape.dispatch(key)
    else:
        assert stage.tape.dispatch(key) == {key: Outcome.UNKNOWN}
    effect = stage.get(key)
    assert (effect.status, effect.may_have_landed) == (S.UNKNOWN, True)
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOTHING_TO_DO
    assert len(stage.connector.dispatched) == 1


@pytest.mark.parametrize("semantics", RESENDABLE)
def test_a_lease_that_ran_out_goes_back_to_pending_where_that_is_safe(stage: Stage, semantics: str) -> None:
    key = stage.record(semantics)
    stage.claim(key)
    stage.lapse()
    effect = stage.get(key)
    assert (effect.status, effect.may_have_landed, effect.attempt) == (S.PENDING, True, 1)


def test_a_lease_that_ran_out_is_unknown_for_a_non_idempotent_effect(stage: Stage) -> None:
    """A dead worker is a lost answer, not a fresh start."""
    key = stage.record()
    stage.claim(key)
    stage.lapse()
    effect = stage.get(key)
    assert (effect.status, effect.may_have_landed) == (S.UNKNOWN, True)
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOTHING_TO_DO
    assert stage.connector.dispatched == []


def test_leases_that_run_out_do_not_kill_workers_for_ever(stage: Stage) -> None:
    """With its attempts used up, an effect whose workers always die is UNKNOWN, also where a resend would be safe."""
    key = stage.record("idempotent", max_attempts=2)
    for _ in range(2):
        stage.claim(key)
        stage.lapse()
    assert stage.get(key).status is S.UNKNOWN


def test_a_lease_that_is_not_over_is_left_alone(stage: Stage) -> None:
    key = stage.record()
    claimed = stage.claim(key)
    stage.lapse(25)
    assert stage.get(key) == claimed


# --- UNKNOWN ---


@pytest.mark.parametrize("semantics", ALL)
def test_observed_confirmed(stage: Stage, semantics: str) -> None:
    key = _unknown(stage, semantics)
    assert stage.observe(key, obs("confirmed", "ref-9", found=1)) == Outcome.CONFIRMED
    effect = stage.get(key)
    assert (effect.external_ref, effect.response) == ("ref-9", {"found": 1})


@pytest.mark.parametrize("semantics", ALL)
def test_an_absence_is_not_believed_before_it_has_settled(stage: Stage, semantics: str) -> None:
    """Observed `absent`, not settled: UNKNOWN still, looked at again when it is, and no look is used up."""
    key = _unknown(stage, semantics)
    sealed_at = stage.get(key).updated_at_ms
    assert stage.observe(key, obs("absent")) == Outcome.UNKNOWN
    effect = stage.get(key)
    assert effect.looks == 0
    assert effect.due_at_ms == effect.settled_at_ms == sealed_at + 30_000
    assert stage.observe(key, obs("absent")) == Outcome.NOT_DUE


@pytest.mark.parametrize("semantics", RESENDABLE)
def test_a_settled_absence_is_sent_again_under_the_same_key_where_that_is_safe(stage: Stage, semantics: str) -> None:
    key = _unknown(stage, semantics)
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.PENDING
    assert not stage.get(key).may_have_landed
    assert stage.dispatch(key, CONFIRMED) == Outcome.CONFIRMED
    first, second = stage.connector.dispatched
    assert first.idempotency_key == second.idempotency_key


@pytest.mark.parametrize("semantics", RESENDABLE)
def test_a_settled_absence_with_the_attempts_used_up_is_failed(stage: Stage, semantics: str) -> None:
    key = _unknown(stage, semantics, max_attempts=1)
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED


def test_a_settled_absence_is_failed_for_a_non_idempotent_effect(stage: Stage) -> None:
    key = _unknown(stage)
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED
    effect = stage.get(key)
    assert (effect.reason, effect.may_have_landed, effect.holds_business_key) == ("absent", False, False)
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOTHING_TO_DO


def test_settling_counts_from_the_end_of_the_lease_and_the_longer_span(stage: Stage) -> None:
    """max(seal or end of lease) + max(settle_seconds, the connector's total_seconds), by the database's clock."""
    stage.connector.total_seconds = 45.0
    key = stage.record()
    claimed = stage.claim(key)
    stage.lapse(100)
    assert stage.get(key).settled_at_ms == (claimed.lease_until_ms or 0) + 45_000


@pytest.mark.parametrize("semantics", ALL)
def test_a_look_that_began_before_it_settled_is_not_believed_though_it_ended_after(
    stage: Stage, semantics: str
) -> None:
    key = _unknown(stage, semantics)
    stage.move_time(15)
    assert stage.observe(key, lambda _: stage.move_time(20) or obs("absent")) == Outcome.UNKNOWN


@pytest.mark.parametrize("semantics", ALL)
def test_observed_failed(stage: Stage, semantics: str) -> None:
    key = _unknown(stage, semantics)
    assert stage.observe(key, obs("failed")) == Outcome.FAILED


@pytest.mark.parametrize("semantics", ["idempotent", "non_idempotent"])
def test_observed_duplicate_is_confirmed_with_an_obligation_for_each_extra(stage: Stage, semantics: str) -> None:
    key = _unknown(stage, semantics)
    assert stage.observe(key, obs("duplicate", "stays", duplicates=["x1", "x2", "x1"])) == Outcome.CONFIRMED
    assert stage.get(key).external_ref == "stays"
    owed = stage.tape.obligations(effect_key=key)
    assert sorted((o.external_ref, o.status, o.kind) for o in owed) == [
        ("x1", ObligationStatus.PENDING, "duplicate"),
        ("x2", ObligationStatus.PENDING, "duplicate"),
    ]


def test_an_effect_that_changes_nothing_never_owes(stage: Stage) -> None:
    key = _unknown(stage, "observe_only")
    assert stage.observe(key, obs("duplicate", "stays", duplicates=["x1"])) == Outcome.CONFIRMED
    assert stage.tape.obligations(effect_key=key) == []
    with pytest.raises(NotAllowed, match="changed nothing"):
        stage.tape.owe(key, reason="r", actor="ann")


@pytest.mark.parametrize("semantics", ALL)
@pytest.mark.parametrize("look", [obs("stuck"), RuntimeError("down"), None, obs("perhaps")], ids=repr)
def test_a_look_without_an_answer_is_taken_again_and_at_last_stuck(stage: Stage, semantics: str, look: Any) -> None:
    key = _unknown(stage, semantics)
    for number in range(1, 10):
        assert stage.observe(key, look) == Outcome.UNKNOWN
        effect = stage.get(key)
        assert effect.looks == number
        assert (effect.due_at_ms or 0) > effect.updated_at_ms
        stage.move_time(61)
    assert stage.observe(key, look) == Outcome.STUCK
    assert stage.get(key).reason == "no answer after 10 looks"


@pytest.mark.parametrize("semantics", RESENDABLE)
def test_where_nothing_can_look_a_safe_resend_is_made(stage: Stage, semantics: str) -> None:
    stage.connector.can_observe = False
    key = _unknown(stage, semantics, max_attempts=2)
    assert stage.tape.observe(key) == {key: Outcome.PENDING}
    assert stage.dispatch(key, LOST) == Outcome.NOT_DUE, "it waits: an upstream in trouble is not hammered"
    stage.move_time(61)
    assert stage.dispatch(key, LOST) == Outcome.UNKNOWN
    assert stage.tape.observe(key) == {key: Outcome.STUCK}
    assert "attempts are used up" in stage.get(key).reason


def test_where_nothing_can_look_and_the_window_is_over_it_is_stuck(stage: Stage) -> None:
    stage.connector.can_observe = False
    stage.connector.idempotency_window_seconds = 60.0
    key = _unknown(stage, "idempotent")
    stage.move_time(61)
    assert stage.tape.observe(key) == {key: Outcome.STUCK}


def test_where_nothing_can_look_a_non_idempotent_effect_is_stuck(stage: Stage) -> None:
    """`absent` from a connector that cannot look is not evidence."""
    stage.connector.can_observe = False
    key = _unknown(stage)
    stage.move_time(3600)
    assert stage.observe(key, obs("absent")) == Outcome.STUCK
    assert stage.get(key).reason == "nothing can observe it"
    assert stage.connector.observed == []


def test_near_the_end_of_the_window_it_is_not_resent(stage: Stage) -> None:
    """Its lease could end after the window: it is STUCK, and does not go round between claims and looks."""
    stage.connector.can_observe = False
    stage.connector.idempotency_window_seconds = 600.0
    key = stage.record("idempotent")
    stage.dispatch(key, LOST)
    stage.move_time(600 - 29)
    assert stage.tape.observe(key) == {key: Outcome.STUCK}
    key = stage.record("idempotent")
    stage.dispatch(key, LOST)
    stage.move_time(600 - 90)
    assert stage.tape.observe(key) == {key: Outcome.PENDING}


def test_after_the_window_an_idempotent_effect_is_treated_as_non_idempotent(stage: Stage) -> None:
    stage.connector.idempotency_window_seconds = 60.0
    key = stage.record("idempotent")
    stage.move_time(30)
    stage.claim(key)
    stage.lapse(61)
    assert stage.get(key).status is S.UNKNOWN
    key = _unknown(stage, "idempotent")
    stage.move_time(61)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED


def test_a_resend_is_withheld_when_the_upstream_may_have_forgotten_the_key(stage: Stage) -> None:
    """PENDING with the flag set, claimed after the window: the table has no row; the safe one is UNKNOWN, unsent."""
    stage.connector.idempotency_window_seconds = 60.0
    key = stage.record("idempotent")
    stage.dispatch(key, MAY_HAVE)
    stage.move_time(45)
    assert stage.dispatch(key, CONFIRMED) == Outcome.UNKNOWN
    assert len(stage.connector.dispatched) == 1
    assert stage.last(key).kind == "withheld"
    assert stage.get(key).attempt == 1


# --- a person ---


@pytest.mark.parametrize("state", ["UNKNOWN", "STUCK"])
@pytest.mark.parametrize(
    ("verdict", "ends"), [("confirmed", S.CONFIRMED), ("failed", S.FAILED), ("observe", S.UNKNOWN)]
)
def test_a_person_resolves(stage: Stage, state: str, verdict: str, ends: S) -> None:
    key = _unknown(stage) if state == "UNKNOWN" else _stuck(stage)
    after = stage.tape.resolve(key, verdict, reason="called the bank", actor="ann", external_ref="r7")
    assert after.status is ends
    entry = stage.last(key)
    assert (entry.kind, entry.actor, entry.evidence["reason"]) == ("resolved", "ann", "called the bank")
    if verdict == "confirmed":
        assert stage.get(key).external_ref == "r7"
    if verdict == "observe":
        assert stage.observe(key, obs("confirmed")) == Outcome.CONFIRMED


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("verdict", ["confirmed", "failed", "observe"])
def test_a_person_resolves_nothing_else(stage: Stage, state: S, verdict: str) -> None:
    if state in (S.UNKNOWN, S.STUCK):
        return
    _refused(stage, state, lambda key: stage.tape.resolve(key, verdict, reason="r", actor="ann"))


@pytest.mark.parametrize("state", [S.HELD, S.PENDING, S.DISPATCHING, S.UNKNOWN])
def test_what_is_not_over_is_cancelled_or_the_wish_is_noted(stage: Stage, state: S) -> None:
    key = bring(stage, state)
    after = stage.tape.cancel(key, reason="r", actor="ann")
    unsent = state in (S.HELD, S.PENDING)
    assert after.status is (S.CANCELLED if unsent else state)
    assert after.cancel_requested
    assert stage.last(key).kind == ("cancelled" if unsent else "cancel requested")


@pytest.mark.parametrize("state", list(S))
def test_a_lease_ends_only_under_a_call(stage: Stage, state: S) -> None:
    """Whoever says so, however late."""

    def lapse(key: str) -> Any:
        stage.move_time(61)
        terms = stage.tape.engine.terms(stage.get(key))
        return moves.act(stage.tape.database, EFFECTS, key, Lapsed(actor="sweep"), terms)

    if state is S.DISPATCHING:
        assert lapse(bring(stage, state)).after.status is S.UNKNOWN
    else:
        _refused(stage, state, lapse)


@pytest.mark.parametrize("state", list(S))
def test_an_expiry_stops_only_what_is_unsent(stage: Stage, state: S) -> None:
    """The passing of the time itself; what is under way is followed to its outcome."""

    def expire(key: str) -> Any:
        terms = stage.tape.engine.terms(stage.get(key))
        return moves.act(stage.tape.database, EFFECTS, key, Expired(actor="sweep"), terms)

    if state in (S.PENDING, S.HELD):
        key = bring(stage, state, expires=10)
        with pytest.raises(NotAllowed, match="not due"):
            expire(key)
        stage.move_time(11)
        assert expire(key).after.status is S.CANCELLED
    else:
        _refused(stage, state, expire)


@pytest.mark.parametrize("state", [S.CONFIRMED, S.FAILED, S.STUCK, S.CANCELLED])
def test_what_is_over_is_not_cancelled(stage: Stage, state: S) -> None:
    _refused(stage, state, lambda key: stage.tape.cancel(key, reason="r", actor="ann"))


@pytest.mark.parametrize("state", [s for s in S if s is not S.CONFIRMED])
def test_only_what_is_confirmed_is_owed(stage: Stage, state: S) -> None:
    _refused(stage, state, lambda key: stage.tape.owe(key, reason="r", actor="ann"))


@pytest.mark.parametrize("state", [s for s in S if s is not S.PENDING])
def test_only_what_is_pending_is_dispatched(stage: Stage, state: S) -> None:
    """No sweep, retry, redelivery or late message dispatches anything else."""
    key = bring(stage, state)
    before, calls = stage.get(key), len(stage.connector.dispatched)
    assert stage.dispatch(key, CONFIRMED) in (Outcome.NOTHING_TO_DO, Outcome.HELD)
    assert (stage.get(key), len(stage.connector.dispatched)) == (before, calls)


@pytest.mark.parametrize("state", [s for s in S if s is not S.UNKNOWN])
def test_only_what_is_unknown_is_looked_at(stage: Stage, state: S) -> None:
    key = bring(stage, state)
    before, looks = stage.get(key), len(stage.connector.observed)
    assert stage.observe(key, obs("absent")) in (Outcome.NOTHING_TO_DO, Outcome.HELD, Outcome.NOT_DUE)
    assert (stage.get(key), len(stage.connector.observed)) == (before, looks)


# --- cancel and expiry while it is under way ---


@pytest.mark.parametrize("answer", [RETRY, UNSENT], ids=["retry", "unsent"])
def test_after_a_cancel_every_edge_to_pending_is_cancelled(stage: Stage, answer: DispatchResult) -> None:
    key = stage.record()
    cancel = stage.meanwhile(lambda: stage.tape.cancel(key, reason="r", actor="ann"), answer)
    assert stage.dispatch(key, cancel) == Outcome.CANCELLED


def test_after_an_expiry_every_edge_to_pending_is_cancelled(stage: Stage) -> None:
    key = stage.tape.effect.apply_async(("scripted", {"a": 1}), {"business_key": "b"}, expires=60).id
    late = stage.meanwhile(lambda: stage.move_time(61), RETRY)
    assert stage.dispatch(key, late) == Outcome.CANCELLED


def test_after_a_cancel_with_the_flag_set_it_is_unknown_and_then_asked(stage: Stage) -> None:
    key = stage.record("idempotent")
    cancel = stage.meanwhile(lambda: stage.tape.cancel(key, reason="r", actor="ann"), MAY_HAVE)
    assert stage.dispatch(key, cancel) == Outcome.UNKNOWN
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.CANCELLED


def test_after_a_cancel_with_nothing_that_can_look_it_is_stuck(stage: Stage) -> None:
    stage.connector.can_observe = False
    key = stage.record("idempotent")
    cancel = stage.meanwhile(lambda: stage.tape.cancel(key, reason="r", actor="ann"), LOST)
    stage.dispatch(key, cancel)
    assert stage.tape.observe(key) == {key: Outcome.STUCK}


@pytest.mark.parametrize("found", ["in the call", "by a look", "by a person"])
def test_what_is_confirmed_after_a_cancel_is_owed(stage: Stage, found: str) -> None:
    key = stage.record()
    answer = CONFIRMED if found == "in the call" else LOST
    stage.dispatch(key, stage.meanwhile(lambda: stage.tape.cancel(key, reason="r", actor="ann"), answer))
    if found == "by a look":
        stage.observe(key, obs("confirmed", "ref-1"))
    if found == "by a person":
        stage.tape.resolve(key, "confirmed", reason="r", actor="ann", external_ref="ref-1")
    [owed] = stage.tape.obligations(effect_key=key)
    assert (owed.kind, owed.external_ref, owed.status) == ("cancelled", "ref-1", ObligationStatus.PENDING)


def test_what_is_confirmed_after_a_cancel_is_not_owed_where_there_is_no_inverse(stage: Stage) -> None:
    stage.connector.can_compensate = False
    key = stage.record()
    stage.dispatch(key, stage.meanwhile(lambda: stage.tape.cancel(key, reason="r", actor="ann"), CONFIRMED))
    assert stage.get(key).status is S.CONFIRMED
    assert stage.tape.obligations(effect_key=key) == []


def test_what_is_confirmed_after_an_expiry_is_not_owed(stage: Stage) -> None:
    key = stage.tape.effect.apply_async(("scripted", {"a": 1}), {"business_key": "b"}, expires=60).id
    stage.dispatch(key, stage.meanwhile(lambda: stage.move_time(61), CONFIRMED))
    assert stage.get(key).status is S.CONFIRMED
    assert stage.tape.obligations(effect_key=key) == []


# --- the ways into each state ---


def _unknown(stage: Stage, semantics: str = "non_idempotent", **keywords: Any) -> str:
    key = stage.record(semantics, **keywords)
    assert stage.dispatch(key, LOST) == Outcome.UNKNOWN
    return key


def _stuck(stage: Stage) -> str:
    stage.connector.can_observe = False
    key = _unknown(stage)
    assert stage.tape.observe(key) == {key: Outcome.STUCK}
    stage.connector.can_observe = True
    return key


def bring(stage: Stage, state: S, **options: Any) -> str:
    """A fresh effect in ``state``; ``options`` are of one that nothing was sent of."""
    if state is S.HELD:
        stage.record(hold_similar=HoldSimilar(["amount"], within=60))
    if state in (S.HELD, S.PENDING):
        rule = HoldSimilar(["amount"], within=60) if state is S.HELD else None
        given = {"business_key": f"bk-{uuid.uuid4().hex}", "hold_similar": rule}
        key = str(stage.tape.effect.apply_async(("scripted", {"amount": 1}), given, **options).id)
        assert stage.get(key).status is state
        return key
    if state is S.UNKNOWN:
        return _unknown(stage)
    if state is S.STUCK:
        return _stuck(stage)
    key = stage.record()
    if state is S.DISPATCHING:
        stage.claim(key)
    elif state is S.CANCELLED:
        stage.tape.cancel(key, reason="r", actor="ann")
    else:
        stage.dispatch(key, CONFIRMED if state is S.CONFIRMED else FAILED)
    assert stage.get(key).status is state
    return key


def _refused(stage: Stage, state: S, act: Any) -> None:
    key = bring(stage, state)
    before = stage.get(key)
    with pytest.raises(NotAllowed) as refused:
        act(key)
    assert refused.value.key == key
    assert refused.value.status == state
    assert stage.get(key) == before
    assert len(stage.tape.journal(key)) == before.version
