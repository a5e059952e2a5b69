"""The pytest plugin: fixtures for the tests of an app. It imports nothing of the library before a test asks for it.

tape_store_url      where the store of one test is; to be overridden with a database of the team's own
tape_store          that URL, with the schema made and nothing in it
tape_settings       settings of `tape`, over the short ones; to be overridden
tape                a Tape of its own, over `tape_store`; to be overridden with the app's own (see `borrowed`)
scripted_connector  a ScriptedConnector named "bank.wire", registered
tape_clock          time that the test moves
drain               drain(...) of `tape`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tape_celery.tape import Tape
    from tape_celery.testing.clock import TapeClock
    from tape_celery.testing.draining import Drained
    from tape_celery.testing.scripted import ScriptedConnector


@pytest.fixture(scope="session")
def tape_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema, made once a session, to be copied."""
    from tape_celery.testing.stores import make_store

    path = tmp_path_factory.mktemp("tape") / "template.db"
    make_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def tape_store_url(tmp_path: Path) -> str:
    """A fresh SQLite file. Override it to name an empty database of your own."""
    return f"sqlite:///{tmp_path / 'tape-store.db'}"


@pytest.fixture
def tape_store(tape_store_url: str, tape_template: Path) -> Iterator[str]:
    """The URL of a store with its schema and nothing in it; what the test puts there is taken out after it."""
    from tape_celery.testing.stores import forget, make_store

    database = make_store(tape_store_url, tape_template)
    database.close()
    yield tape_store_url
    forget(database)


@pytest.fixture
def tape_settings() -> dict[str, Any]:
    """Settings of `tape` that a test suite wants to differ. Override it."""
    return {}


@pytest.fixture
def tape(tape_store: str, tape_settings: dict[str, Any]) -> Iterator[Tape]:
    """A Tape of a Celery app of its own, with a broker in memory and no connectors. `tape_effect` finds it."""
    from celery import Celery
    from celery import _state as celery_state

    from tape_celery.tape import Tape
    from tape_celery.testing.stores import borrowed

    current = celery_state._tls.current_app
    made = Tape(Celery("tape-testing", broker="memory://", set_as_current=False))
    with borrowed(made, tape_store, **tape_settings) as tape:
        yield tape
    celery_state._tls.current_app = current


@pytest.fixture
def tape_clock(tape: Tape) -> TapeClock:
    """The clock of the store: ``tape_clock.advance(hours=1)``, ``tape_clock.tick()``."""
    from tape_celery.testing.clock import TapeClock

    return TapeClock(tape)


@pytest.fixture
def scripted_connector(tape_clock: TapeClock) -> Iterator[ScriptedConnector]:
    """A `ScriptedConnector` named ``bank.wire``, registered, on the store's clock."""
    from tape_celery.connectors import register
    from tape_celery.testing.scripted import ScriptedConnector

    connector = ScriptedConnector("bank.wire", clock=lambda: tape_clock.now_ms)
    register(connector)
    yield connector
    connector.release()


@pytest.fixture
def drain(tape: Tape) -> Callable[..., Drained]:
    """`tape_celery.testing.drain` of the `tape` fixture: ``drain()``, ``drain(advance=True)``."""
    from tape_celery.testing.draining import drain

    return partial(drain, tape)
