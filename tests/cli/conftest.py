"""One Tape with one scripted connector, and its commands in process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from tape_celery import Tape, cli, connectors
from tests.cli.steps import Scripted, seen


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


@pytest.fixture
def act(tape: Tape, run: Callable[..., Result]) -> Callable[..., Result]:
    """Run one command on one row or run, as somebody who has looked at it just now."""

    def invoke(command: str, key: str, *arguments: str) -> Result:
        return run(command, key, *arguments, *seen(tape, key, of_run=command.endswith("-run")))

    return invoke
