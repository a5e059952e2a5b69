"""An answer that comes when its effect was pruned: there is no row for it any more, so it is told in the log."""

from __future__ import annotations

import pytest

from tape_celery.engine import Outcome
from tape_celery.errors import NoSuchEffect
from tape_celery.store.moves import Move, move
from tape_celery.store.rows import EFFECTS
from tests.state.conftest import stage
from tests.state.stage import CONFIRMED, LOST, Stage, comp, obs
from tests.store.steps import TERMS, answer, count

__all__ = ["stage"]

TABLES = ("tape_effects", "tape_journal", "tape_obligations", "tape_callbacks")


def prune(stage: Stage) -> None:
    """A hundred days later."""
    stage.move_time(100 * 86_400)
    assert stage.tape.prune(90).effects == 1


def given_up(stage: Stage, key: str, verdict: str) -> None:
    """Its worker is believed dead, a person decides, and everybody forgets."""
    stage.lapse()
    stage.tape.resolve(key, verdict, reason="asked the bank", actor="ann")
    prune(stage)


def nothing_came_back(stage: Stage) -> bool:
    """No row was made of what was told."""
    return [count(stage.tape.database, table) for table in TABLES] == [0] * 4


@pytest.mark.parametrize("verdict", ["failed", "confirmed"])
def test_the_answer_of_a_call_is_told_and_changes_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture, verdict: str
) -> None:
    """With what it said: nobody else will ever know. What is left of the effect stays as it was."""
    key = stage.record()
    outcome = stage.dispatch(key, stage.meanwhile(lambda: given_up(stage, key, verdict), CONFIRMED))
    assert outcome is Outcome.NO_SUCH_KEY
    told = [line for line in caplog.messages if key in line and "refused" in line]
    assert len(told) == 1
    assert "confirmed" in told[0]
    assert "'ref-1'" in told[0]
    assert nothing_came_back(stage)
    left = stage.tape.pruned(key)
    assert left is not None
    assert (left.status, left.external_ref) == (verdict.upper(), "")


def test_what_a_look_saw_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """A look may be as late as a call."""
    key = stage.record()
    stage.dispatch(key, LOST)
    seen = obs("duplicate", "ref-1", duplicates=["ref-2"])
    outcome = stage.observe(key, stage.meanwhile(lambda: given_up(stage, key, "failed"), seen))
    assert outcome is Outcome.NO_SUCH_KEY
    assert [line for line in caplog.messages if key in line and "duplicate" in line and "'ref-1'" in line]
    assert nothing_came_back(stage)


def test_the_answer_of_an_inverse_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Its obligation went with the effect."""
    key = stage.record()
    stage.dispatch(key, CONFIRMED)
    owed = stage.tape.owe(key, reason="sent twice", actor="ann").obligation_key
    late = stage.meanwhile(lambda: given_up(stage, owed, "confirmed"), comp("compensated"))
    assert stage.compensate(owed, late) is Outcome.NO_SUCH_KEY
    assert [line for line in caplog.messages if owed in line and "confirmed" in line]
    assert nothing_came_back(stage)


def test_those_of_the_same_chunk_are_sealed_all_the_same(stage: Stage) -> None:
    """One answer without a row takes no other with it."""
    database, claims = stage.tape.database, [stage.claim(stage.record()) for _ in range(2)]
    gone, stays = claims
    given_up(stage, gone.effect_key, "failed")
    batch = [Move(claim.effect_key, answer(claim, external_ref="ref-1"), TERMS) for claim in claims]
    results = move(database, EFFECTS, batch)
    assert isinstance(results[gone.effect_key], NoSuchEffect)
    assert stage.get(stays.effect_key).status == "CONFIRMED"
