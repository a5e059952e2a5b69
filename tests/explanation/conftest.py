from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tape_celery import connectors
from tape_celery.connectors.base import DispatchResult
from tests.explanation.ways import WAYS
from tests.invariants import broken_invariants
from tests.state.stage import Stage


class Blind:
    """A connector that can neither look nor undo, and loses every answer."""

    name = "blind"
    can_observe = False
    can_compensate = False

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult("unknown", error={"reason": "read timeout"})


@pytest.fixture
def stage(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Stage]:
    yield from _staged(migrated_sqlite, tmp_path)


@pytest.fixture(scope="module")
def brought(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, dict[str, Any]]]:
    """A stage on which every way was taken, and what each row's explanation said when it got there."""
    for stage in _staged(migrated_sqlite, tmp_path_factory.mktemp("ways")):
        told = {}
        for name, take in WAYS.items():
            told[name] = stage.tape.explain(take(stage))
        yield stage, told


def _staged(template: Path, where: Path) -> Iterator[Stage]:
    path = where / "tape.db"
    shutil.copy2(template, path)
    made = Stage(f"sqlite:///{path}")
    connectors.register(Blind())
    yield made
    assert broken_invariants(made.tape.database) == []
    made.close()
