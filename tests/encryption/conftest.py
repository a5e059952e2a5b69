"""Keys, stages whose Tape has some, and other Tapes over the same store."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import text

from tape_celery import Tape
from tape_celery.errors import SettingsError
from tape_celery.store.database import Database
from tests.invariants import broken_invariants
from tests.state.stage import Stage
from tests.stores import TABLES

MakeStage = Callable[..., Stage]
OtherTape = Callable[..., Tape]


def a_key() -> str:
    """A fresh key."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty store with its schema, once of each kind."""
    return str(request.getfixturevalue(f"ready_{request.param}_url"))


@pytest.fixture
def make_stage(url: str) -> Iterator[MakeStage]:
    """Makes the stage of a test, with these keys. At its end the audits find nothing."""
    made: list[Stage] = []

    def make(*keys: str, **settings: object) -> Stage:
        made.append(Stage(url, encryption_keys=keys, settle_seconds=0, **settings))
        return made[-1]

    yield make
    for stage in made:
        assert broken_invariants(stage.tape.database) == []
        stage.close()


@pytest.fixture
def other_tape(url: str) -> Iterator[OtherTape]:
    """Makes another Tape over the same store, with other keys, or none."""
    made: list[Tape] = []

    def make(*keys: str) -> Tape:
        app = Celery(f"other-{len(made)}", broker="memory://", set_as_current=False)
        made.append(Tape(app, store_url=url, encryption_keys=keys, settle_seconds=0))
        return made[-1]

    yield make
    for tape in made:
        with contextlib.suppress(SettingsError):
            tape.database.close()


def all_that_is_stored(database: Database) -> str:
    """Every value of every row; of a file its every byte, and those of its log, too."""
    with database._engine.connect() as connection:
        rows = [repr(connection.execute(text(f"SELECT * FROM {table}")).all()) for table in TABLES]
    if database.is_file:
        file = Path(str(database.url.database))
        rows += [one.read_bytes().decode("latin-1") for one in file.parent.glob(f"{file.name}*")]
    return "\n".join(rows)
