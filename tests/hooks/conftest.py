from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.connectors.upstream import Script, Upstream
from tests.invariants import broken_invariants
from tests.state.stage import Stage

MakeStage = Callable[..., Stage]


@pytest.fixture
def make_stage(ready_sqlite_url: str) -> Iterator[MakeStage]:
    """A Tape over an empty SQLite store, with one scripted connector, and settings of its own."""
    made: list[Stage] = []

    def make(**settings: Any) -> Stage:
        made.append(Stage(ready_sqlite_url, **settings))
        return made[-1]

    yield make
    for one in made:
        assert broken_invariants(one.tape.database) == []
        one.close()


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    return make_stage()


@pytest.fixture
def receive() -> Iterator[Callable[..., Upstream]]:
    """Start what webhooks are sent to."""
    with ExitStack() as running:

        def start(script: Script | None = None) -> Upstream:
            return running.enter_context(Upstream(script))

        yield start
