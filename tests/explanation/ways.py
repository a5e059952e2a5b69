"""Ways into every state, each taken by the product's own verbs on a real store: what an explanation has to word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tape_celery.connectors import base
from tape_celery.connectors.base import DispatchResult
from tests.state.stage import CONFIRMED, FAILED, LOST, MAY_HAVE, RETRY, UNSENT, Stage, comp, obs

WAYS: dict[str, Callable[[Stage], str]] = {}
"""A way by its name: it returns the key of the row that it brought into a state."""


def way(taken: Callable[[Stage], str]) -> Callable[[Stage], str]:
    WAYS[taken.__name__] = taken
    return taken


@contextmanager
def blind(stage: Stage) -> Iterator[None]:
    """Nothing can look meanwhile."""
    stage.connector.can_observe = False
    try:
        yield
    finally:
        stage.connector.can_observe = True


# --- PENDING ---


@way
def pending_and_due(stage: Stage) -> str:
    return stage.record()


@way
def pending_until_its_eta(stage: Stage) -> str:
    options = {"business_key": "eta"}
    return str(stage.tape.effect.apply_async(("scripted", {"a": 1}), options, countdown=3600, expires=7200).id)


@way
def pending_after_a_refusal(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, DispatchResult("failed", error={"reason": "busy"}, retry_at_ms=2**62))
    return key


@way
def pending_because_nothing_was_sent(stage: Stage) -> str:
    key = stage.record()
    for _ in range(3):
        stage.dispatch(key, UNSENT)
        stage.move_time(120)
    stage.dispatch(key, UNSENT)
    return key


@way
def pending_and_may_have_landed(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.dispatch(key, MAY_HAVE)
    return key


@way
def pending_after_a_lost_worker(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.claim(key)
    stage.lapse()
    return key


@way
def pending_after_an_absence(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.dispatch(key, LOST)
    stage.move_time(31)
    stage.observe(key, obs("absent"))
    return key


@way
def pending_for_its_turn(stage: Stage) -> str:
    stage.record(ordering_key="turn")
    return stage.record(ordering_key="turn")


@way
def pending_behind_one_that_is_stuck(stage: Stage) -> str:
    first = stage.record(ordering_key="turn-2")
    second = stage.record(ordering_key="turn-2")
    stage.dispatch(first, LOST)
    with blind(stage):
        stage.observe(first, obs("stuck"))
    return second


@way
def pending_for_a_connector_unknown_here(stage: Stage) -> str:
    return str(stage.tape.effect.delay("nobody.here", {"a": 1}, business_key="n").id)


# --- DISPATCHING ---


@way
def dispatching(stage: Stage) -> str:
    key = stage.record()
    stage.claim(key)
    return key


@way
def dispatching_idempotent(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.claim(key)
    return key


@way
def dispatching_with_its_lease_over(stage: Stage) -> str:
    key = stage.record()
    stage.claim(key)
    stage.move_time(60)
    return key


@way
def dispatching_and_asked_to_be_cancelled(stage: Stage) -> str:
    key = stage.record()
    stage.claim(key)
    stage.tape.cancel(key, reason="a typo", actor="ann")
    return key


# --- UNKNOWN ---


@way
def unknown_after_a_lost_answer(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, DispatchResult("unknown", error={"reason": "read timeout"}))
    return key


@way
def unknown_after_a_lost_worker(stage: Stage) -> str:
    key = stage.record()
    stage.claim(key)
    stage.lapse()
    return key


@way
def unknown_and_absent_so_far(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.observe(key, obs("absent"))
    return key


@way
def unknown_after_looks_that_brought_nothing(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.observe(key, obs("absent"))
    stage.move_time(31)
    for _ in range(3):
        stage.observe(key, obs("stuck"))
        stage.move_time(61)
    stage.observe(key, RuntimeError("503 from the lookup"))
    return key


@way
def unknown_and_nothing_can_look(stage: Stage) -> str:
    key = str(stage.tape.effect.delay("blind", {"a": 1}, business_key=f"blind-{len(base.names())}").id)
    stage.tape.dispatch(key)
    return key


@way
def unknown_and_asked_to_be_cancelled(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.tape.cancel(key, reason="a typo", actor="ann")
    return key


@way
def unknown_because_a_person_wants_a_look(stage: Stage) -> str:
    key = stuck_because_nothing_can_look(stage)
    stage.tape.resolve(key, "observe", reason="their lookup is up again", actor="ann")
    return key


@way
def unknown_because_the_key_may_be_forgotten(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.dispatch(key, MAY_HAVE)
    stage.move_time(86_400)
    stage.dispatch(key, CONFIRMED)
    return key


# --- STUCK ---


@way
def stuck_because_nothing_can_look(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    with blind(stage):
        stage.tape.observe(key)
    return key


@way
def stuck_after_the_last_look(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    for _ in range(10):
        stage.observe(key, obs("stuck"))
        stage.move_time(61)
    return key


@way
def stuck_with_its_attempts_used_up(stage: Stage) -> str:
    key = stage.record("idempotent", max_attempts=1)
    stage.dispatch(key, LOST)
    with blind(stage):
        stage.tape.observe(key)
    return key


@way
def stuck_by_a_contradiction(stage: Stage) -> str:
    key = failed_because_absent(stage)
    stage.move_time(3_700)
    stage.observe(key, obs("confirmed", "BK-late"))
    return key


@way
def stuck_by_a_contradiction_and_reissued(stage: Stage) -> str:
    key = failed_because_absent(stage)
    successor = stage.tape.reissue(key, reason="they say it is not there", actor="ann").id
    stage.tape.cancel(successor, reason="not again", actor="bob")
    stage.move_time(3_700)
    stage.observe(key, obs("confirmed", "BK-late"))
    return key


# --- HELD ---


@way
def held(stage: Stage) -> str:
    rule = {"hold_similar": {"fields": ["amount"], "within": 3600}}
    stage.record(**rule)
    return stage.record(**rule)


# --- FAILED ---


@way
def failed_because_refused(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, FAILED)
    return key


@way
def failed_after_retries(stage: Stage) -> str:
    key = stage.record(max_attempts=3)
    for _ in range(3):
        stage.dispatch(key, RETRY)
        stage.move_time(61)
    return key


@way
def failed_because_absent(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.observe(key, obs("absent"))
    stage.move_time(31)
    stage.observe(key, obs("absent"))
    return key


@way
def failed_because_absent_and_watched_to_the_end(stage: Stage) -> str:
    key = failed_because_absent(stage)
    for _ in range(2):
        stage.move_time(86_500)
        stage.observe(key, obs("absent"))
    return key


@way
def failed_because_the_upstream_says_so(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.observe(key, obs("failed"))
    return key


@way
def failed_by_a_person(stage: Stage) -> str:
    key = stuck_because_nothing_can_look(stage)
    stage.tape.resolve(key, "failed", reason="the bank has no such wire", actor="ann")
    return key


@way
def failed_and_reissued(stage: Stage) -> str:
    key = failed_because_refused(stage)
    stage.tape.reissue(key, reason="the account is open now", actor="ann")
    return key


@way
def failed_and_its_key_taken(stage: Stage) -> str:
    key = failed_because_refused(stage)
    stage.record(business_key=stage.get(key).business_key)
    return key


@way
def failed_in_a_closed_run(stage: Stage) -> str:
    key = stage.record(run_id="closed-1")
    stage.dispatch(key, FAILED)
    stage.tape.compensate_run("closed-1", reason="order cancelled", actor="ann")
    return key


# --- CANCELLED ---


@way
def cancelled_before_it_was_sent(stage: Stage) -> str:
    key = stage.record()
    stage.tape.cancel(key, reason="a typo", actor="ann")
    return key


@way
def cancelled_by_its_expiry(stage: Stage) -> str:
    key = str(stage.tape.effect.apply_async(("scripted", {"a": 1}), {"business_key": "exp"}, expires=5).id)
    stage.move_time(6)
    stage.tape.sweep()
    return key


@way
def cancelled_after_an_absence(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.dispatch(key, LOST)
    stage.tape.cancel(key, reason="a typo", actor="ann")
    stage.move_time(31)
    stage.observe(key, obs("absent"))
    return key


@way
def cancelled_with_its_run(stage: Stage) -> str:
    key = stage.record(run_id="closed-2")
    stage.tape.cancel_run("closed-2", reason="order cancelled", actor="ann")
    return key


# --- CONFIRMED ---


@way
def confirmed(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, CONFIRMED)
    return key


@way
def confirmed_by_a_look(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.observe(key, obs("confirmed", "BK-7"))
    return key


@way
def confirmed_with_duplicates(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.observe(key, obs("duplicate", "BK-8", duplicates=["BK-9", "", "BK-10"]))
    return key


@way
def confirmed_by_a_person(stage: Stage) -> str:
    key = stuck_because_nothing_can_look(stage)
    stage.tape.resolve(key, "confirmed", reason="seen on the statement", actor="ann", external_ref="BK-11")
    return key


@way
def confirmed_late(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, stage.meanwhile(stage.lapse, CONFIRMED))
    return key


@way
def confirmed_after_a_cancel(stage: Stage) -> str:
    key = stage.record()

    def cancel() -> None:
        stage.tape.cancel(key, reason="a typo", actor="ann")

    stage.dispatch(key, stage.meanwhile(cancel, CONFIRMED))
    return key


@way
def confirmed_and_owed(stage: Stage) -> str:
    key = confirmed(stage)
    stage.tape.owe(key, reason="a return", actor="ann")
    return key


@way
def confirmed_and_its_turn_in_the_run_to_come(stage: Stage) -> str:
    keys = [stage.record(run_id="undone-1") for _ in range(2)]
    for number, key in enumerate(keys):
        stage.dispatch(key, DispatchResult("confirmed", f"R-{number}"))
        stage.move_time(1)
    stage.tape.compensate_run("undone-1", reason="order cancelled", actor="ann")
    return keys[0]


@way
def confirmed_observe_only(stage: Stage) -> str:
    key = stage.record("observe_only")
    stage.dispatch(key, CONFIRMED)
    return key


# --- obligations ---


def owed(stage: Stage) -> str:
    return str(stage.tape.owe(confirmed(stage), reason="a return", actor="ann").obligation_key)


@way
def obligation_pending(stage: Stage) -> str:
    return owed(stage)


@way
def obligation_pending_again(stage: Stage) -> str:
    key = owed(stage)
    stage.compensate(key, comp("failed", reason="busy"))
    return key


@way
def obligation_compensating(stage: Stage) -> str:
    key = owed(stage)
    stage.claim_obligation(key)
    return key


@way
def obligation_compensated(stage: Stage) -> str:
    key = owed(stage)
    stage.compensate(key, comp("compensated"))
    return key


@way
def obligation_compensated_by_a_person(stage: Stage) -> str:
    key = obligation_stuck_for_good(stage)
    stage.tape.resolve(key, "confirmed", reason="undone on their screen", actor="ann")
    return key


@way
def obligation_unknown(stage: Stage) -> str:
    key = owed(stage)
    stage.compensate(key, comp("failed", ambiguous=True, reason="read timeout"))
    return key


@way
def obligation_stuck_for_good(stage: Stage) -> str:
    key = owed(stage)
    stage.compensate(key, comp("failed", final=True, reason="settled already"))
    return key


@way
def obligation_stuck_because_nothing_can_look(stage: Stage) -> str:
    key = obligation_unknown(stage)
    stage.tape.compensate(key)
    return key


@way
def obligation_born_stuck(stage: Stage) -> str:
    key = confirmed_with_duplicates(stage)
    return next(debt.obligation_key for debt in stage.tape.obligations(effect_key=key) if not debt.external_ref)


@way
def obligation_of_a_run(stage: Stage) -> str:
    confirmed_key = stage.record(run_id="undone-2")
    stage.dispatch(confirmed_key, CONFIRMED)
    stage.tape.compensate_run("undone-2", reason="order cancelled", actor="ann")
    [debt] = stage.tape.obligations(run_id="undone-2")
    return debt.obligation_key


# --- pruned ---


@way
def pruned(stage: Stage) -> str:
    key = confirmed(stage)
    stage.move_time(3 * 86_400)
    stage.tape.prune(2)
    return key
