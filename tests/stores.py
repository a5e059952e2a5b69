"""Stores with their schema for many tests: made once on each server, emptied before each test.

A server takes half a second to make the schema, and a few milliseconds to empty its tables.
"""

from __future__ import annotations

from tape_celery.store.database import Database
from tests.servers import MariaDBServer, PostgresServer

TABLES = (
    "tape_callbacks", "tape_journal", "tape_obligations", "tape_effects", "tape_orderings", "tape_runs",
    "tape_tombstones", "tape_workers", "tape_flows", "tape_proposals",
)  # fmt: skip


def migrated(url: str) -> str:
    """Create the schema in the store at ``url``, and return that."""
    database = Database(url)
    database.prepare_file()
    database.migrate()
    database.close()
    return url


def emptied(server: PostgresServer | MariaDBServer, url: str) -> str:
    """End whatever a test before has left open to the store at ``url``, delete all its rows, and return the URL."""
    empty = _empty_postgres if isinstance(server, PostgresServer) else _empty_mariadb
    empty(server, url)
    return url


def _empty_postgres(server: PostgresServer, url: str) -> None:
    with server.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        # To empty a table takes a millisecond, and most tests write into few. CASCADE: into those that refer to it too.
        written = connection.execute(
            "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_relation_size(oid) > 0", (list(TABLES),)
        ).fetchall()
        if written:
            connection.execute(f"TRUNCATE {', '.join(name for (name,) in written)} CASCADE")


def _empty_mariadb(server: MariaDBServer, url: str) -> None:
    with server.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
        for (number,) in cursor.fetchall():
            server.end_connection(cursor, number)
        # The journal lets nothing go but with a tombstone.
        cursor.execute(
            "INSERT IGNORE INTO tape_tombstones "
            "SELECT DISTINCT effect_key, '', effect_key, '', NULL, '', '', '', '', 0, 0, 0 FROM tape_journal"
        )
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")
