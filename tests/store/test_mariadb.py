"""What is MariaDB's own: whatever the server's defaults are, a store on it keeps every promise."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import inspect, text

from tape_celery import schema
from tape_celery.errors import SettingsError, StoreUnavailable
from tape_celery.store import due, mysql
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tests.servers import MariaDBServer, until
from tests.store.conftest import Open, url_of
from tests.store.steps import an_intent as intent
from tests.store.steps import as_text, before_statement, count, engine_of, kinds, record, recorded, row, scalar
from tests.store.test_units import Unit, bump_by_hand

ALIKE = ["inv-1", "Inv-1", "INV-1", "ínv-1", "inv-1 ", " inv-1", "inv\u20111", "inv\u00ad-1", "ｉnv-1", "invss", "invß"]
"""Keys that one collation or another takes for the same."""


def test_a_session_does_not_rely_on_the_servers_defaults(mariadb_store: Database) -> None:
    """UTC, strict, READ COMMITTED, and a bound on every wait, on a server that has none of it by itself."""
    expected = {
        "time_zone": "+00:00",
        "tx_isolation": "READ-COMMITTED",
        "innodb_lock_wait_timeout": 10,
        "max_statement_time": 30.0,
        "idle_transaction_timeout": 30,
        "character_set_connection": "utf8mb4",
    }
    for name, value in expected.items():
        assert scalar(mariadb_store, f"SELECT @@SESSION.{name}") == value
    assert "STRICT_ALL_TABLES" in scalar(mariadb_store, "SELECT @@SESSION.sql_mode")


def test_keys_are_compared_byte_by_byte(mariadb_store: Database) -> None:
    """Case, accents, widths and spaces at the end make another key, in a database that would merge them."""
    made = [record(mariadb_store, intent({"n": n}, business_key=key)).effect for n, key in enumerate(ALIKE)]
    assert count(mariadb_store) == len(ALIKE)
    for effect, key in zip(made, ALIKE, strict=True):
        assert row(mariadb_store, effect.effect_key).business_key == key
    again = record(mariadb_store, intent({"n": 0}, business_key=ALIKE[0]))
    assert (again.effect.effect_key, again.created) == (made[0].effect_key, False)


def test_the_migrations_give_the_tables_of_the_code(
    mariadb: MariaDBServer, mariadb_store: Database, open_database: Open
) -> None:
    """Down to every CHECK, every index, every collation: as the server itself writes the tables down."""
    url = mariadb.fresh_database()
    written = open_database(url)
    schema.metadata.create_all(engine_of(written))
    for table in sorted(schema.metadata.tables):
        assert tables_as_written(mariadb_store, table) == tables_as_written(written, table)
        assert "ENGINE=InnoDB" in tables_as_written(written, table)[-1]
        assert "utf8mb4_bin" in tables_as_written(written, table)[-1]


def tables_as_written(database: Database, table: str) -> list[str]:
    with engine_of(database).connect() as connection:
        said = connection.execute(text(f"SHOW CREATE TABLE {table}")).all()[0][1]
    first, *parts, last = said.split("\n")
    return [first, *sorted(part.strip(" ,") for part in parts), last]


STEPS = [
    *("CREATE TABLE IF NOT EXISTS tape_effects", "CREATE INDEX tape_effects_by_run", "CREATE INDEX tape_effects_due"),
    *("CREATE TABLE IF NOT EXISTS tape_obligations", "CREATE INDEX tape_obligations_due", "INSERT INTO tape_inst"),
    *("INSERT INTO tape_alembic", "CREATE TABLE tape_alembic"),
    *("CREATE INDEX tape_effects_in_run", "DROP INDEX tape_effects_by_run", "DROP INDEX tape_obligations_by_run"),
]


@pytest.mark.parametrize("step", STEPS)
def test_a_migration_that_was_killed_is_made_up_by_the_next(
    mariadb: MariaDBServer, mariadb_store: Database, open_database: Open, step: str
) -> None:
    """kill -9 before any step: MariaDB has committed those before it, and the next run goes on from there."""
    url = mariadb.fresh_database()
    killed = subprocess.run([sys.executable, "-c", KILLED, url, step], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    database = open_database(url)
    database.migrate()
    for table in schema.metadata.tables:
        assert tables_as_written(database, table) == tables_as_written(mariadb_store, table)
    assert count(database, "tape_installation") == 1
    assert kinds(database, recorded(database).effect_key) == ["recorded"]


KILLED = """
import os, sys
from sqlalchemy import event
from tape_celery.store.database import Database

url, step = sys.argv[1:]
database = Database(url)

@event.listens_for(database._engine, "before_cursor_execute")
def look(connection, cursor, statement, *rest):
    if statement.strip().startswith(step):
        os.kill(os.getpid(), 9)

