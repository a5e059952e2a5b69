"""COMMITs that take as long as a test wants, inside PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tape_celery.store.database import Database
from tests.servers import PostgresServer, until
from tests.store.conftest import url_of

_LOCK = 4711


class Gate:
    """COMMITs of transactions that wrote the table wait until it is open."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def open(self) -> None:
        """Let them go."""
        self._connection.execute("SELECT pg_advisory_unlock_all()")

    def wait_for_commit(self) -> None:
        """Return when a COMMIT is under way."""
        until(lambda: self._waiting("locktype = 'advisory'") == 1, what="a COMMIT that is under way")

    def wait_for_blocked(self) -> None:
        """Return when another transaction waits for the one whose COMMIT is under way."""
        until(lambda: self._waiting("locktype = 'transactionid'") == 1, what="somebody who waits for that COMMIT")

    def _waiting(self, which: str) -> int:
        row = self._connection.execute(f"SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND {which}").fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def closed_gate(postgres: PostgresServer, database: Database, table: str = "tape_effects") -> Iterator[Gate]:
    """A gate in the way of every COMMIT that wrote to ``table``; it is gone with the block."""
    with postgres.connect(url_of(database)) as connection:
        connection.execute(
            "CREATE FUNCTION pass_the_gate() RETURNS trigger LANGUAGE plpgsql AS "
            f"'BEGIN PERFORM pg_advisory_xact_lock_shared({_LOCK}); RETURN NULL; END'"
        )
        connection.execute(
            f"CREATE CONSTRAINT TRIGGER gate AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION pass_the_gate()"
        )
        connection.execute(f"SELECT pg_advisory_lock({_LOCK})")
        gate = Gate(connection)
        try:
            yield gate
        finally:
            gate.open()
            connection.execute("DROP FUNCTION pass_the_gate CASCADE")
