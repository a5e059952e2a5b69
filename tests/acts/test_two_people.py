"""What one person may not do alone is proposed by one and confirmed by another; it is done once, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from tape_celery import intent
from tape_celery.errors import (
    InvalidIntent,
    NeedsSecondPerson,
    NoSuchEffect,
    NoSuchProposal,
    NoSuchRun,
    NotAllowed,
    StaleView,
    TapeError,
)
from tape_celery.records import EffectStatus, ObligationStatus, Proposal, ProposalStatus, RunStatus
from tape_celery.schema import proposals as table
from tape_celery.store import intents, proposals
from tests.acts.conftest import ALICE, BOB, confirmed, failed, look_in_vain, unknown
from tests.invariants import broken_invariants
from tests.servers import Processes, TcpProxy
from tests.state.stage import Stage, obs
from tests.store.steps import COMMIT, an_intent, together

S = EffectStatus
ALIKE = intent.digest_of("alike")


def held(stage: Stage) -> str:
    """The second of two that look alike."""
    key = ""
    for _ in range(2):
        alike = an_intent({"amount": 1}, connector="scripted", similar_digest=ALIKE, hold_within_ms=60_000)
        key = intents.record(stage.tape.database, alike, actor="app", hint_ms=0).effect.effect_key
    assert stage.get(key).status is S.HELD
    return key


ACTS: dict[str, tuple[Callable[[Stage], str], dict[str, Any], str]] = {
    "confirmed": (unknown, {"act": "resolve", "verdict": "confirmed", "external_ref": "w-7"}, "CONFIRMED"),
    "failed": (unknown, {"act": "resolve", "verdict": "failed"}, "FAILED"),
    "reissue": (failed, {"act": "reissue"}, "FAILED"),
    "owe": (confirmed, {"act": "owe"}, "CONFIRMED"),
    "release": (held, {"act": "release"}, "PENDING"),
}


def alone(stage: Stage, key: str, act: str, **arguments: Any) -> Any:
    return getattr(stage.tape, act)(key, **arguments, **ALICE)


@pytest.mark.parametrize("name", ACTS)
def test_nobody_does_it_alone_and_two_do_it(stage: Stage, name: str) -> None:
    """Alone nothing happens. What one proposed another one confirms, and the journal has both."""
    make, asked, status = ACTS[name]
    key = make(stage)
    before, entries = stage.get(key), stage.tape.journal(key)
    with pytest.raises(NeedsSecondPerson, match="its amount is above 0"):
        alone(stage, key, **asked)
    proposal = stage.tape.propose(key=key, **asked, **ALICE)
    assert (stage.get(key), stage.tape.journal(key)) == (before, entries)
    assert stage.tape.proposals() == stage.tape.proposals(key) == [proposal]
    assert (proposal.subject_key, proposal.act, proposal.actor) == (key, asked["act"], "alice")
    assert (proposal.reason, proposal.seen_version) == ("seen at the bank", before.version)
    done = stage.tape.confirm(proposal.proposal_key, actor=BOB)
    after = stage.get(key)
    assert (after.status, after.version) == (status, before.version + 1)
    last = stage.last(key)
    assert last.actor == "bob"
    assert last.evidence["proposed_by"] == "alice"
    assert last.evidence["proposal"] == proposal.proposal_key
    assert (last.evidence["reason"], last.evidence["seen_version"]) == ("seen at the bank", before.version)
    if name == "confirmed":
        assert (done, after.external_ref) == (after, "w-7")
    elif name == "reissue":
        assert done.id == after.reissued_as
    elif name == "owe":
        assert done.status is ObligationStatus.PENDING
    assert stage.tape.proposals() == []
    with pytest.raises(NotAllowed, match=r"CONFIRMED: to confirm it is not allowed \(by bob\)"):
        stage.tape.confirm(proposal.proposal_key, actor="carol")
    assert len(stage.tape.journal(key)) == len(entries) + 1


def test_looking_again_and_stopping_need_nobody_else(stage: Stage) -> None:
    """Neither can do harm: the one asks, and the other calls nothing."""
    key = unknown(stage)
    assert stage.tape.resolve(key, "observe", **ALICE).status is S.UNKNOWN
    assert stage.tape.cancel(key, **ALICE).cancel_requested
    stage.record(run_id="order")
    assert stage.tape.cancel_run("order", **ALICE).status is RunStatus.CANCELLED


def test_what_is_not_above_one_person_does(url: str) -> None:
    """And may propose all the same."""
    stage = Stage(url, settle_seconds=0, second_person_above={"scripted": {"amount": 1}, "*": {}})
    assert stage.tape.resolve(unknown(stage), "failed", **ALICE).status is S.FAILED
    key = unknown(stage)
    proposal = stage.tape.propose("resolve", key, verdict="failed", **ALICE)
    assert stage.tape.confirm(proposal.proposal_key, actor=BOB) == stage.get(key)
    stage.close()


@pytest.mark.parametrize("actor", ["alice", "  ALICE ", "ａlice", "human:Alice"])
def test_the_second_person_is_another_one(stage: Stage, actor: str) -> None:
    """However the name is written; the proposal stays open."""
    key = unknown(stage)
    proposal = stage.tape.propose("resolve", key, verdict="failed", **ALICE)
    with pytest.raises(NeedsSecondPerson, match="somebody else has to confirm it"):
        stage.tape.confirm(proposal.proposal_key, actor=actor)
    assert stage.tape.proposals(key) == [proposal]
    assert stage.get(key).status is S.UNKNOWN


def test_what_has_moved_since_is_not_confirmed(stage: Stage) -> None:
    """It shows the row as it is; the proposal stays, to be withdrawn."""
    key = unknown(stage)
    proposal = stage.tape.propose("resolve", key, verdict="failed", **ALICE)
    stage.tape.cancel(key, reason="stop", actor="carol")
    before = stage.get(key)
    with pytest.raises(StaleView) as got:
        stage.tape.confirm(proposal.proposal_key, actor=BOB)
    assert (got.value.seen_version, got.value.version) == (proposal.seen_version, before.version)
    assert stage.get(key) == before
    assert stage.tape.proposals(key) == [proposal]


def test_a_look_that_brought_nothing_is_no_move(stage: Stage) -> None:
    """An UNKNOWN is looked at all the time; what a look brings that tells anything is one."""
    key = unknown(stage)
    proposal = stage.tape.propose("resolve", key, verdict="confirmed", **ALICE)
    look_in_vain(stage, key)
    look_in_vain(stage, key)
    assert stage.get(key).version == proposal.seen_version + 4
    assert stage.tape.confirm(proposal.proposal_key, actor=BOB).status is S.CONFIRMED
    other = unknown(stage)
    refused = stage.tape.propose("resolve", other, verdict="confirmed", **ALICE)
    stage.observe(other, obs("confirmed"))
    with pytest.raises(StaleView):
        stage.tape.confirm(refused.proposal_key, actor=BOB)


def test_one_is_open_for_a_row_and_the_same_once_more_is_that_one(stage: Stage) -> None:
    key = unknown(stage)
    proposal = stage.tape.propose("resolve", key, verdict="failed", **ALICE)
    assert stage.tape.propose("resolve", key, verdict="failed", **ALICE) == proposal
    with pytest.raises(NotAllowed, match=f"alice proposed resolve as {proposal.proposal_key}"):
        stage.tape.propose("resolve", key, verdict="confirmed", **ALICE)
    taken_back = stage.tape.withdraw(proposal.proposal_key, actor="carol")
    assert (taken_back.status, taken_back.decided_by) == (ProposalStatus.WITHDRAWN, "carol")
    assert stage.tape.withdraw(proposal.proposal_key, actor="carol") == taken_back
    with pytest.raises(NotAllowed, match="WITHDRAWN"):
        stage.tape.confirm(proposal.proposal_key, actor=BOB)
    with pytest.raises(NotAllowed, match="WITHDRAWN"):
        stage.tape.withdraw(proposal.proposal_key, actor=BOB)
    other = stage.tape.propose("resolve", key, verdict="confirmed", **ALICE)
    assert stage.tape.proposals() == [other]


def test_what_could_not_be_done_cannot_be_proposed(stage: Stage) -> None:
    """By the state of the row as it is, or because it makes no sense; nothing is recorded."""
    key, over = unknown(stage), confirmed(stage)
    with pytest.raises(NotAllowed, match="resolve as failed"):
        stage.tape.propose("resolve", over, verdict="failed", **ALICE)
    with pytest.raises(StaleView):
        stage.tape.propose("resolve", key, verdict="failed", seen_version=1, **ALICE)
    with pytest.raises(NoSuchEffect):
        stage.tape.propose("owe", "nothing", **ALICE)
    with pytest.raises(NoSuchRun):
        stage.tape.propose("compensate_run", "nothing", **ALICE)
    for act, given in (("cancel", {}), ("resolve", {}), ("owe", {"verdict": "failed"}), ("resolve", {"hat": 1})):
        with pytest.raises(InvalidIntent):
            stage.tape.propose(act, key, **given, **ALICE)
    with pytest.raises(NoSuchProposal):
        stage.tape.confirm("nothing", actor=BOB)
    with pytest.raises(NoSuchProposal):
        stage.tape.withdraw("nothing", actor=BOB)
    assert stage.tape.proposals() == []


def test_an_obligation_goes_by_its_effect(stage: Stage) -> None:
    key = confirmed(stage)
    [owed] = [stage.tape.confirm(stage.tape.propose("owe", key, **ALICE).proposal_key, actor=BOB)]
    stage.compensate(owed.obligation_key, RuntimeError("gone"))
    with pytest.raises(NeedsSecondPerson):
        stage.tape.resolve(owed.obligation_key, "failed", **ALICE)
    proposal = stage.tape.propose("resolve", owed.obligation_key, verdict="confirmed", **ALICE)
    assert stage.tape.confirm(proposal.proposal_key, actor=BOB).status is ObligationStatus.COMPENSATED
    assert stage.last(owed.obligation_key).evidence["proposed_by"] == "alice"


def test_a_run_is_compensated_by_two_if_any_effect_in_it_needs_them(stage: Stage) -> None:
    key = confirmed(stage, run_id="order")
    with pytest.raises(NeedsSecondPerson, match=f"{key}: its amount is above 0"):
        stage.tape.compensate_run("order", **ALICE)
    assert stage.tape.run("order").status is RunStatus.OPEN
    proposal = stage.tape.propose("compensate_run", "order", **ALICE)
    run = stage.tape.confirm(proposal.proposal_key, actor=BOB)
    assert (run.status, run.record.actor) == (RunStatus.COMPENSATING, "bob")
    assert run.record.closing_reason == "seen at the bank (proposed by alice, confirmed by bob)"
    assert "proposed by alice, confirmed by bob" in stage.last(key).evidence["reason"]
    assert stage.tape.proposals() == []


def test_each_effect_of_a_run_is_asked_about(ready_sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are; the others are below the limit."""
    monkeypatch.setattr(proposals, "CHUNK", 2)
    stage = Stage(ready_sqlite_url, second_person_above={"scripted": {"amount": 10}})
    for amount in (1, 1, 1, 11, 1):
        for run_id, asked in (("large", amount), ("small", 1)):
            stage.tape.effect.delay("scripted", {"amount": asked}, business_key=intent.new_key(), run_id=run_id)
    with pytest.raises(NeedsSecondPerson, match="its amount is above 10"):
        stage.tape.compensate_run("large", **ALICE)
    assert stage.tape.compensate_run("small", **ALICE).status is not RunStatus.OPEN
    stage.close()


