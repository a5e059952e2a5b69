"""A unit of work is run again, whole, for a refusal that passes; and a store that cannot be used has a name."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import StoreUnavailable
from tape_celery.store import due
from tape_celery.store.database import TRIES, Database
from tape_celery.store.rows import EFFECTS
from tests.servers import PostgresServer, TcpProxy, until
from tests.store.conftest import Open, url_of
from tests.store.steps import S as Status
from tests.store.steps import (
    an_intent,
    claimed,
    count,
    engine_of,
    kinds,
    record,
    recorded,
    row,
    scalar,
    seal_effect,
    together,
)

BUMP = "UPDATE tape_effects SET unsent = unsent + 1 WHERE effect_key = :key"


class Unit:
    """Raises the `unsent` of effects by one, in the order given, and counts how often it is begun."""

    def __init__(self, *keys: str, first: str = "", between: Callable[[], object] = lambda: None) -> None:
        self.begun = 0
        self.failed: list[str] = []
        self._keys, self._first, self._between = keys, first, between

    def __call__(self, connection: Connection) -> str:
        self.begun += 1
        if self._first:
            connection.execute(text(self._first))
        try:
            for key in self._keys:
                connection.execute(text(BUMP), {"key": key})
                self._between()
        except Exception as error:
            self.failed.append(type(getattr(error, "orig", error)).__name__)
            raise
        return "done"


@contextlib.contextmanager
def holding(postgres: PostgresServer, database: Database, *statements: str) -> Iterator[psycopg.Connection]:
    """A transaction of somebody else that has executed ``statements`` and goes on."""
    with postgres.connect(url_of(database)) as connection, connection.transaction():
        for statement in statements:
            connection.execute(statement)
        yield connection


def bump_by_hand(key: str) -> str:
    return f"UPDATE tape_effects SET unsent = unsent + 1 WHERE effect_key = '{key}'"


# --- refusals that pass ---


def test_a_serialization_failure_is_run_again(postgres_store: Database, postgres: PostgresServer) -> None:
    """From its first statement, in a new transaction, so that it sees what it lost against."""
    key = recorded(postgres_store).effect_key

    def lose_once(connection: Connection) -> int:
        unit.begun += 1
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        seen = connection.execute(text("SELECT unsent FROM tape_effects WHERE effect_key = :key"), {"key": key})
        value = int(seen.scalar_one())
        if unit.begun == 1:
            with postgres.connect(url_of(postgres_store)) as other:
                other.execute(bump_by_hand(key))  # type: ignore[arg-type]
        connection.execute(text(BUMP), {"key": key})
        return value

    unit = Unit()
    assert postgres_store.write(lose_once) == 1
    assert (unit.begun, row(postgres_store, key).unsent) == (2, 2)


def test_a_deadlock_is_run_again(postgres_store: Database, postgres: PostgresServer) -> None:
    """Two transactions lock two rows in opposite order: ours is the victim, and both are done in the end."""
    a, b = (recorded(postgres_store).effect_key for _ in range(2))
    with ThreadPoolExecutor(1, thread_name_prefix="store-test") as executor:
        with holding(postgres, postgres_store, "SET deadlock_timeout = '30s'", bump_by_hand(b)) as other:
            unit = Unit(a, b, first="SET LOCAL deadlock_timeout = '50ms'")
            done = executor.submit(postgres_store.write, unit)
            until(lambda: waiting_for_locks(postgres_store) == 1, what="our wait for the other")
            other.execute(bump_by_hand(a))  # type: ignore[arg-type]
        assert done.result(30) == "done"
    assert unit.failed == ["DeadlockDetected"] * (unit.begun - 1)
    assert unit.begun >= 2
    assert (row(postgres_store, a).unsent, row(postgres_store, b).unsent) == (2, 2)


def test_a_lock_that_is_held_too_long_is_run_again(postgres_store: Database, postgres: PostgresServer) -> None:
    """A lock timeout is no end: the next try gets the row."""
    key = recorded(postgres_store).effect_key
    unit = Unit(key, first="SET LOCAL lock_timeout = '20ms'")
    with ThreadPoolExecutor(1, thread_name_prefix="store-test") as executor:
        with holding(postgres, postgres_store, bump_by_hand(key)):
            done = executor.submit(postgres_store.write, unit)
            until(lambda: unit.failed, what="a lock timeout")
        assert done.result(30) == "done"
    assert set(unit.failed) == {"LockNotAvailable"}
    assert row(postgres_store, key).unsent == 2


def test_a_lock_that_is_never_given_back_is_told(postgres_store: Database, postgres: PostgresServer) -> None:
    """After the last try, by name, with nothing written."""
    key = recorded(postgres_store).effect_key
    unit = Unit(key, first="SET LOCAL lock_timeout = '1ms'")
    with holding(postgres, postgres_store, bump_by_hand(key)), pytest.raises(StoreUnavailable, match="lock timeout"):
        postgres_store.write(unit)
    assert unit.begun == TRIES
    assert row(postgres_store, key).unsent == 1


def test_a_sweep_does_not_wait_for_a_row_that_somebody_holds(
    postgres_store: Database, postgres: PostgresServer
) -> None:
    """It takes the hints of the others, and leaves that one to whoever is at it."""
    held, free = (recorded(postgres_store).effect_key for _ in range(2))
    with holding(postgres, postgres_store, bump_by_hand(held)):
        assert due.mark_relayed(postgres_store, EFFECTS, [held, free], relay_ms=30_000) == [free]


def test_every_session_has_bounds_of_its_own(postgres_store: Database) -> None:
    """Nothing waits for ever for a lock, a statement, or a transaction that somebody left open."""
    for name, seconds in (("lock_timeout", 10), ("statement_timeout", 30), ("idle_in_transaction_session_timeout", 30)):
        assert scalar(postgres_store, f"SHOW {name}") == f"{seconds}s"
    assert scalar(postgres_store, "SHOW transaction_isolation") == "read committed"
    assert scalar(postgres_store, "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()") == (
        "tape_celery"
    )


def test_a_locked_sqlite_file_is_waited_for_and_tried_again(sqlite_store: Database) -> None:
    """Whoever holds it longer than the busy timeout makes a unit run again, not fail."""
    key = recorded(sqlite_store).effect_key
    set_busy_timeout(sqlite_store, 1)
    unit = Unit(key)
    locked = listen_for_errors(sqlite_store)
    other = sqlite3.connect(str(sqlite_store.url.database), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1, thread_name_prefix="store-test") as executor:
        done = executor.submit(sqlite_store.write, unit)
        until(lambda: locked, what="the first refusal")
        other.execute("ROLLBACK")
        assert done.result(30) == "done"
    other.close()
    assert set(locked) == {"database is locked"}
    assert (unit.begun, row(sqlite_store, key).unsent) == (len(locked) + 1, 1)


def test_a_sqlite_file_that_stays_locked_is_told(sqlite_store: Database) -> None:
    """By the name of the error and of the file."""
    set_busy_timeout(sqlite_store, 1)
    other = sqlite3.connect(str(sqlite_store.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"tape\.db.*database is locked"):
        recorded(sqlite_store)
    other.execute("ROLLBACK")
    other.close()
    assert count(sqlite_store) == 0


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_connection_that_is_lost_in_mid_unit_is_replaced(
    far_store: Database, proxy: TcpProxy, server_store: Database, how: str
) -> None:
    """The unit is run again on a new one; what the first try did was rolled back with it."""
    a, b = (recorded(server_store).effect_key for _ in range(2))
    cut = proxy.cut_before(b"UPDATE tape_effects", skip=1, then=how)  # type: ignore[arg-type]
    unit = Unit(a, b)
    assert far_store.write(unit) == "done"
    assert (cut.happened, unit.begun) == (1, 2)
    assert (row(server_store, a).unsent, row(server_store, b).unsent) == (1, 1)


def test_a_backend_that_is_ended_by_its_server_is_replaced(postgres_store: Database, postgres: PostgresServer) -> None:
    """As by an administrator, or a failover."""
    key = recorded(postgres_store).effect_key

    def end_it_once() -> None:
        if unit.begun == 1:
            with postgres.connect(url_of(postgres_store)) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid()"
                )

    unit = Unit(key, key, between=end_it_once)
    assert postgres_store.write(unit) == "done"
    assert (unit.begun, row(postgres_store, key).unsent) == (2, 2)


# --- refusals that last ---


def test_what_a_unit_raises_itself_is_not_run_again(database: Database) -> None:
    """Its own errors come out as they are, and nothing was written."""
    key = recorded(database).effect_key

    def fall_over() -> None:
        raise LookupError("its own")

    unit = Unit(key, between=fall_over)
    with pytest.raises(LookupError, match="its own"):
        database.write(unit)
    assert (unit.begun, row(database, key).unsent) == (1, 0)


def test_a_statement_that_is_wrong_is_told_at_once(database: Database) -> None:
    """It does not get better by waiting."""
    unit = Unit(first="SELECT * FROM nowhere")
    with pytest.raises(StoreUnavailable, match="nowhere"):
        database.write(unit)
    assert unit.begun == 1


def test_a_key_that_is_taken_is_told_as_such(database: Database) -> None:
    """An `IntegrityError` is an answer, not a breakdown."""
    first = recorded(database, business_key="b-1")
    second = recorded(database, business_key="b-2")
    unit = Unit(first=f"UPDATE tape_effects SET held_business_key = 'b-1' WHERE effect_key = '{second.effect_key}'")
    with pytest.raises(IntegrityError):
        database.write(unit)
    assert unit.begun == 1
    assert row(database, first.effect_key) == first


def test_a_pool_that_is_exhausted_has_a_name(database: Database) -> None:
    """Back pressure, not a partial state; a connection that comes back serves the next."""
    engine = engine_of(database)
    engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    held: list[Connection] = []
    with contextlib.suppress(Exception):
        while len(held) < 100:
            held.append(engine.connect())
    assert 10 <= len(held) < 100
    with pytest.raises(StoreUnavailable, match="no free connection"):
        recorded(database)
    for connection in held:
        connection.close()
    assert count(database) == 0
    assert recorded(database).status is Status.PENDING


def test_more_threads_than_connections_wait_for_each_other(database: Database) -> None:
    """64 threads record an effect each, over a pool that has fewer connections."""
    together([lambda: recorded(database) for _ in range(64)])
    assert count(database) == 64


def test_a_unit_leaves_no_connection_behind(database: Database) -> None:
    """Whether it ended well or not, and however often it was run again."""
    key = recorded(database).effect_key
    for unit in (Unit(key), Unit(first="SELECT * FROM nowhere"), Unit(first="SELECT 1")):
        with contextlib.suppress(StoreUnavailable):
            database.write(unit)
        with contextlib.suppress(StoreUnavailable):
            database.read(unit)
    assert engine_of(database).pool.checkedout() == 0  # type: ignore[attr-defined]


def test_no_transaction_is_left_open_by_a_read(postgres_store: Database) -> None:
    """A reader that went on would keep the server from cleaning up."""
    record(postgres_store, an_intent())
    count(postgres_store)
    idle = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    assert scalar(postgres_store, idle) == 0


def test_an_error_shows_no_request(database: Database) -> None:
    """Neither its text nor the chain of causes under it: logs hold no payloads."""
    asked = an_intent({"iban": "a-secret-in-the-request"})
    rename(database, "tape_effects", "away")
    try:
        with pytest.raises(StoreUnavailable, match="tape_effects") as refused:
            record(database, asked)
    finally:
        rename(database, "away", "tape_effects")
    assert "a-secret-in-the-request" not in "".join(traceback.format_exception(refused.value))


# --- the server and the process ---


def test_a_server_that_was_killed_and_restarted_is_used_again(
    own_postgres: PostgresServer, open_database: Open
) -> None:
    """kill -9 between two units: the same process goes on, with what was committed."""
    database = open_database(own_postgres.fresh_database())
    database.migrate()
    mine = claimed(database, recorded(database).effect_key)
    own_postgres.kill9()
    with pytest.raises(StoreUnavailable):
        row(database, mine.effect_key)
    own_postgres.start()
    assert seal_effect(database, mine, "confirmed").after.status is Status.CONFIRMED
    assert kinds(database, mine.effect_key) == ["recorded", "claimed", "confirmed"]


def test_a_server_that_was_restarted_unnoticed_costs_nothing(own_postgres: PostgresServer, open_database: Open) -> None:
    """Nobody asked while it was away: the pool's connections are dead, and the next unit does not fail."""
    database = open_database(own_postgres.fresh_database())
    database.migrate()
    together([lambda: recorded(database) for _ in range(5)])
    own_postgres.kill9()
    own_postgres.start()
    assert together([lambda: count(database) for _ in range(5)]) == [5] * 5


