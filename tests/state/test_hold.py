"""An intent that looks like another is HELD: nothing is sent until a person says that it is meant."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tape_celery.engine import Outcome
from tape_celery.errors import EffectCancelled, EffectTimeout, InvalidIntent, NotAllowed
from tape_celery.similar import HoldSimilar
from tests.state.stage import CONFIRMED, FAILED, LOST, S, Stage

RULE = HoldSimilar(fields=("account", "amount"), within=3600)
REQUEST = {"account": "A1", "amount": 100, "note": "first", "to": {"iban": "DE1", "names": ["A"]}}


def record(stage: Stage, request: dict[str, Any] = REQUEST, rule: Any = RULE, **options: Any) -> str:
    """One intent with a business key of its own."""
    keywords = {"business_key": f"b-{uuid.uuid4().hex}", "hold_similar": rule}
    return str(stage.tape.effect.apply_async(("scripted", request), keywords, **options).id)


def held(stage: Stage, **options: Any) -> str:
    record(stage)
    key = record(stage, {**REQUEST, "note": "second"}, **options)
    assert stage.get(key).status is S.HELD
    return key


def test_what_looks_like_another_is_held_and_says_like_what(stage: Stage) -> None:
    """It has its business key, and no worker, sweep or late message sends it."""
    first = record(stage)
    stage.move_time(60)
    key = record(stage, {**REQUEST, "note": "second"})
    effect = stage.get(key)
    assert (effect.status, effect.attempt, effect.holds_business_key) == (S.HELD, 0, True)
    assert effect.reason.startswith(f"looks like effect {first}, recorded 60")
    assert stage.last(key).evidence["similar_to"] == first
    assert stage.tape.dispatch(key) == {key: Outcome.NOTHING_TO_DO}
    assert stage.tape.observe(key) == {key: Outcome.NOTHING_TO_DO}
    stage.lapse(10 * 86_400)
    assert stage.get(key) == effect
    assert stage.tape.dispatch(key) == {key: Outcome.NOTHING_TO_DO}
    assert stage.connector.dispatched == []
    assert stage.tape.audit(live=True) == [v for v in stage.tape.audit(live=True) if v.key != key]


@pytest.mark.parametrize("first", ["pending", "dispatching", "unknown", "confirmed", "held"])
def test_it_is_held_whatever_the_first_is_doing(stage: Stage, first: str) -> None:
    key = record(stage)
    if first == "dispatching":
        stage.claim(key)
    elif first in ("unknown", "confirmed"):
        stage.dispatch(key, LOST if first == "unknown" else CONFIRMED)
    elif first == "held":
        record(stage)
    assert stage.get(record(stage)).status is S.HELD


@pytest.mark.parametrize("first", ["failed", "cancelled"])
def test_what_ended_in_vain_holds_nothing(stage: Stage, first: str) -> None:
    key = record(stage)
    if first == "failed":
        stage.dispatch(key, FAILED)
    else:
        stage.tape.cancel(key, reason="no", actor="ann")
    assert stage.get(record(stage)).status is S.PENDING


def test_only_the_chosen_fields_and_the_time_count(stage: Stage) -> None:
    """Seconds on the database's clock; a dot leads into an object."""
    record(stage)
    assert stage.get(record(stage, {**REQUEST, "amount": 101})).status is S.PENDING
    assert stage.get(record(stage, {**REQUEST, "amount": "100"})).status is S.PENDING
    deep = HoldSimilar(["to.iban", "to.names"], within=60)
    assert stage.get(record(stage, rule=deep)).status is S.PENDING
    assert stage.get(record(stage, {**REQUEST, "amount": 7}, rule=deep)).status is S.HELD
    stage.move_time(61)
    assert stage.get(record(stage, rule=deep)).status is S.PENDING
    assert stage.get(record(stage)).status is S.HELD


def test_the_order_of_the_fields_and_the_spelling_of_the_rule_do_not_count(stage: Stage) -> None:
    """As a dict it travels in a message, too."""
    record(stage)
    assert stage.get(record(stage, rule={"fields": ["amount", "account"], "within": 10})).status is S.HELD


# --- a person ---


def test_a_person_releases_it(stage: Stage) -> None:
    """PENDING, due at once, hinted, and sent once."""
    key = held(stage)
    hints: list[str] = []
    stage.tape.hint = lambda verb, connector, keys, **_: hints.extend(keys) is None  # type: ignore[method-assign]
    after = stage.tape.release(key, reason="two invoices", actor="ann")
    assert (after.status, after.reason) == (S.PENDING, "")
    assert hints == [key]
    entry = stage.last(key)
    assert (entry.kind, entry.from_status, entry.actor) == ("released", "HELD", "ann")
    assert entry.evidence["reason"] == "two invoices"
    assert stage.dispatch(key, CONFIRMED) == Outcome.CONFIRMED


