from collections.abc import Iterator

import pytest

from tests.invariants import broken_invariants
from tests.state.stage import Stage


@pytest.fixture
def stage(ready_sqlite_url: str) -> Iterator[Stage]:
    """A Tape over an empty SQLite store, with one scripted connector."""
    made = Stage(ready_sqlite_url)
    yield made
    assert broken_invariants(made.tape.database) == []
    made.close()
