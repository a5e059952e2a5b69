"""Who may act on some connectors alone acts on no run that has effects of others, whenever they got into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tape_celery.errors import InvalidIntent, NeedsSecondPerson, NotAllowed
from tape_celery.flower import acts
from tape_celery.flower.acts import Form
from tape_celery.records import EffectStatus, RunStatus
from tape_celery.tape import Tape
from tests.acts.conftest import ALICE, BOB, unknown
from tests.invariants import broken_invariants
from tests.state.stage import Stage
from tests.store.steps import before_statement

SCOPE = ["script*", "bank.wire"]


@pytest.fixture(params=["postgresql", "mariadb"])
def far_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A stage on each database server, where two transactions can be open at once; 5 and less one person may do."""
    made = Stage(request.getfixturevalue(f"ready_{request.param}_url"), second_person_above={"scripted": {"amount": 5}})
    yield made
    assert broken_invariants(made.tape.database) == []
    made.close()


def other(tape: Tape, run_id: str) -> str:
    """An effect of a connector that is not in `SCOPE`."""
    return str(tape.effect.delay("mail", {"amount": 1}, business_key=f"mail-{run_id}", run_id=run_id).id)


def by_form(act: str) -> Callable[[Tape, str], Any]:
    return lambda tape, run: acts.perform(tape, run, Form(act=act, seen_version=0, within=SCOPE, **ALICE))


def confirmed(tape: Tape, run: str) -> Any:
    (proposal,) = tape.proposals(run)
    return tape.confirm(proposal.proposal_key, actor=BOB, within=SCOPE)


ON_A_RUN: dict[str, Callable[[Tape, str], Any]] = {
    "compensate": lambda tape, run: tape.compensate_run(run, within=SCOPE, **ALICE),
    "cancel": lambda tape, run: tape.run(run).cancel(within=SCOPE, **ALICE),
    "confirm": confirmed,
    "compensate by form": by_form("compensate-run"),
    "cancel by form": by_form("cancel-run"),
}


@pytest.mark.parametrize("act", ON_A_RUN)
def test_an_effect_that_gets_in_between_the_look_and_the_act_is_seen(far_stage: Stage, act: str) -> None:
    """Somebody records it on another connection while the run is being closed: nothing is done to any of it. Without
    it, the same act is done.
    """
    tape = far_stage.tape
    for run, meanwhile in (("order-1", lambda: other(tape, "order-1")), ("order-2", lambda: None)):
        mine = far_stage.record(run_id=run)
        if act == "confirm":
            tape.propose("compensate_run", run, **ALICE)
        with before_statement(tape.database, "INSERT INTO tape_runs", meanwhile) as met:
            if run == "order-2":
                ON_A_RUN[act](tape, run)
                assert tape.run(run).status in (RunStatus.COMPENSATED, RunStatus.CANCELLED)
                assert far_stage.get(mine).status is EffectStatus.CANCELLED
                continue
            with pytest.raises(NotAllowed, match=r"OPEN: to c\w+ it is not allowed \(effects of other connectors than"):
                ON_A_RUN[act](tape, run)
        assert len(met) == 1
        assert tape.run(run).status is RunStatus.OPEN
        assert [effect.status for effect in tape.effects(run_id=run)] == [EffectStatus.PENDING] * 2
        assert len(tape.proposals(run)) == (act == "confirm")


def test_what_takes_two_people_and_gets_in_meanwhile_is_not_undone_by_one(far_stage: Stage) -> None:
    """That one person may do it alone was seen before: it is looked at again, and then it takes two."""
    tape = far_stage.tape
    mine = far_stage.record(run_id="order")
    large = lambda: tape.effect.delay("scripted", {"amount": 6}, business_key="large", run_id="order")  # noqa: E731
    with (
        before_statement(tape.database, "INSERT INTO tape_runs", large) as met,
        pytest.raises(NotAllowed, match="effects were recorded into it meanwhile; look again"),
    ):
        tape.compensate_run("order", **ALICE)
    assert len(met) == 1
    assert (tape.run("order").status, far_stage.get(mine).status) == (RunStatus.OPEN, EffectStatus.PENDING)
    with pytest.raises(NeedsSecondPerson, match="its amount is above 5"):
        tape.compensate_run("order", **ALICE)


def test_a_proposal_on_an_effect_is_held_to_the_same_names(stage: Stage) -> None:
    """Of another connector it is not confirmed, and stays open."""
    key = unknown(stage)
    proposal = stage.tape.propose("resolve", key, verdict="failed", **ALICE)
    with pytest.raises(NotAllowed, match="it is of another connector than mail"):
        stage.tape.confirm(proposal.proposal_key, actor=BOB, within=["mail"])
    assert stage.tape.proposals(key) == [proposal]
    assert stage.tape.confirm(proposal.proposal_key, actor=BOB, within=SCOPE).status is EffectStatus.FAILED


@pytest.mark.parametrize("within", ["bank.*", [1], 7])
def test_what_is_no_list_of_names_is_refused(stage: Stage, within: Any) -> None:
    """The letters of a text are no names: one of them could be the star, which stands for all."""
    stage.record(run_id="order")
    with pytest.raises(InvalidIntent, match="within must be a list"):
        stage.tape.cancel_run("order", within=within, **ALICE)
    assert stage.tape.run("order").status is RunStatus.OPEN
