"""The product's own store code over one SQLite in memory, with the faults that a server and a wire bring.

Under a unit of work lies a connection that behaves like PostgreSQL's in READ COMMITTED: until its first write others
may commit between its statements, and the answer to its COMMIT may be lost; or like SQLite's, where a unit is alone
from its first statement on and a COMMIT that raised did not happen. Only transactions are played; SQL runs for real.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from sqlalchemy import BigInteger, Connection, create_engine, func
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql.expression import ColumnElement

from tape_celery import migrations
from tape_celery.store.database import Database
from tests.simulation import triggers
from tests.simulation.statements import Statements
from tests.simulation.world import World, running

_NOW = func.virtual_now(type_=BigInteger())


class Tables:
    """One SQLite in memory with the product's schema, made once a process and emptied for each seed."""

    def __init__(self) -> None:
        self._engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"cached_statements": 2000})
        self.connection: Connection = self._engine.connect()
        raw: Any = self.connection.connection.driver_connection
        raw.isolation_level = None
        raw.create_function("virtual_now", 0, lambda: running().database_ms)
        self.raw: sqlite3.Connection = raw
        migrations.upgrade(self.connection)
        self.connection.commit()
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("DROP TRIGGER tape_journal_is_kept")  # each seed begins with an empty store
        triggers.install(raw)
        self.statements = Statements(self.connection)

    def empty(self) -> None:
        """As it was when it was made."""
        for table in (
            "tape_callbacks", "tape_journal", "tape_obligations", "tape_effects", "tape_orderings", "tape_runs",
            "tape_flows", "witnessed",
        ):  # fmt: skip
            self.raw.execute(f"DELETE FROM {table}")
        self.raw.execute("UPDATE tape_installation SET swept_at_ms = NULL")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """What a query gives, past the product's own code."""
        cursor = self.raw.cursor()
        cursor.row_factory = sqlite3.Row
        return cursor.execute(sql, values).fetchall()


class VirtualDatabase(Database):
    """The store as the product knows it, on the virtual clock."""

    def __init__(self, tables: Tables) -> None:
        super().__init__("sqlite:////nowhere/tape.db")
        self._engine: Any = SimpleNamespace(connect=lambda: _Unit(running(), tables), dispose=lambda close=True: None)
        self._ready_pid = os.getpid()

    @property
    def now(self) -> ColumnElement[int]:
        return _NOW

    def ready(self) -> None:
        """It is."""


class _Unit:
    """One connection, for one unit of work."""

    def __init__(self, world: World, tables: Tables) -> None:
        self._world = world
        self._tables = tables
        self._begun = False
        self._read_only = False
        world.point("store.connect")
        if world.chance(world.faults.store_away):
            world.store_away_until_ms = world.now_ms + int(world.rng.random() * 90_000)
            world.note("store.away", world.store_away_until_ms - world.now_ms)
        if world.now_ms < world.store_away_until_ms and world.here is not None and not world.undisturbed:
            raise _lost("connection refused", invalidated=False)
        # Not PostgreSQL by name: SQLite, which runs the statements, does not know those that are made for it alone.
        name = "sqlite" if world.alone else "server"
        self.dialect = SimpleNamespace(name=name, insert_returning=True, update_returning=True)

    def __enter__(self) -> _Unit:
        return self

    def __exit__(self, *_: object) -> None:
        if self._begun:
            self._end("ROLLBACK")

    def execution_options(self, *, tape_read_only: bool) -> _Unit:
        self._read_only = tape_read_only
        return self

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        world = self._world
        writes = statement.is_dml or getattr(statement, "_for_update_arg", None) is not None
        if not self._begun:
            if not world.alone and world.chance(world.faults.statement_slow):
                world.pause(world.settings.lease_seconds * 1500 * world.rng.random())
            if not (writes or world.alone):
                world.point("store.reads")
            elif not self._read_only:
                world.point("store.begins")
                self._tables.raw.execute("BEGIN IMMEDIATE")
                self._begun = True
        if world.chance(world.faults.statement_lost):
            raise self._broken("connection reset", invalidated=True)
        if self._begun and not world.alone and world.chance(world.faults.deadlock):
            raise self._broken("deadlock detected", invalidated=False, sqlstate="40P01")
        return self._tables.statements.execute(statement, parameters)

    @contextmanager
    def begin_nested(self) -> Iterator[None]:
        """A savepoint: what fails in it is undone, and the unit goes on."""
        self._tables.raw.execute("SAVEPOINT nested")
        try:
            yield
        except IntegrityError:
            self._tables.raw.execute("ROLLBACK TO nested")
            raise
        self._tables.raw.execute("RELEASE nested")

    def commit(self) -> None:
        if not self._begun:
            return
        world = self._world
        faults = world.faults
        if world.chance(faults.kill):
            self._end("ROLLBACK")
            world.note("store.not committed")
            world.die()
        if world.chance(faults.commit_not_done):
            raise self._broken("COMMIT was not executed", invalidated=True)
        self._end("COMMIT")
        if world.here is None:
            return
        world.point("store.committed")
        if not world.alone and world.chance(faults.commit_done_unheard):
            world.note("store.commit unheard")
            raise _lost("the answer to COMMIT was cut off", invalidated=True)
        if world.chance(faults.commit_slow):
            world.pause(world.settings.lease_seconds * 1000 * (0.3 + 1.5 * world.rng.random()))

    def invalidate(self) -> None:
        """Nothing is pooled here."""

    def _broken(self, why: str, *, invalidated: bool, sqlstate: str | None = None) -> OperationalError:
        if self._begun:
            self._end("ROLLBACK")
        self._world.note(f"store.{why}")
        return _lost(why, invalidated=invalidated, sqlstate=sqlstate)

    def _end(self, how: str) -> None:
        self._begun = False
        self._tables.raw.execute(how)


class _ServerError(Exception):
    sqlstate: str | None = None


def _lost(why: str, *, invalidated: bool, sqlstate: str | None = None) -> OperationalError:
    said = _ServerError(why)
    said.sqlstate = sqlstate
    return OperationalError("", None, said, connection_invalidated=invalidated)
