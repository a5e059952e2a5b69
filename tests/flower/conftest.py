"""A shop for the tests of one module, and the processes of that module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tape_celery.testing import kept_registry
from tests.flower.shop import Shop
from tests.servers import ForkServer, Processes


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[Shop]:
    """A shop with an empty SQLite store."""
    directory = tmp_path_factory.mktemp("shop")
    shutil.copy2(migrated_sqlite, directory / "tape.db")
    with kept_registry():
        made = Shop(directory, f"sqlite:///{directory / 'tape.db'}")
        yield made
        made.tape.database.close()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, forkserver: ForkServer) -> Iterator[Processes]:
    """Starts processes, which end with the module."""
    processes = Processes(tmp_path_factory.mktemp("processes"), forkserver)
    yield processes
    processes.close()
