from collections.abc import Iterator

import pytest

from tests.state.stage import Stage


@pytest.fixture
def stage(sqlite_url: str) -> Iterator[Stage]:
    """A Tape over an empty SQLite store, with one scripted connector."""
    made = Stage(sqlite_url)
    yield made
    assert made.tape.audit() == []
    made.close()
