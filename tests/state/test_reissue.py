"""An effect that ended in vain is issued again once at most, and what the upstream says of the first is read anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tape_celery.engine import Outcome
from tape_celery.errors import AlreadyReissued, InvalidIntent, KeyConflict, NoSuchEffect, NotAllowed, RunClosed
from tests.state.stage import CONFIRMED, FAILED, LOST, S, Stage, obs

ALL = ["non_idempotent", "idempotent", "observe_only"]


def reissue(stage: Stage, key: str) -> str:
    return str(stage.tape.reissue(key, reason="the account was wrong", actor="ann").id)


def absent(stage: Stage, **keywords: object) -> str:
    """FAILED, because the upstream did not have it."""
    key = stage.record(**keywords)  # type: ignore[arg-type]
    stage.dispatch(key, LOST)
    stage.move_time(31)
    assert stage.observe(key, obs("absent")) == Outcome.FAILED
    return key


@pytest.mark.parametrize("semantics", ALL)
@pytest.mark.parametrize("ended", [S.FAILED, S.CANCELLED])
def test_what_ended_in_vain_is_issued_again(stage: Stage, semantics: str, ended: S) -> None:
    """A fresh effect with fresh keys and everything else as it was; both rows and both journals tell of it."""
    key = stage.record(semantics, business_key="inv-1", run_id="run-1", max_attempts=3, priority=7)
    if ended is S.FAILED:
        stage.dispatch(key, FAILED)
    else:
        stage.tape.cancel(key, reason="not today", actor="ann")
    fresh = reissue(stage, key)
    before, after = stage.get(key), stage.get(fresh)
    assert (before.status, before.reissued_as, after.reissue_of) == (ended, fresh, key)
    assert (after.status, after.attempt, after.idempotency_key) == (S.PENDING, 0, fresh)
    assert after.idempotency_key != before.idempotency_key
    for same in (
        "connector",
        "request_json",
        "semantics",
        "priority",
        "business_key",
        "run_id",
        "max_attempts",
        "effect_name",
    ):
        assert getattr(after, same) == getattr(before, same), same
    assert after.holds_business_key
    assert not before.holds_business_key
    entry = stage.last(key)
    assert (entry.kind, entry.status, entry.actor) == ("reissued", ended, "ann")
    assert (entry.evidence["successor"], entry.evidence["reason"]) == (fresh, "the account was wrong")
    [recorded] = stage.tape.journal(fresh)
    assert (recorded.kind, recorded.actor, recorded.evidence["reissue_of"]) == ("recorded", "ann", key)
    assert stage.dispatch(fresh, CONFIRMED) == Outcome.CONFIRMED
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOTHING_TO_DO


def test_a_second_reissue_is_refused_and_names_the_successor(stage: Stage) -> None:
    key = absent(stage)
    fresh = reissue(stage, key)
    with pytest.raises(AlreadyReissued, match=fresh) as refused:
        reissue(stage, key)
    assert refused.value.successor == fresh
    assert len(stage.tape.effects()) == 2


def test_a_successor_that_ended_in_vain_is_issued_again_in_its_turn(stage: Stage) -> None:
    first = absent(stage)
    second = reissue(stage, first)
    stage.dispatch(second, FAILED)
    third = reissue(stage, second)
    assert (stage.get(third).reissue_of, stage.get(first).reissued_as) == (second, second)


@pytest.mark.parametrize(
    ("bring", "why"),
    [
        (lambda stage, key: None, "still to be sent"),
        (lambda stage, key: stage.claim(key), "under way"),
        (lambda stage, key: stage.dispatch(key, CONFIRMED), "it landed"),
        (lambda stage, key: stage.dispatch(key, LOST), "may have landed"),
        (lambda stage, key: (stage.dispatch(key, LOST), unseen(stage, key)), "resolve it first"),
    ],
    ids=["pending", "dispatching", "confirmed", "unknown", "stuck"],
)
def test_whatever_may_have_landed_is_not_issued_again(
    stage: Stage, bring: Callable[[Stage, str], object], why: str
) -> None:
    """The error shows the state and says what to do; the row is as it was."""
    key = stage.record()
    bring(stage, key)
    before = stage.get(key)
    with pytest.raises(NotAllowed, match=f"is {before.status}: reissue is not allowed .*{why}"):
        reissue(stage, key)
    assert stage.get(key) == before
    assert len(stage.tape.effects()) == 1


def unseen(stage: Stage, key: str) -> None:
    """STUCK, for nothing can look."""
    stage.connector.can_observe = False
    stage.tape.observe(key)
    stage.connector.can_observe = True


def test_what_does_not_exist_and_what_has_no_reason_is_refused(stage: Stage) -> None:
    with pytest.raises(NoSuchEffect):
        reissue(stage, "nothing")
    key = absent(stage)
    with pytest.raises(InvalidIntent, match="reason"):
        stage.tape.reissue(key, reason=" ", actor="ann")


def test_the_expiry_of_the_first_is_not_taken_along(stage: Stage) -> None:
    key = stage.tape.effect.apply_async(("scripted", {"a": 1}), {"business_key": "b"}, expires=10).id
    stage.move_time(11)
    stage.tape.sweep()
    assert stage.get(key).status is S.CANCELLED
    fresh = reissue(stage, key)
    assert stage.get(fresh).expires_at_ms is None
    assert stage.dispatch(fresh, CONFIRMED) == Outcome.CONFIRMED


def test_a_business_key_that_another_effect_took_is_named_and_nothing_changes(stage: Stage) -> None:
    key = absent(stage, business_key="inv-1")
    before = stage.get(key)
    other = stage.record(business_key="inv-1")
    with pytest.raises(KeyConflict, match=r"inv-1.*was not reissued") as conflict:
        reissue(stage, key)
    assert conflict.value.effect_key == other
    assert stage.get(key) == before
    stage.tape.cancel(other, reason="not this one", actor="ann")
    assert stage.get(reissue(stage, key)).business_key == "inv-1"


def test_nothing_is_reissued_into_a_run_that_was_ended(stage: Stage) -> None:
    """As nothing is recorded into it; the effect is as it was."""
    key = absent(stage, run_id="run-1")
    stage.tape.compensate_run("run-1", reason="the order was called off", actor="ann")
    before = stage.get(key)
    with pytest.raises(RunClosed, match="run-1"):
        reissue(stage, key)
    assert stage.get(key) == before


def test_a_successor_whose_hint_was_lost_is_found_by_the_sweep(stage: Stage) -> None:
    """As when the process dies right after it committed."""
    key = absent(stage)
    hints: list[str] = []
    stage.tape.hint = lambda verb, connector, keys, **_: hints.extend(keys) is None  # type: ignore[method-assign]
    fresh = reissue(stage, key)
    assert hints.pop() == fresh
    stage.tape.sweep()
    assert fresh in hints


# --- the absence is watched, and what is seen may be the successor's ---


SUCCESSORS: dict[str, tuple[Callable[[Stage, str], object], bool]] = {
    "pending": (lambda stage, key: None, True),
    "dispatching": (lambda stage, key: stage.claim(key), True),
    "unknown": (lambda stage, key: stage.dispatch(key, LOST), True),
    "confirmed": (lambda stage, key: stage.dispatch(key, CONFIRMED), True),
    "failed": (lambda stage, key: stage.dispatch(key, FAILED), False),
    "cancelled": (lambda stage, key: stage.tape.cancel(key, reason="no", actor="ann"), False),
}


@pytest.mark.parametrize("successor", SUCCESSORS)
@pytest.mark.parametrize("keyed", [True, False], ids=["business key", "no business key"])
def test_while_a_successor_lives_a_confirmed_is_no_news(stage: Stage, successor: str, keyed: bool) -> None:
    """It may be the successor's record; once that has ended in vain too, it is the contradiction again."""
    bring, lives = SUCCESSORS[successor]
    key = absent(stage, business_key="b" if keyed else None)
    fresh = reissue(stage, key)
    bring(stage, fresh)
    stage.move_time(3600)
    stage.observe(key, obs("confirmed", "ref-9"))
    after = stage.get(key)
    assert after.status is (S.FAILED if lives else S.STUCK)
    assert lives or after.reason.startswith("contradiction")


