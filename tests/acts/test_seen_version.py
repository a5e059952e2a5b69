"""Whoever decides on a row says which version of it they saw; where it is another by now, nothing is done."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tape_celery.acting import VERDICTS
from tape_celery.errors import AlreadyReissued, InvalidIntent, StaleView
from tape_celery.records import EffectStatus, ObligationStatus, RunStatus
from tests.acts.conftest import ALICE, confirmed, failed, look_in_vain, unknown
from tests.invariants import broken_invariants
from tests.state.conftest import assert_replays
from tests.state.stage import Stage
from tests.store.steps import before_statement


@pytest.fixture
def stage(url: str) -> Iterator[Stage]:
    """Here one person may do everything alone."""
    made = Stage(url, settle_seconds=0)
    yield made
    assert broken_invariants(made.tape.database) == []
    for effect in made.tape.effects(limit=1000):
        assert_replays(made, effect)
    made.close()


Act = Callable[[Stage, str, int], Any]
ACTS: dict[str, tuple[Callable[[Stage], str], Act]] = {
    "confirmed": (unknown, lambda s, key, seen: s.tape.resolve(key, "confirmed", seen_version=seen, **ALICE)),
    "failed": (unknown, lambda s, key, seen: s.tape.resolve(key, "failed", seen_version=seen, **ALICE)),
    "observe": (unknown, lambda s, key, seen: s.tape.resolve(key, "observe", seen_version=seen, **ALICE)),
    "cancel": (lambda s: s.record(), lambda s, key, seen: s.tape.cancel(key, seen_version=seen, **ALICE)),
    "reissue": (failed, lambda s, key, seen: s.tape.reissue(key, seen_version=seen, **ALICE)),
    "owe": (confirmed, lambda s, key, seen: s.tape.owe(key, seen_version=seen, **ALICE)),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_act_on_what_was_seen_is_done_and_says_so(stage: Stage, name: str) -> None:
    """The journal has the version that was looked at."""
    make, act = ACTS[name]
    key = make(stage)
    seen = stage.get(key).version
    act(stage, key, seen)
    assert stage.get(key).version == seen + 1
    assert stage.last(key).evidence["seen_version"] == seen
    assert stage.last(key).actor == "alice"


@pytest.mark.parametrize("name", ACTS)
def test_an_act_on_what_is_not_so_any_more_does_nothing(stage: Stage, name: str) -> None:
    """The error shows the row as it is, and both versions; an act that asks for none is not refused."""
    make, act = ACTS[name]
    key = make(stage)
    before = stage.get(key)
    entries = len(stage.tape.journal(key))
    with pytest.raises(
        StaleView, match=f"decided on version {before.version - 1}, and it is at {before.version}"
    ) as got:
        act(stage, key, before.version - 1)
    assert (got.value.key, got.value.status) == (key, before.status)
    assert (got.value.seen_version, got.value.version) == (before.version - 1, before.version)
    assert str(pickle.loads(pickle.dumps(got.value))) == str(got.value)
    assert stage.get(key) == before
    assert len(stage.tape.journal(key)) == entries
    act(stage, key, None)  # type: ignore[arg-type]
    assert stage.last(key).evidence["seen_version"] is None


def test_what_moves_while_the_act_is_written_is_noticed(stage: Stage) -> None:
    """It is asked of the row in the transaction, not before it: another person was faster by a hair."""
    key = unknown(stage)
    seen = stage.get(key).version
    other = lambda: stage.tape.resolve(key, "confirmed", reason="it landed", actor="carol")  # noqa: E731
    if stage.tape.database.url.get_backend_name() == "sqlite":
        other()  # there nobody comes in between
        with pytest.raises(StaleView):
            stage.tape.resolve(key, "failed", seen_version=seen, **ALICE)
    else:
        with before_statement(stage.tape.database, "UPDATE tape_effects", other), pytest.raises(StaleView):
            stage.tape.resolve(key, "failed", seen_version=seen, **ALICE)
    assert stage.get(key).status is EffectStatus.CONFIRMED
    assert stage.last(key).actor == "carol"


def test_a_look_in_between_is_a_move(stage: Stage) -> None:
    key = unknown(stage)
    seen = stage.get(key).version
    look_in_vain(stage, key)
    with pytest.raises(StaleView):
        stage.tape.resolve(key, "failed", seen_version=seen, **ALICE)


def test_who_loses_a_reissue_is_told_of_the_successor(stage: Stage) -> None:
    """That says more than that the row has moved."""
    key = failed(stage)
    seen = stage.get(key).version
    successor = stage.tape.reissue(key, seen_version=seen, **ALICE)
    with pytest.raises(AlreadyReissued, match=successor.id):
        stage.tape.reissue(key, seen_version=seen, **ALICE)


def test_an_obligation_and_a_run_have_versions_too(stage: Stage) -> None:
    key = confirmed(stage, run_id="order")
    run = stage.tape.run("order")
    with pytest.raises(StaleView, match="run order is OPEN: to compensate it is not allowed"):
        stage.tape.compensate_run("order", seen_version=7, **ALICE)
    for cancel in (run.cancel, partial(stage.tape.cancel_run, "order")):
        with pytest.raises(StaleView, match="to cancel it"):
            cancel(seen_version=7, **ALICE)
    with pytest.raises(StaleView):
        run.compensate(seen_version=7, **ALICE)
    assert run.status is RunStatus.OPEN
    stage.tape.compensate_run("order", seen_version=run.record.version, **ALICE)
    assert run.status is RunStatus.COMPENSATING
    [owed] = stage.tape.obligations(effect_key=key)
    stage.compensate(owed.obligation_key, RuntimeError("gone"))
    [owed] = stage.tape.obligations(effect_key=key)
    assert owed.status is ObligationStatus.UNKNOWN
    with pytest.raises(StaleView) as got:
        stage.tape.resolve(owed.obligation_key, "confirmed", seen_version=owed.version + 1, **ALICE)
    assert (got.value.key, got.value.version) == (owed.obligation_key, owed.version)
    settled = stage.tape.resolve(owed.obligation_key, "confirmed", seen_version=owed.version, **ALICE)
    assert settled.status is ObligationStatus.COMPENSATED
    assert stage.last(owed.obligation_key).evidence["seen_version"] == owed.version


def test_a_persons_reason_has_ten_characters_and_what_code_does_any(ready_sqlite_url: str) -> None:
    """Blanks around it aside; a person is ``human:`` here. By `tape_reason_min_characters` it is another number."""
    stage = Stage(ready_sqlite_url)
    key = unknown(stage)
    for short in ("ok", "  short one "):
        for act in (partial(stage.tape.resolve, key, "failed"), partial(stage.tape.owe, key),
                    partial(stage.tape.propose, "release", key), partial(stage.tape.compensate_run, key),
                    partial(stage.tape.pause, "scripted"), partial(stage.tape.cancel, key)):  # fmt: skip
            with pytest.raises(InvalidIntent, match="reason must be 10 characters or more"):
                act(reason=short, actor=" human:alice")
    with pytest.raises(InvalidIntent, match="seen_version must be"):
        stage.tape.resolve(key, "failed", reason="long enough", actor="human:alice", seen_version="3")  # type: ignore[arg-type]
    seen = stage.get(key).version
    decided = stage.tape.resolve(key, "observe", reason="long enough", actor="human:alice", seen_version=seen)
    assert decided.status is EffectStatus.UNKNOWN
    with pytest.raises(InvalidIntent, match="reason must say who or why"):
        stage.tape.resolve(key, "failed", reason=" ", actor="app")
    assert stage.tape.resolve(key, "failed", reason="ok", actor="app").status is EffectStatus.FAILED
    waiting = stage.tape.effect.delay("scripted", {}, business_key="waiting")
    waiting.revoke()  # Celery's own way gives no reason, and is no person
    assert waiting.status is EffectStatus.CANCELLED
    stage.close()
    short = Stage(ready_sqlite_url, reason_min_characters=2)
    other = short.tape.effect.delay("scripted", {}, business_key="other").id
    cancelled = short.tape.cancel(other, reason="ok", actor="human:alice", seen_version=1)
    assert cancelled.status is EffectStatus.CANCELLED
    short.close()


def test_a_person_says_which_version_they_looked_at_and_code_need_not(ready_sqlite_url: str) -> None:
    """Of every act on a row or a run, proposed or done; without it nothing is, and the error says where it stands."""
    stage = Stage(ready_sqlite_url, settle_seconds=0)
    tape, key = stage.tape, unknown(stage, run_id="order")
    before, entries = stage.get(key), len(tape.journal(key))
    person = {"reason": "seen at the bank", "actor": "human:alice"}
    rows = [partial(tape.resolve, key, verdict) for verdict in VERDICTS]
    rows += [partial(act, key) for act in (tape.cancel, tape.release, tape.reissue, tape.owe)]
    rows += [tape.handle(key).cancel, partial(tape.propose, "resolve", key, verdict="failed")]
    runs = [partial(tape.compensate_run, "order"), partial(tape.cancel_run, "order"), tape.run("order").compensate]
    runs += [tape.run("order").cancel, partial(tape.propose, "compensate_run", "order")]
    for acts, where in ((rows, "tape show KEY"), (runs, "tape run RUN")):
        for act in acts:
            with pytest.raises(InvalidIntent, match=f"seen_version is missing: human:alice .*{where}"):
                act(**person)
            with pytest.raises(InvalidIntent, match="seen_version is missing"):
                act(**person | {"actor": " Human:alice"})
    assert (stage.get(key), len(tape.journal(key)), tape.proposals()) == (before, entries, [])
    assert tape.run("order").status is RunStatus.OPEN
    # What stops everything at once takes none, and neither does code.
    assert tape.pause("scripted", **person).actor == "human:alice"
    tape.resume("scripted", **person)
    assert tape.limit("scripted", at_once=1, **person).said("limit").actor == "human:alice"
    assert tape.breaker("scripted", **person).said("breaker").actor == "human:alice"
    assert tape.resolve(key, "observe", reason="look", actor="app").looks == 0
    # A proposal of code carries the version that it found; a person who confirms it decides on that one.
    proposal = tape.propose("resolve", key, verdict="failed", reason="as agreed", actor="app")
    assert tape.confirm(proposal.proposal_key, actor="human:alice").status is EffectStatus.FAILED
    reissued = tape.reissue(key, seen_version=stage.get(key).version, **person)
    assert stage.last(key).actor == "human:alice"
    assert reissued.cancel(seen_version=1, **person).status is EffectStatus.CANCELLED
    tape.cancel_run("order", seen_version=tape.run("order").record.version, **person)
    assert tape.run("order").record.actor == "human:alice"
    for wrong in ("human:", " human:  "):
        with pytest.raises(InvalidIntent, match="actor must name a person after 'human:'"):
            tape.pause("scripted", reason="seen at the bank", actor=wrong)
    with pytest.raises(InvalidIntent, match=r"actor is too long: 'human:aaa.*\(201 characters\), and 200"):
        tape.pause("scripted", reason="seen at the bank", actor="human:" + "a" * 195)
    stage.close()
