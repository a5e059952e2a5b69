"""The way to the store: one engine a process, short transactions, and what to do when the database says no.

A unit of work is a function of a connection. It is run in one transaction, and run again, whole, when the database
refuses it for a reason that passes (a deadlock, a serialization failure, a lost connection). When the answer to its
COMMIT is lost nobody knows whether it happened: `CommitUncertain` says so, and the verb that asked reads back.
"""

from __future__ import annotations

import os
import random
import time
import weakref
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Select, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.expression import ColumnElement

from tape_celery import migrations
from tape_celery.announcing import Announcer
from tape_celery.encryption import Cipher
from tape_celery.errors import CommitNotDurable, CommitUncertain, StoreUnavailable
from tape_celery.metering import Meter
from tape_celery.schema import installation, now_ms
from tape_celery.store import mysql, postgresql, sqlite, urls

T = TypeVar("T")
_NOW = now_ms()

TRIES = 6
"""How often a unit is run before a passing refusal is taken for a lasting one."""

_BACKENDS = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mysql}


class Database:
    """The store at ``url``. Nothing is opened before it is used; it may be used by threads and after a fork.

    Raises `SettingsError` for a kind of database that is not supported, `MissingExtra` where its driver is absent.
    """

    cipher: Cipher | None = None
    """Seals and opens the bodies of rows; ``None``: they are stored as they are."""

    def __init__(self, url: str | URL, *, tries: int = TRIES) -> None:
        self.url = urls.checked(url)
        self._tries = tries
        self._backend = _BACKENDS[self.url.get_backend_name()]
        self.announcer: Announcer | None = None
        """Is told of what has come into another state."""
        self.meter: Meter | None = None
        """Counts what this process does; ``None``: nobody does."""
        self.shift_ms = 0
        """Added to the database's clock: lets a test move time. Always 0 in production."""
        self._engine = self._backend.engine(self.url)
        self._file = sqlite.StoreFile(self.url, self._engine) if self._backend is sqlite else None
        self._ready_pid = 0
        _DATABASES.add(self)

    def __repr__(self) -> str:
        return f"Database({urls.shown(self.url)!r})"

    @property
    def is_file(self) -> bool:
        """Whether it is an SQLite file, and no server."""
        return self._file is not None

    @property
    def now(self) -> ColumnElement[int]:
        """Now on the database's clock, in epoch milliseconds, as an SQL expression."""
        return _NOW + self.shift_ms if self.shift_ms else _NOW

    def read_now(self, connection: Connection) -> int:
        """`now`, read by this connection."""
        now: int = connection.execute(self.asks_now()).scalar_one()
        return now

    def asks_now(self) -> Select[Any]:
        """The statement of `read_now`."""
        return _select(self.now)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction and commit it.

        Raises `CommitUncertain` when the answer to COMMIT was lost, `StoreUnavailable` when the store refuses for
        good or cannot be reached (then nothing was written), and whatever ``work`` raises.
        """
        self.ready()
        return self._run(work, read_only=False)

    def read(self, work: Callable[[Connection], T], *, one_moment: bool = False) -> T:
        """Run ``work``, which only reads, with ``one_moment`` all of it the same moment; raises `StoreUnavailable`."""
        self.ready()
        return self._run(work, read_only=True, one_moment=one_moment)

    def peek(self, work: Callable[[Connection], T]) -> T:
        """`read`, whatever schema there is, if any: it makes nothing. Raises `StoreUnavailable`."""
        if self._file is not None:
            self._file.found()
        return self._run(work, read_only=True)

    def migrate(self) -> None:
        """Create or upgrade the schema; safe to run twice, by several processes at once, and after one that died."""
        self._check_server()
        self._run(migrations.upgrade, read_only=False)

    def ready(self) -> None:
        """Check once a process that the schema is this code's.

        An empty SQLite file gets it. Raises `SchemaMismatch`.
        """
        if self._ready_pid == os.getpid():
            return
        if self._file is not None:
            self.prepare_file()
            if self._run(migrations.is_empty, read_only=True):
                self.migrate()
        self._check_server()
        self._run(migrations.check, read_only=True)
        self._ready_pid = os.getpid()

    @cached_property
    def installation_id(self) -> str:
        """The id that this store was given when it was created; a copy of the store has the same."""
        statement = select(installation.c.installation_id)
        return self.read(lambda connection: str(connection.execute(statement).scalar_one()))

    def prepare_file(self) -> None:
        """Make sure of an SQLite file that only its owner can open; nothing to do for a server."""
        if self._file is not None:
            self._file.prepare()

    def close(self) -> None:
        """Close the connections of this process; it may be used again."""
        self._engine.dispose()

    def forget_connections(self) -> None:
        """After a fork: let go of the parent's connections without closing them."""
        self._engine.dispose(close=False)

    def hurried(self, seconds: float) -> Database:
        """Another way to the same store, for who must not be kept waiting: connections of its own, each unit tried
        once, and every wait that can be bounded bounded to about ``seconds``.
        """
        other = Database(self._backend.hurried(self.url, seconds), tries=1)
        other.shift_ms = self.shift_ms
        other.cipher = self.cipher
        return other

    def _check_server(self) -> None:
        if self._backend is mysql:
            self._run(mysql.check, read_only=True)

    def _run(self, work: Callable[[Connection], T], *, read_only: bool, one_moment: bool = False) -> T:
        for tries in range(1, self._tries + 1):
            try:
                with self._engine.connect() as connection:
                    if read_only:
                        connection = connection.execution_options(tape_read_only=True)
                    if one_moment and self._file is None:  # SQLite's transactions all are so
                        connection = connection.execution_options(isolation_level="REPEATABLE READ")
                    elif read_only and self._backend is postgresql:
                        # READ COMMITTED as well, without the way there and back of a BEGIN and a ROLLBACK.
                        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                    result = work(connection)
                    _commit(connection, read_only)
                    if self._file is not None and not read_only:
                        self._file.committed()
                    return result
            except IntegrityError:
                raise
            except PoolTimeout as error:
                raise StoreUnavailable(f"{self!r} has no free connection: {error}") from None
            except DBAPIError as error:
                if tries == self._tries or not (error.connection_invalidated or self._backend.passes(error)):
                    raise StoreUnavailable(self._told(error)) from error
            time.sleep(0.01 * 2**tries * (0.5 + random.random()))  # noqa: S311 - jitter, no secret
        raise AssertionError("the last try returns or raises")

    def _told(self, error: DBAPIError) -> str:
        if error.statement is None and not (self._file is not None and self._file.opened):
            told = _first_line(error)
            return f"{self!r} cannot be reached: {told}; see that it runs, and that tape_store_url names it"
        return f"{self!r} refused: {_first_line(error)}"


def _commit(connection: Connection, read_only: bool) -> None:
    try:
        connection.commit()
    except BaseException as error:
        # Whatever the database made of it, this connection must not go back to the pool: SQLite may still be inside.
        connection.invalidate()
        if read_only or not isinstance(error, DBAPIError):
            raise
        if connection.dialect.name == "sqlite":
            if sqlite.may_have_committed(error):
                raise CommitNotDurable(f"the disk did not confirm a COMMIT: {_first_line(error)}") from error
            raise
        raise CommitUncertain(f"the answer to COMMIT was lost: {_first_line(error)}") from error


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).splitlines()
    return f"{type(error.orig).__name__}: {lines[0] if lines else ''}"


_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    # In a child SQLite would take its parent's locks, which it inherits in memory only, for its own: whoever closes
    # the last connection then deletes the log into which the other still writes.
    for database in list(_DATABASES):
        if database._backend is sqlite:
            database.close()


def _after_fork() -> None:
    for database in list(_DATABASES):
        database.forget_connections()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


@lru_cache(maxsize=16)
def _select(now: ColumnElement[int]) -> Select[Any]:
    return select(now)
