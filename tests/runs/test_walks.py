"""A run in the store: closed, walked step by step, stopped by what is STUCK, and gone on with."""

from __future__ import annotations

import pytest

from tape_celery.connectors.base import CompensationResult
from tape_celery.errors import NoSuchRun, NotAllowed, RunClosed
from tape_celery.records import EffectStatus, Obligation, ObligationStatus, RunStatus
from tape_celery.runs import EffectRun
from tape_celery.store import runs, walks
from tests.state.stage import CONFIRMED, FAILED, LOST, Stage, comp, obs

DONE = CompensationResult("compensated")
R = RunStatus
BY = {"reason": "the customer left", "actor": "a person"}


def confirmed(stage: Stage, run_id: str, number: int = 1, **keywords: object) -> list[str]:
    """So many effects of the run that have landed, oldest first."""
    keys = []
    for _ in range(number):
        keys.append(stage.record(run_id=run_id, **keywords))
        assert stage.dispatch(keys[-1], CONFIRMED) == "confirmed"
        stage.move_time(0.01)
    return keys


def owed(stage: Stage, run: EffectRun) -> Obligation:
    """The one obligation of the run that is not paid."""
    (debt,) = [debt for debt in run.obligations if debt.status is not ObligationStatus.COMPENSATED]
    return debt


def test_what_was_confirmed_is_undone_newest_first_one_after_another(stage: Stage) -> None:
    """The next obligation is not even registered before the one before is paid."""
    keys = confirmed(stage, "order", 3)
    run = stage.tape.compensate_run("order", **BY)
    for key in reversed(keys):
        assert run.status is R.COMPENSATING
        debt = owed(stage, run)
        assert (debt.effect_key, debt.kind, debt.reason) == (key, "run", "run order (the customer left)")
        assert stage.compensate(debt.obligation_key, DONE) == "compensated"
    assert run.status is R.COMPENSATED
    assert [debt.effect_key for debt in stage.connector.compensated] == keys[::-1]
    assert stage.last(keys[0]).evidence["reason"] == "run order (the customer left)"
    assert (run.record.closing_reason, run.record.actor, run.record.sweep_at_ms) == (*BY.values(), None)


def test_pending_effects_are_cancelled_and_a_failed_one_owes_nothing(stage: Stage) -> None:
    (landed,) = confirmed(stage, "order")
    failed, pending = stage.record(run_id="order"), stage.record(run_id="order")
    stage.dispatch(failed, FAILED)
    run = stage.tape.compensate_run("order", **BY)
    assert stage.get(pending).status is EffectStatus.CANCELLED
    assert stage.get(pending).reason == "run order (the customer left)"
    stage.compensate(owed(stage, run).obligation_key, DONE)
    assert run.status is R.COMPENSATED
    assert [debt.effect_key for debt in run.obligations] == [landed]


@pytest.mark.parametrize(("look", "undone"), [(obs("confirmed", "ref-1"), True), (obs("failed"), False)])
def test_an_unknown_effect_holds_the_run_until_its_outcome_is_known(stage: Stage, look: object, undone: bool) -> None:
    (older,) = confirmed(stage, "order")
    unknown = stage.record(run_id="order")
    stage.dispatch(unknown, LOST)
    run = stage.tape.compensate_run("order", **BY)
    stage.move_time(60)
    stage.tape.sweep()
    assert (run.status, run.obligations) == (R.COMPENSATING, [])
    stage.observe(unknown, look)
    if undone:
        debt = owed(stage, run)
        assert debt.effect_key == unknown
        stage.compensate(debt.obligation_key, DONE)
    assert owed(stage, run).effect_key == older
    stage.compensate(owed(stage, run).obligation_key, DONE)
    assert run.status is R.COMPENSATED


def test_a_call_that_is_under_way_is_followed_to_its_outcome(stage: Stage) -> None:
    """The run is closed in the middle of a call: that one is undone too, and first, for it is the newest."""
    (older,) = confirmed(stage, "order")
    newer = stage.record(run_id="order")
    close = stage.meanwhile(lambda: stage.tape.compensate_run("order", **BY), CONFIRMED)
    assert stage.dispatch(newer, close) == "confirmed"
    run = stage.tape.run("order")
    assert "cancel requested" not in stage.kinds(newer)
    for key in (newer, older):
        assert owed(stage, run).effect_key == key
        stage.compensate(owed(stage, run).obligation_key, DONE)
    assert run.status is R.COMPENSATED


def test_an_inverse_that_fails_for_good_stops_the_walk_until_a_person_resolves_it(stage: Stage) -> None:
    older, newer = confirmed(stage, "order", 2)
    run = stage.tape.compensate_run("order", **BY)
    debt = owed(stage, run)
    assert stage.compensate(debt.obligation_key, comp("failed", final=True)) == "stuck"
    assert run.status is R.STUCK
    assert debt.obligation_key in run.reason
    assert newer in run.reason
    stage.move_time(3600)
    stage.tape.sweep()
    assert [debt.effect_key for debt in run.obligations] == [newer]
    stage.tape.resolve(debt.obligation_key, "confirmed", reason="undone by hand", actor="a person")
    assert (run.status, run.reason) == (R.COMPENSATING, "")
    assert owed(stage, run).effect_key == older
    stage.compensate(owed(stage, run).obligation_key, DONE)
    assert run.status is R.COMPENSATED


