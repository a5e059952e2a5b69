"""Django's own connection carries the intent; Django alone begins, commits, rolls back and closes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import django
import pytest
from django.conf import settings
from django.db import connections, transaction

from tape_celery import Tape
from tape_celery.errors import KeyConflict, RepeatedRequest, WrongSession
from tape_celery.store import urls
from tests.transactions.conftest import hinted, pay
from tests.transactions.test_races import execute

MakeTape = Callable[..., Tape]

# At once: pytest-celery asks every object of the process for its class, and settings without a configuration raise.
if not settings.configured:
    settings.configure(DATABASES={}, USE_TZ=True)
    django.setup()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty store that Django can be on."""
    return str(request.getfixturevalue(f"ready_{request.param}_url"))


@pytest.fixture
def tape(url: str, make_tape: MakeTape) -> Tape:
    """A Tape over it."""
    return make_tape(url)


@pytest.fixture
def connection(url: str) -> Iterator[Any]:
    """Django's connection to the same database, under the alias ``shop``."""
    parsed = urls.checked(url)
    kind = {"sqlite": "sqlite3", "postgresql": "postgresql"}[parsed.get_backend_name()]
    connections.databases["shop"] = {
        **connections.databases["default"],
        "ENGINE": f"django.db.backends.{kind}",
        "NAME": parsed.database,
        "USER": parsed.username or "",
        "PASSWORD": parsed.password or "",
        "HOST": parsed.host or "",
        "PORT": parsed.port or "",
    }
    made = connections["shop"]
    with made.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS orders")
        cursor.execute("CREATE TABLE orders (number INTEGER)")
    yield made
    with made.cursor() as cursor:
        cursor.execute("DROP TABLE orders")
    made.close()
    del connections["shop"]
    del connections.databases["shop"]


@contextmanager
def rolled_back() -> Iterator[None]:
    """A block of a transaction, or of a savepoint in one, that ends in a roll-back."""
    with suppress(ZeroDivisionError), transaction.atomic(using="shop"):
        yield
        _ = 1 / 0


def order(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (1)")


def orders(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM orders")
        return int(cursor.fetchone()[0])


def test_a_commit_makes_both_real_and_hints(tape: Tape, connection: Any) -> None:
    for number in range(2):
        with transaction.atomic(using="shop"):
            order(connection)
            key = pay(tape, connection, business_key=f"b-{number}")
            assert tape.get(key) is None
            assert hinted(tape) == []
        assert hinted(tape) == [key]
        assert tape.get(key) is not None
    assert orders(connection) == 2
    assert tape.audit() == []


def test_a_roll_back_takes_both(tape: Tape, connection: Any) -> None:
    with rolled_back():
        order(connection)
        key = pay(tape, connection)
    assert (tape.get(key), orders(connection), hinted(tape)) == (None, 0, [])


def test_an_effect_goes_with_its_savepoint(tape: Tape, connection: Any) -> None:
    with transaction.atomic(using="shop"):
        order(connection)
        with transaction.atomic(using="shop"):
            kept = pay(tape, connection)
        with rolled_back():
            gone = pay(tape, connection)
        assert hinted(tape) == []
    assert hinted(tape) == [kept]
    assert (tape.get(gone), orders(connection)) == (None, 1)


def test_keys_work_inside_and_a_conflict_leaves_the_transaction_usable(tape: Tape, connection: Any) -> None:
    settled = pay(tape, None, business_key="b-1")
    hinted(tape)
    with transaction.atomic(using="shop"):
        order(connection)
        assert pay(tape, connection, business_key="b-1") == settled
        with pytest.raises(KeyConflict):
            pay(tape, connection, business_key="b-1", request={"amount": 2})
        order(connection)
    assert (orders(connection), hinted(tape)) == (2, [])


def test_outside_of_a_transaction_it_is_refused(tape: Tape, connection: Any) -> None:
    with pytest.raises(WrongSession, match="atomic"):
        pay(tape, connection)
    assert tape.effects() == []


def test_another_store_is_refused_and_the_transaction_stays_usable(
    connection: Any, make_tape: MakeTape, tmp_path: Any, ready_mariadb_url: str
) -> None:
    others = [make_tape(f"sqlite:///{tmp_path / 'other.db'}"), make_tape(ready_mariadb_url)]
    with transaction.atomic(using="shop"):
        for other in others:
            order(connection)
            with pytest.raises(WrongSession):
                pay(other, connection)
    assert orders(connection) == 2


def test_what_was_rolled_back_may_be_asked_for_again_in_the_same_execution(tape: Tape, connection: Any) -> None:
    def body() -> str:
        with rolled_back():
            pay(tape, connection)
        with transaction.atomic(using="shop"):
            key = pay(tape, connection)
            with pytest.raises(RepeatedRequest):
                pay(tape, connection)
        with pytest.raises(RepeatedRequest), transaction.atomic(using="shop"):
            pay(tape, connection)
        return key

    key = execute(tape, body)
    assert [effect.effect_key for effect in tape.effects()] == [key] == hinted(tape)


def test_the_connection_stays_djangos(tape: Tape, connection: Any) -> None:
    """What SQLAlchemy does to connections of its own is not done to this one."""
    with transaction.atomic(using="shop"):
        raw = connection.connection
        pay(tape, connection, business_key="b-1")
        assert connection.connection is raw
        order(connection)
    assert connection.connection is raw
    assert orders(connection) == 1
