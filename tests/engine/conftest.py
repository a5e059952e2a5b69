from collections.abc import Iterator

import pytest

from tests.invariants import broken_invariants
from tests.state.stage import Stage


@pytest.fixture
def stage(ready_url: str) -> Iterator[Stage]:
    """A stage on each database; at its end the audit is empty."""
    made = Stage(ready_url)
    yield made
    assert broken_invariants(made.tape.database) == []
    made.close()