def test_a_name_that_does_not_fit_is_refused(stage: Stage) -> None:
    """And not cut: two names could be the same from there on."""
    key = unknown(stage)
    with pytest.raises(InvalidIntent, match="actor is too long"):
        stage.tape.propose("resolve", key, verdict="failed", reason="why", actor="a" * 201)
    proposal = stage.tape.propose("resolve", key, verdict="failed", reason="why", actor="a" * 200)
    with pytest.raises(InvalidIntent, match="actor is too long"):
        stage.tape.confirm(proposal.proposal_key, actor="b" * 201)
    assert stage.tape.confirm(proposal.proposal_key, actor="é" * 200).status is S.FAILED


def test_an_exception_out_of_the_block_of_a_run_needs_nobody(stage: Stage) -> None:
    """It is the app that compensates it then, and no person."""

    def fail_in_it() -> None:
        with stage.tape.run("order"):
            confirmed(stage)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail_in_it()
    assert stage.tape.run("order").status is RunStatus.COMPENSATING


def test_of_many_at_once_one_confirms(stage: Stage) -> None:
    """Real threads, each with a connection of its own; one of them may withdraw it too. It is done once, or not."""
    for _ in range(4):
        key = failed(stage)
        proposal = stage.tape.propose("reissue", key, **ALICE)
        outcomes = at_once(
            *[partial(stage.tape.confirm, proposal.proposal_key, actor=f"person-{n}") for n in range(3)],
            partial(stage.tape.withdraw, proposal.proposal_key, actor="carol"),
        )
        done = [one for one in outcomes if not isinstance(one, Exception)]
        assert len(done) == 1, outcomes
        assert all(isinstance(one, NotAllowed) for one in outcomes if isinstance(one, Exception)), outcomes
        ended = row_of(stage, proposal)
        assert bool(stage.get(key).reissued_as) == (ended["status"] == "CONFIRMED")
        assert stage.kinds(key).count("reissued") == (ended["status"] == "CONFIRMED")
        if ended["status"] == "CONFIRMED":
            assert stage.last(key).actor == ended["decided_by"]