database.migrate()
"""


def test_a_migration_waits_for_another(mariadb: MariaDBServer, open_database: Open) -> None:
    """Two at once: the second begins when the first has ended, and finds it done."""
    url = mariadb.fresh_database()
    one, two = open_database(url), open_database(url)
    with ThreadPoolExecutor(1) as executor:
        with before_statement(one, "CREATE TABLE IF NOT EXISTS tape_journal", lambda: started.append(1)):
            started: list[int] = []
            other = executor.submit(one.migrate)
            until(lambda: started, what="the first migration")
            two.migrate()
        other.result(30)
    assert count(two, "tape_installation") == 1
    assert set(inspect(engine_of(two)).get_table_names()) >= set(schema.metadata.tables)


def test_a_server_that_is_too_old_is_refused_by_its_version(
    mariadb_store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "LEAST_MARIADB", (99, 1))
    with pytest.raises(SettingsError, match=r"a server of MariaDB 10\.\d+\.\d+; 99\.1 or newer is needed"):
        count(mariadb_store)


def test_a_deadlock_is_run_again(mariadb_store: Database, mariadb: MariaDBServer) -> None:
    """Two transactions lock two rows in opposite order: whoever is the victim, both are done in the end."""
    a, b = (recorded(mariadb_store).effect_key for _ in range(2))
    unit = Unit(a, b)
    with ThreadPoolExecutor(1) as executor, mariadb.connect(url_of(mariadb_store)) as other:
        cursor = other.cursor()
        other.begin()
        # The lighter transaction is the victim: ours.
        cursor.execute(
            "INSERT INTO tape_journal SELECT 'heavy', seq, 'heavy', 0, '', '', '', 0, '', '', '' FROM seq_1_to_50"
        )
        cursor.execute(bump_by_hand(b))
        done = executor.submit(mariadb_store.write, unit)
        until(lambda: waiting_for_locks(mariadb) == 1, what="our wait for the other", interval=UNREAD_SECONDS)
        cursor.execute(bump_by_hand(a))
        other.commit()
        assert done.result(30) == "done"
    assert (unit.begun, unit.failed) == (2, ["OperationalError"])
    assert (row(mariadb_store, a).unsent, row(mariadb_store, b).unsent) == (2, 2)


def test_a_lock_that_is_held_too_long_is_run_again_or_told(mariadb_store: Database, mariadb: MariaDBServer) -> None:
    """InnoDB rolls back the statement alone by default; the unit goes from its beginning all the same."""
    key, other_key = (recorded(mariadb_store).effect_key for _ in range(2))
    unit = Unit(other_key, key, first="SET SESSION innodb_lock_wait_timeout = 0")
    with mariadb.connect(url_of(mariadb_store)) as other, other.cursor() as cursor:
        other.begin()
        cursor.execute(bump_by_hand(key))
        with pytest.raises(StoreUnavailable, match="Lock wait timeout"):
            mariadb_store.write(unit)
        other.rollback()
    assert mariadb_store.write(unit) == "done"
    assert (row(mariadb_store, key).unsent, row(mariadb_store, other_key).unsent) == (1, 1)


def test_a_sweep_does_not_wait_for_a_row_that_somebody_holds(mariadb_store: Database, mariadb: MariaDBServer) -> None:
    """It takes the hints of the others, and leaves that one to whoever is at it."""
    held, free = (recorded(mariadb_store).effect_key for _ in range(2))
    with mariadb.connect(url_of(mariadb_store)) as other, other.cursor() as cursor:
        other.begin()
        cursor.execute(bump_by_hand(held))
        assert due.mark_relayed(mariadb_store, EFFECTS, [held, free], relay_ms=30_000) == [free]


def test_a_backend_that_is_ended_by_its_server_is_replaced(mariadb_store: Database, mariadb: MariaDBServer) -> None:
    """As by an administrator, or `wait_timeout`."""
    key = recorded(mariadb_store).effect_key

    def end_it_once() -> None:
        if unit.begun == 1:
            with mariadb.connect(url_of(mariadb_store)) as other, other.cursor() as cursor:
                cursor.execute("SELECT id FROM information_schema.processlist WHERE db = DATABASE()")
                for (number,) in cursor.fetchall():
                    if number != other.thread_id():
                        cursor.execute(f"KILL {number}")

    unit = Unit(key, key, between=end_it_once)
    assert mariadb_store.write(unit) == "done"
    assert (unit.begun, row(mariadb_store, key).unsent) == (2, 2)


def test_what_is_too_long_is_refused_and_not_cut(mariadb_store: Database) -> None:
    """A server that is not strict would keep half a key, silently."""
    key = recorded(mariadb_store).effect_key
    with pytest.raises(StoreUnavailable, match="Data too long for column 'status'"):
        mariadb_store.write(
            lambda connection: connection.execute(text(f"UPDATE tape_effects SET status = '{'x' * 30}'"))
        )
    assert as_text(scalar(mariadb_store, "SELECT status FROM tape_effects")) == row(mariadb_store, key).status


UNREAD_SECONDS = 0.3
"""InnoDB makes this table anew only if nobody has read it for a tenth of a second."""


def waiting_for_locks(mariadb: MariaDBServer) -> int:
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
        return int(cursor.fetchone()[0])