@pytest.mark.parametrize("successor", SUCCESSORS)
def test_a_duplicate_is_news_whatever_became_of_the_successor(stage: Stage, successor: str) -> None:
    key = absent(stage)
    fresh = reissue(stage, key)
    SUCCESSORS[successor][0](stage, fresh)
    stage.move_time(3600)
    stage.observe(key, obs("duplicate", "ref-9"))
    assert stage.get(key).status is S.STUCK


@pytest.mark.parametrize("last", ["confirmed", "failed"])
def test_the_last_of_a_line_of_successors_decides(stage: Stage, last: str) -> None:
    bring, lives = SUCCESSORS[last]
    first = absent(stage, business_key=None)
    second = reissue(stage, first)
    stage.dispatch(second, FAILED)
    bring(stage, reissue(stage, second))
    stage.move_time(3600)
    stage.observe(first, obs("confirmed", "ref-9"))
    assert stage.get(first).status is (S.FAILED if lives else S.STUCK)


def test_the_first_ones_own_late_answer_is_a_contradiction_all_the_same(stage: Stage) -> None:
    """It is no look, which could mean the successor: it is the answer to the first one's own call."""
    key = stage.record()

    def too_late() -> None:
        stage.lapse()
        stage.move_time(31)
        stage.connector.looks.append(obs("absent"))
        stage.tape.observe(key)
        reissue(stage, key)

    assert stage.dispatch(key, stage.meanwhile(too_late, CONFIRMED)) == Outcome.STUCK
    assert stage.get(key).reason.startswith("contradiction")
    with pytest.raises(AlreadyReissued):
        reissue(stage, key)
