"""The model is worth what it finds: with any one of the product's guards taken away, it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy.exc import SQLAlchemyError

from tape_celery.errors import TapeError
from tests.model.arena import Arena
from tests.model.machine import StoreMachine
from tests.model.mutations import MUTATIONS
from tests.model.profiles import STEPS
from tests.model.test_store import walk_every_way

SOME = settings(
    max_examples=40,
    stateful_step_count=STEPS,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),  # that it fails is enough, nobody wants to know how little it takes
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
MANY = settings(SOME, max_examples=1_000)
"""With a guard less the first breach ends the run, after 20 examples or so; never count on that number."""


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    with Arena(f"sqlite:///{tmp_path / 'tape.db'}", still=True) as arena:
        yield arena


def run(arena: Arena, examples: settings) -> None:
    """A part of `test_store`, on SQLite."""
    walk_every_way(arena)
    run_state_machine_as_test(lambda: StoreMachine(arena), settings=examples)


def test_with_all_guards_it_finds_nothing(arena: Arena) -> None:
    run(arena, SOME)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("guard", MUTATIONS)
def test_without_one_guard_it_fails(arena: Arena, guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the contract, the prediction, the audit, or another guard that refuses what should never have come so far."""
    MUTATIONS[guard].install(monkeypatch, arena.database)
    with pytest.raises((AssertionError, SQLAlchemyError, TapeError)) as failure:
        run(arena, MANY)
    print(f"{arena.examples} examples: {failure.typename}: {str(failure.value)[:300]}")
