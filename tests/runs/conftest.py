from collections.abc import Iterator

import pytest

from tests.invariants import broken_invariants
from tests.state.conftest import assert_replays
from tests.state.stage import Stage


@pytest.fixture
def stage(ready_url: str) -> Iterator[Stage]:
    """A stage on each database; at its end the audit is empty and every journal replays to its row."""
    made = Stage(ready_url)
    yield made
    assert broken_invariants(made.tape.database) == []
    for effect in made.tape.effects(limit=1000):
        assert_replays(made, effect)
    made.close()
