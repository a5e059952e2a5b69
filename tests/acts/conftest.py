"""A stage on each database on which one person may not act alone, and the acts that need two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tape_celery.records import EffectStatus
from tape_celery.store import chains
from tests.invariants import broken_invariants
from tests.state.stage import CONFIRMED, FAILED, LOST, Stage, obs

ALICE: dict[str, Any] = {"reason": "seen at the bank", "actor": "alice"}
BOB = "bob"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty store with its schema, once of each kind."""
    return str(request.getfixturevalue(f"ready_{request.param}_url"))


@pytest.fixture
def stage(url: str) -> Iterator[Stage]:
    """Every amount above 0 needs two people. At its end the audits find nothing."""
    made = Stage(url, settle_seconds=0, second_person_above={"scripted": {"amount": 0}})
    yield made
    assert broken_invariants(made.tape.database) == []
    assert [one for batch in chains.batches(made.tape.database) for one in batch.violations] == []
    made.close()


def unknown(stage: Stage, **given: Any) -> str:
    key = stage.record(**given)
    stage.dispatch(key, LOST)
    assert stage.get(key).status is EffectStatus.UNKNOWN
    return key


def failed(stage: Stage) -> str:
    key = stage.record()
    stage.dispatch(key, FAILED)
    return key


def confirmed(stage: Stage, **given: Any) -> str:
    key = stage.record(**given)
    stage.dispatch(key, CONFIRMED)
    return key


def look_in_vain(stage: Stage, key: str) -> None:
    stage.move_time(61)
    stage.observe(key, obs("stuck"))