def test_its_eta_is_kept(stage: Stage) -> None:
    key = held(stage, countdown=600)
    stage.tape.release(key, reason="r", actor="ann")
    assert stage.dispatch(key, CONFIRMED) == Outcome.NOT_DUE
    stage.move_time(601)
    assert stage.dispatch(key, CONFIRMED) == Outcome.CONFIRMED


def test_a_hint_that_was_lost_after_a_release_is_found_by_the_sweep(stage: Stage) -> None:
    key = held(stage)
    stage.tape.hint = lambda verb, connector, keys, **_: False  # type: ignore[method-assign]
    stage.tape.release(key, reason="r", actor="ann")
    hints: list[str] = []
    stage.tape.hint = lambda verb, connector, keys, **_: hints.extend(keys) is None  # type: ignore[method-assign]
    stage.tape.sweep()
    assert key in hints


def test_a_person_cancels_it(stage: Stage) -> None:
    """Its business key is free again."""
    key = held(stage)
    after = stage.tape.cancel(key, reason="ordered twice", actor="ann")
    assert (after.status, after.holds_business_key) == (S.CANCELLED, False)
    with pytest.raises(NotAllowed, match="release is not allowed"):
        stage.tape.release(key, reason="r", actor="ann")


@pytest.mark.parametrize("state", [s for s in S if s is not S.HELD])
def test_nothing_else_is_released(stage: Stage, state: S) -> None:
    from tests.state.test_table import _refused

    _refused(stage, state, lambda key: stage.tape.release(key, reason="r", actor="ann"))


def test_it_expires_unsent(stage: Stage) -> None:
    """By the sweep, or when it is released too late."""
    by_sweep, by_release = held(stage, expires=10), held(stage, expires=10)
    stage.move_time(11)
    assert stage.tape.release(by_release, reason="r", actor="ann").status is S.CANCELLED
    assert stage.tape.sweep().expired == 1
    for key in (by_sweep, by_release):
        assert (stage.get(key).status, stage.get(key).reason) == (S.CANCELLED, "expired")
    assert stage.last(by_release).kind == "released"
    assert stage.connector.dispatched == []


def test_its_handle_waits(stage: Stage) -> None:
    key = held(stage)
    handle = stage.tape.handle(key)
    assert (handle.status, handle.state, handle.ready()) == (S.HELD, "PENDING", False)
    with pytest.raises(EffectTimeout, match="HELD"):
        handle.get(timeout=0)
    stage.tape.cancel(key, reason="no", actor="ann")
    with pytest.raises(EffectCancelled):
        handle.get(timeout=0)


def test_a_successor_is_not_held_and_holds_what_looks_like_it(stage: Stage) -> None:
    """Who reissues means it."""
    first = record(stage)
    stage.dispatch(first, FAILED)
    other = record(stage)
    fresh = stage.tape.reissue(first, reason="r", actor="ann").id
    assert stage.get(fresh).status is S.PENDING
    stage.tape.cancel(other, reason="no", actor="ann")
    assert stage.get(record(stage)).status is S.HELD


# --- rules that cannot work ---


@pytest.mark.parametrize(
    ("fields", "within", "named"),
    [
        ("account", 60, "'account'"),
        ([], 60, "fields"),
        ([""], 60, "fields"),
        (["a..b"], 60, "fields"),
        ([1], 60, "fields"),
        (["a"] * 21, 60, "fields"),
        (None, 60, "None"),
        (["a"], 0, "within"),
        (["a"], -1, "within"),
        (["a"], True, "within"),
        (["a"], "60", "'60'"),
        (["a"], float("nan"), "within"),
        (["a"], 1e12, "within"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(fields: Any, within: Any, named: str) -> None:
    with pytest.raises(InvalidIntent, match=named):
        HoldSimilar(fields, within)


@pytest.mark.parametrize("rule", ["account", 60, {"fields": ["account"]}, {"fields": ["a"], "within": 1, "x": 2}, True])
def test_what_is_no_rule_is_refused_and_nothing_is_recorded(stage: Stage, rule: Any) -> None:
    with pytest.raises(InvalidIntent, match="hold_similar must be"):
        record(stage, rule=rule)
    assert stage.tape.effects() == []


@pytest.mark.parametrize("field", ["acount", "to.bic", "account.x", "to.names.0"])
def test_a_field_that_the_request_lacks_is_named(stage: Stage, field: str) -> None:
    with pytest.raises(InvalidIntent, match=f"'{field}'.*no such field"):
        record(stage, rule=HoldSimilar([field], within=60))
    assert stage.tape.effects() == []