def test_where_there_is_no_inverse_the_walk_stops_and_says_so(stage: Stage) -> None:
    confirmed(stage, "order", 2)
    stage.connector.can_compensate = False
    run = stage.tape.compensate_run("order", **BY)
    stage.tape.compensate(owed(stage, run).obligation_key)
    assert run.status is R.STUCK
    assert "no inverse exists" in run.reason
    assert len(run.obligations) == 1


def test_a_stuck_effect_stops_the_run_until_a_person_resolves_it(stage: Stage) -> None:
    confirmed(stage, "order")
    stuck = stage.record(run_id="order")
    stage.dispatch(stuck, LOST)
    stage.connector.can_observe = False
    stage.tape.observe(stuck)
    run = stage.tape.compensate_run("order", **BY)
    assert run.status is R.STUCK
    assert stuck in run.reason
    assert run.obligations == []
    stage.tape.resolve(stuck, "confirmed", reason="seen in the books", actor="a person", external_ref="b-7")
    assert owed(stage, run).external_ref == "b-7"


def test_an_obligation_that_is_there_already_counts_and_nothing_is_undone_twice(stage: Stage) -> None:
    older, newer = confirmed(stage, "order", 2)
    before = stage.tape.owe(newer, reason="a return", actor="a person")
    run = stage.tape.compensate_run("order", **BY)
    assert [debt.obligation_key for debt in run.obligations] == [before.obligation_key]
    stage.compensate(before.obligation_key, DONE)
    assert owed(stage, run).effect_key == older
    with pytest.raises(NotAllowed):
        stage.tape.owe(older, reason="again", actor="a person")
    stage.compensate(owed(stage, run).obligation_key, DONE)
    for _ in range(3):
        stage.tape.compensate_run("order", **BY)
        stage.tape.sweep()
    assert run.status is R.COMPENSATED
    assert len(run.obligations) == len(stage.connector.compensated) == 2


def test_the_extra_records_of_a_duplicate_are_paid_by_themselves(stage: Stage) -> None:
    (older,) = confirmed(stage, "order")
    twice = stage.record(run_id="order")
    stage.dispatch(twice, LOST)
    stage.observe(twice, obs("duplicate", "stays", duplicates=["extra"]))
    run = stage.tape.compensate_run("order", **BY)
    assert {debt.external_ref: debt.kind for debt in run.obligations} == {"extra": "duplicate", "stays": "run"}
    by_ref = {debt.external_ref: debt.obligation_key for debt in run.obligations}
    stage.compensate(by_ref["stays"], DONE)
    assert {debt.effect_key for debt in run.obligations} == {twice, older}
    stage.compensate(by_ref["extra"], DONE)
    stage.compensate(owed(stage, run).obligation_key, DONE)
    assert run.status is R.COMPENSATED


def test_what_changes_nothing_owes_nothing(stage: Stage) -> None:
    confirmed(stage, "order", semantics="observe_only")
    run = stage.tape.compensate_run("order", **BY)
    assert (run.status, run.obligations) == (R.COMPENSATED, [])


def test_an_effect_that_another_run_was_given_too_is_not_reversed(stage: Stage) -> None:
    """The other run relies on it: its obligation is born STUCK, and a person decides."""
    (key,) = confirmed(stage, "order", business_key="the-wire")
    assert stage.record(run_id="order", business_key="the-wire") == key
    assert not stage.get(key).shared
    assert stage.record(run_id="another", business_key="the-wire") == key
    assert stage.record(run_id="another", business_key="the-wire") == key
    assert stage.get(key).shared
    assert stage.kinds(key).count("shared") == 1
    assert stage.last(key).evidence["run_id"] == "another"
    run = stage.tape.compensate_run("order", **BY)
    (debt,) = run.obligations
    assert (debt.status, debt.reason) == (ObligationStatus.STUCK, "shared")
    assert run.status is R.STUCK
    assert stage.connector.compensated == []
    stage.tape.resolve(debt.obligation_key, "failed", reason="undo it all the same", actor="a person")
    stage.compensate(debt.obligation_key, DONE)
    assert run.status is R.COMPENSATED


def test_a_cancelled_run_keeps_what_landed_and_sends_nothing_more(stage: Stage) -> None:
    (landed,) = confirmed(stage, "order")
    pending, unknown = stage.record(run_id="order"), stage.record(run_id="order")
    stage.dispatch(unknown, LOST)
    run = stage.tape.cancel_run("order", **BY)
    assert run.status is R.CANCELLING
    assert stage.get(pending).status is EffectStatus.CANCELLED
    stage.observe(unknown, obs("confirmed", "ref-2"))
    assert (run.status, run.obligations) == (R.CANCELLED, [])
    assert stage.get(landed).status is stage.get(unknown).status is EffectStatus.CONFIRMED
    with pytest.raises(RunClosed):
        stage.record(run_id="order")