def test_a_forked_child_has_connections_of_its_own(postgres_store: Database) -> None:
    """It does not speak on its parent's, and does not close them when it ends."""
    backend = "SELECT pg_backend_pid()"
    parents = scalar(postgres_store, backend)
    effect = recorded(postgres_store)
    childs = in_a_child(lambda: [scalar(postgres_store, backend), claimed(postgres_store, effect.effect_key).token])
    assert childs[0] != parents
    assert childs[1] == 1
    assert scalar(postgres_store, backend) == parents
    assert row(postgres_store, effect.effect_key).status is Status.DISPATCHING


@pytest.mark.parametrize("closes", ["parent", "child"])
def test_parent_and_forked_child_write_to_one_sqlite_file(sqlite_store: Database, closes: str) -> None:
    """Nothing is lost, and the one that closes its last connection does not take the file from the other."""
    keys = [recorded(sqlite_store).effect_key for _ in range(2)]

    def write_many(who: str) -> list[Any]:
        for _ in range(50):
            sqlite_store.write(Unit(*keys))
            if who == closes:
                sqlite_store.close()
        return []

    in_a_child(lambda: write_many("child"), beside=lambda: write_many("parent"))
    assert [row(sqlite_store, key).unsent for key in keys] == [100, 100]
    assert scalar(sqlite_store, "PRAGMA integrity_check") == "ok"


