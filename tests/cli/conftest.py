"""One Tape with one scripted connector, and its commands in process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from tape_celery import Tape, cli, connectors
from tests.cli.steps import Scripted


@pytest.fixture
def tape(sqlite_url: str) -> Iterator[Tape]:
    made = Tape(Celery("cli", broker="memory://"), store_url=sqlite_url, settle_seconds=0)
    connectors.register(Scripted())
    yield made
    connectors.clear()
    made.database.close()


@pytest.fixture
def run(tape: Tape) -> Callable[..., Result]:
    """Run one command of the group over this tape, in process."""

    class Context:
        app = tape.app

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli.tape, list(arguments), obj=Context())

    return invoke