CONFIRM = """
from celery import Celery
from tape_celery import Tape
tape = Tape(Celery("shop", broker="memory://"), store_url={url!r})
print(tape.confirm({key!r}, actor="bob").status)
"""


def test_killed_while_it_is_confirmed_nothing_has_happened(stage: Stage, url: str, processes: Processes) -> None:
    """A process that dies with the act and the end of the proposal written has committed neither."""
    key = unknown(stage)
    before = stage.get(key)
    proposal = stage.tape.propose("resolve", key, verdict="confirmed", **ALICE)
    code = CONFIRM.format(url=url, key=proposal.proposal_key)
    killed = processes.python("-c", code, env={"TAPE_FAILPOINTS": "proposal.confirmed=kill9"}, forked=True)
    assert killed.wait() != 0
    assert stage.get(key) == before
    assert stage.tape.proposals(key) == [proposal]
    again = processes.python("-c", code, forked=True)
    assert again.wait() == 0, again.text()
    assert "CONFIRMED" in again.text()
    assert row_of(stage, proposal)["status"] == "CONFIRMED"


@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "never arrived"])
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_lost_answer_to_commit_is_no_second_act(request: pytest.FixtureRequest, kind: str, arrived: bool) -> None:
    """Whether the COMMIT was executed or not: proposed once, done once, withdrawn once, a run closed once."""
    server = request.getfixturevalue(kind)
    url = request.getfixturevalue({"postgres": "ready_postgresql_url", "mariadb": "ready_mariadb_url"}[kind])
    with TcpProxy(server.host, server.port) as proxy:
        stage = Stage(proxy.url(url), settle_seconds=0, second_person_above="scripted")
        lose = proxy.cut_after if arrived else proxy.cut_before
        key, other = failed(stage), unknown(stage)
        confirmed(stage, run_id="order")

        cut = lose(COMMIT)
        proposal = stage.tape.propose("reissue", key, **ALICE)
        assert stage.tape.proposals() == [proposal]
        assert cut.happened == 1
        cut = lose(COMMIT)
        handle = stage.tape.confirm(proposal.proposal_key, actor=BOB)
        assert cut.happened == 1
        assert stage.get(key).reissued_as == handle.id
        assert stage.kinds(key).count("reissued") == 1
        assert row_of(stage, proposal)["decided_by"] == "bob"

        proposal = stage.tape.propose("resolve", other, verdict="failed", **ALICE)
        cut = lose(COMMIT)
        assert stage.tape.withdraw(proposal.proposal_key, actor=BOB).status is ProposalStatus.WITHDRAWN
        assert cut.happened == 1

        proposal = stage.tape.propose("compensate_run", "order", **ALICE)
        cut = lose(COMMIT)
        assert stage.tape.confirm(proposal.proposal_key, actor=BOB).status is RunStatus.COMPENSATING
        assert cut.happened == 1
        assert row_of(stage, proposal)["status"] == "CONFIRMED"
        assert broken_invariants(stage.tape.database) == []
        stage.close()


