from collections.abc import Iterator

import pytest

from tape_celery import authored
from tests.state.stage import Stage


@pytest.fixture
def stage(sqlite_url: str) -> Iterator[Stage]:
    """A Tape over an empty SQLite store, of the current app, with one scripted connector."""
    made = Stage(sqlite_url)
    made.tape.app.set_current()
    yield made
    assert made.tape.audit() == []
    made.close()


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    """What a test decorates is forgotten with it."""
    before = dict(authored.by_name)
    yield
    authored.by_name.clear()
    authored.by_name.update(before)
