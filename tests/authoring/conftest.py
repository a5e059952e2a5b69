from collections.abc import Iterator

import pytest

from tape_celery import authored
from tests.invariants import broken_invariants
from tests.state.stage import Stage


@pytest.fixture
def stage(ready_sqlite_url: str) -> Iterator[Stage]:
    """A Tape over an empty SQLite store, of the current app, with one scripted connector."""
    made = Stage(ready_sqlite_url)
    made.tape.app.set_current()
    yield made
    assert broken_invariants(made.tape.database) == []
    made.close()


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    """What a test decorates is forgotten with it."""
    before = dict(authored.by_name)
    yield
    authored.by_name.clear()
    authored.by_name.update(before)
