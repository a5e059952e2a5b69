"""A store, a Tape over it whose hints can be read, and an app's own engine on the same database."""

import itertools
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import Engine, create_engine, event, text

from tape_celery import Tape
from tape_celery.store import urls

_numbers = itertools.count()


@pytest.fixture
def make_tape() -> Iterator[Callable[..., Tape]]:
    """Makes a Tape over a store, with a broker inside this process and queues of its own."""
    made: list[Tape] = []

    def make(url: str, **settings: Any) -> Tape:
        app = Celery(f"transactions-{next(_numbers)}", broker="memory://", set_as_current=False)
        made.append(Tape(app, store_url=url, queue_prefix=f"transactions-{next(_numbers)}.", **settings))
        return made[-1]

    yield make
    for tape in made:
        tape.database.close()


@pytest.fixture
def tape(ready_url: str, make_tape: Callable[..., Tape]) -> Tape:
    """A Tape over an empty store, once on each kind of database."""
    return make_tape(ready_url)


@pytest.fixture
def engine(ready_url: str) -> Iterator[Engine]:
    """The app's own engine, as plain as an app would make it, with a table of the app's own."""
    url = urls.checked(ready_url)
    made = create_engine(url)
    with made.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS orders"))
        connection.execute(text("CREATE TABLE orders (number INTEGER)"))
    yield made
    with made.begin() as connection:
        connection.execute(text("DROP TABLE orders"))
    made.dispose()


@pytest.fixture
def strict_sqlite(ready_sqlite_url: str) -> Iterator[Engine]:
    """An app's engine by SQLAlchemy's own recipe: it emits BEGIN itself."""
    made = create_engine(ready_sqlite_url)

    @event.listens_for(made, "connect")
    def configure(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(made, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    yield made
    made.dispose()


def pay(tape: Tape, session: Any, **keywords: Any) -> str:
    """Make an effect in the transaction of ``session``; returns its key."""
    request = keywords.pop("request", {"amount": 1})
    given = {"allow_unsafe": True, **keywords}
    return str(tape.effect.delay("bank", request, session=session, **given).id)


def hinted(tape: Tape) -> list[str]:
    """The keys of the hints that were published since the last look."""
    found: list[str] = []
    with tape.app.connection_for_read() as connection:
        waiting = connection.SimpleQueue(tape.settings.dispatch_queue)
        while True:
            try:
                message = waiting.get_nowait()
            except Empty:
                return found
            message.ack()
            found += message.payload[0][0]