def test_a_cancelled_run_may_still_be_compensated_but_not_the_other_way(stage: Stage) -> None:
    (key,) = confirmed(stage, "order")
    run = stage.tape.run("order").cancel(**BY)
    assert run.status is R.CANCELLED
    run.compensate(reason="it has to go after all", actor="a person")
    assert owed(stage, run).effect_key == key
    with pytest.raises(NotAllowed, match="COMPENSATING"):
        run.cancel(**BY)
    assert run.status is R.COMPENSATING


def test_nothing_is_recorded_into_a_closed_run(stage: Stage) -> None:
    confirmed(stage, "order")
    stage.tape.compensate_run("order", **BY)
    with pytest.raises(RunClosed, match="'order' is COMPENSATING"):
        stage.record(run_id="order")
    with pytest.raises(RunClosed), stage.tape.run("order"):
        raise AssertionError("not entered")
    assert len(stage.tape.run("order").effects) == 1


def test_a_run_that_nothing_is_in_is_not_closed_by_a_slip_of_the_pen(stage: Stage) -> None:
    for act in (stage.tape.compensate_run, stage.tape.cancel_run):
        with pytest.raises(NoSuchRun, match="'ordr'"):
            act("ordr", **BY)
    assert stage.tape.run("ordr").status is R.OPEN


def test_evidence_after_the_end_stops_the_run_again_and_is_undone(stage: Stage) -> None:
    """An absence was believed, the run is over, and then the upstream does show a record."""
    key = stage.record(run_id="order")
    stage.dispatch(key, LOST)
    run = stage.tape.compensate_run("order", **BY)
    stage.move_time(61)
    stage.observe(key, obs("absent"))
    assert stage.get(key).status is EffectStatus.FAILED
    assert run.status is R.COMPENSATED
    stage.move_time(3601)
    stage.observe(key, obs("confirmed", "ref-late"))
    assert (run.status, stage.get(key).status) == (R.STUCK, "STUCK")
    assert key in run.reason
    stage.tape.resolve(key, "confirmed", reason="it is there", actor="a person", external_ref="ref-late")
    stage.compensate(owed(stage, run).obligation_key, DONE)
    assert run.status is R.COMPENSATED


def test_the_sweep_walks_a_run_whose_walker_died_after_it_was_closed(stage: Stage) -> None:
    older, newer = confirmed(stage, "order", 2)
    pending = stage.record(run_id="order")
    runs.close(stage.tape.database, "order", R.COMPENSATING, **BY)
    assert stage.get(pending).status is EffectStatus.PENDING
    assert stage.tape.dispatch(pending)[pending] != "confirmed"
    assert stage.tape.sweep().runs == 1
    run = stage.tape.run("order")
    for key in (newer, older):
        debt = owed(stage, run)
        assert debt.effect_key == key
        # As a worker that dies before it looks at the run: the obligation is paid, and nobody goes on.
        stage.connector.inverses.append(DONE)
        stage.tape.engine.compensate([debt.obligation_key])
        assert run.status is R.COMPENSATING
        stage.tape.sweep()
    assert run.status is R.COMPENSATED
    assert stage.get(pending).status is EffectStatus.CANCELLED


def test_a_run_that_waits_for_nobody_is_looked_at_again_all_the_same(stage: Stage) -> None:
    """Should every message and every wish to go on be lost, its own time to be swept is left."""
    confirmed(stage, "order")
    run = stage.tape.compensate_run("order", **BY)
    assert (run.record.sweep_at_ms or 0) - run.record.updated_at_ms == 30_000
    assert stage.tape.overdue() == []
    stage.move_time(3600)
    assert "no run is overdue" in {violation.invariant for violation in stage.tape.overdue()}
    stage.tape.sweep()
    assert "no run is overdue" not in {violation.invariant for violation in stage.tape.overdue()}


def test_many_effects_are_cancelled_in_chunks(stage: Stage) -> None:
    asked = [stage.record(run_id="order") for _ in range(7)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "CHUNK", 3)
        run = stage.tape.compensate_run("order", **BY)
    assert run.status is R.COMPENSATED
    assert {stage.get(key).status for key in asked} == {EffectStatus.CANCELLED}
    assert len(run.effects) == 7


def test_the_audit_finds_an_effect_that_was_undone_out_of_turn(ready_sqlite_url: str) -> None:
    """An obligation of the run that was registered while a newer confirmed effect was not undone."""
    stage = Stage(ready_sqlite_url)
    older, newer = confirmed(stage, "order", 2)
    stage.tape.compensate_run("order", **BY)
    assert stage.tape.audit() == []
    statements = (
        f"UPDATE tape_effects SET created_at_ms = created_at_ms - 9000 WHERE effect_key = '{newer}'",
        "UPDATE tape_effects SET ended_at_ms = created_at_ms",
    )
    with stage.tape.database._engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    (found,) = stage.tape.audit()
    assert (found.invariant, found.detail) == ("a run is undone newest first, one after another", older)
    stage.close()