def test_what_was_pruned_leaves_no_proposal(stage: Stage) -> None:
    key = failed(stage)
    stage.tape.propose("reissue", key, **ALICE)
    kept = stage.tape.propose("resolve", unknown(stage), verdict="failed", **ALICE)
    stage.move_time(3 * 86_400)
    assert stage.tape.prune(2).effects == 1
    assert stage.tape.proposals() == [kept]


def test_an_open_proposal_is_no_lock(stage: Stage) -> None:
    """Where the limit is another by now, one person may do it alone; then there is nothing left to confirm."""
    key = failed(stage)
    proposal = stage.tape.propose("reissue", key, **ALICE)
    settings = stage.tape.settings
    stage.tape._settings = replace(settings, second_person_above={})
    stage.tape.reissue(key, reason="again", actor="carol")
    stage.tape._settings = settings
    with pytest.raises(StaleView):
        stage.tape.confirm(proposal.proposal_key, actor=BOB)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """What each returns or raises, all let go at the same moment, each on a thread of its own."""

    def outcome(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except TapeError as error:
            return error

    return together([partial(outcome, work) for work in works])


def row_of(stage: Stage, proposal: Proposal) -> Any:
    statement = select(table).where(table.c.proposal_key == proposal.proposal_key)
    return stage.tape.database.read(lambda connection: connection.execute(statement).mappings().one())