def test_a_child_that_is_killed_in_mid_unit_leaves_nothing(database: Database, tmp_path: Path) -> None:
    """Its transaction is rolled back, and its locks are gone."""
    key = recorded(database).effect_key
    there = tmp_path / "there"

    def wait_to_be_killed() -> None:
        there.touch()
        signal.pause()

    pid = os.fork()
    if pid == 0:
        try:
            database.write(Unit(key, between=wait_to_be_killed))
        finally:
            os._exit(1)
    try:
        until(there.exists, what="the child in mid-unit")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert database.write(Unit(key)) == "done"
    assert row(database, key).unsent == 1


def in_a_child(work: Callable[[], list[Any]], *, beside: Callable[[], object] = lambda: None) -> list[Any]:
    """What ``work`` returns in a forked child, while the parent does what is ``beside`` it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            try:
                answer = json.dumps(work())
            except BaseException as error:  # noqa: BLE001 - told to the parent, which fails with it
                answer = json.dumps(f"{type(error).__name__}: {error}")
            os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    try:
        beside()
        with os.fdopen(reader) as answers:
            told = json.loads(answers.read() or '"the child said nothing"')
    finally:
        os.waitpid(pid, 0)
    assert isinstance(told, list), told
    return told


def rename(database: Database, table: str, name: str) -> None:
    database.write(lambda connection: connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}")))


def set_busy_timeout(database: Database, milliseconds: int) -> None:
    """For every connection of the store from now on."""
    database.close()

    @event.listens_for(engine_of(database), "connect")
    def shorten(dbapi_connection: Any, _: Any) -> None:
        dbapi_connection.execute(f"PRAGMA busy_timeout={milliseconds}")


def listen_for_errors(database: Database) -> list[str]:
    """Every error that the database gives, as it comes."""
    seen: list[str] = []
    event.listen(engine_of(database), "handle_error", lambda context: seen.append(str(context.original_exception)))
    return seen


def waiting_for_locks(database: Database) -> int:
    """How many backends wait for a lock."""
    asked = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return int(scalar(database, asked))
