"""The way to the store: one engine a process, short transactions, and what to do when the database says no.

A unit of work is a function of a connection. It is run in one transaction, and run again, whole, when the database
refuses it for a reason that passes (a deadlock, a serialization failure, a lost connection). When the answer to its
COMMIT is lost nobody knows whether it happened: `CommitUncertain` says so, and the verb that asked reads back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.expression import ColumnElement

from tape_celery import migrations
from tape_celery.errors import CommitUncertain, MissingExtra, SettingsError, StoreUnavailable
from tape_celery.schema import now_ms

T = TypeVar("T")

TRIES = 6
"""How often a unit is run before a passing refusal is taken for a lasting one."""

_PASSING_SQLSTATES = {"40001", "40P01", "55P03"}
"""PostgreSQL: serialization failure, deadlock detected, lock not available."""
_POSTGRESQL_OPTIONS = "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=30s"


class Database:
    """The store at ``url``. Nothing is opened before it is used; it may be used by threads and after a fork.

    Raises `SettingsError` for a kind of database that is not supported, `MissingExtra` where its driver is absent.
    """

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.shift_ms = 0
        """Added to the database's clock: lets a test move time. Always 0 in production."""
        self._engine = _sqlite(self.url) if self.url.get_backend_name() == "sqlite" else _postgresql(self.url)
        self._ready_pid = 0
        _DATABASES.add(self)

    def __repr__(self) -> str:
        return f"Database({_shown(self.url)!r})"

    @property
    def now(self) -> ColumnElement[int]:
        """Now on the database's clock, in epoch milliseconds, as an SQL expression."""
        return now_ms() + self.shift_ms if self.shift_ms else now_ms()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction and commit it.

        Raises `CommitUncertain` when the answer to COMMIT was lost, `StoreUnavailable` when the store refuses for
        good or cannot be reached (then nothing was written), and whatever ``work`` raises.
        """
        self.ready()
        return self._run(work, read_only=False)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work``, which only reads; raises `StoreUnavailable`."""
        self.ready()
        return self._run(work, read_only=True)

    def migrate(self) -> None:
        """Create or upgrade the schema; safe to run twice and by several processes at once."""
        self._run(migrations.upgrade, read_only=False)

    def ready(self) -> None:
        """Check once a process that the schema is this code's.

        An empty SQLite file gets it. Raises `SchemaMismatch`.
        """
        if self._ready_pid == os.getpid():
            return
        if self.url.get_backend_name() == "sqlite":
            self.prepare_file()
            if self._run(migrations.is_empty, read_only=True):
                self.migrate()
        self._run(migrations.check, read_only=True)
        self._ready_pid = os.getpid()

    def prepare_file(self) -> None:
        """Make sure of an SQLite file that only its owner can open; nothing to do for a server."""
        if self.url.get_backend_name() == "sqlite":
            _open_privately(self.url)

    def close(self) -> None:
        """Close the connections of this process; it may be used again."""
        self._engine.dispose()

    def forget_connections(self) -> None:
        """After a fork: let go of the parent's connections without closing them."""
        self._engine.dispose(close=False)

    def _run(self, work: Callable[[Connection], T], *, read_only: bool) -> T:
        for tries in range(1, TRIES + 1):
            try:
                with self._engine.connect() as connection:
                    if read_only:
                        connection = connection.execution_options(tape_read_only=True)
                    result = work(connection)
                    _commit(connection, read_only)
                    return result
            except IntegrityError:
                raise
            except PoolTimeout as error:
                raise StoreUnavailable(f"{self!r} has no free connection: {error}") from None
            except DBAPIError as error:
                if tries == TRIES or not _passes(error):
                    raise StoreUnavailable(self._told(error)) from error
            time.sleep(0.01 * 2**tries * (0.5 + random.random()))  # noqa: S311 - jitter, no secret
        raise AssertionError("the last try returns or raises")

    def _told(self, error: DBAPIError) -> str:
        if error.statement is None:
            told = _first_line(error)
            return f"{self!r} cannot be reached: {told}; see that it runs, and that tape_store_url names it"
        return f"{self!r} refused: {_first_line(error)}"


def _commit(connection: Connection, read_only: bool) -> None:
    try:
        connection.commit()
    except BaseException as error:
        # Whatever the database made of it, this connection must not go back to the pool: SQLite may still be inside.
        connection.invalidate()
        # SQLite commits in this process: a COMMIT that raised did not happen.
        if read_only or not isinstance(error, DBAPIError) or connection.dialect.name == "sqlite":
            raise
        raise CommitUncertain(f"the answer to COMMIT was lost: {_first_line(error)}") from error


def _passes(error: DBAPIError) -> bool:
    """Whether running the unit again, in a new transaction, may work."""
    if error.connection_invalidated:
        return True
    if getattr(error.orig, "sqlstate", None) in _PASSING_SQLSTATES:
        return True
    return "database is locked" in str(error.orig) or "database is busy" in str(error.orig)


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).splitlines()
    return f"{type(error.orig).__name__}: {lines[0] if lines else ''}"


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingsError(
            "tape_store_url is no database URL; expected sqlite:///path or postgresql://host/name"
        ) from None
    kind = parsed.drivername.split("+")[0]
    if kind == "sqlite" and parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if _in_memory(parsed):
            raise SettingsError(
                "tape_store_url names an SQLite database in memory, where intents would not outlive it; give a file"
            )
        return parsed
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise SettingsError(
        f"tape_store_url {_shown(parsed)!r} is of an unsupported kind; expected sqlite:///path or "
        "postgresql://host/name"
    )


def _in_memory(url: URL) -> bool:
    name = url.database or ""
    return name in ("", ":memory:") or name.startswith("file:") or url.query.get("mode") == "memory"


def _shown(url: URL) -> str:
    """``url`` without what may be secret: libpq takes a password in the query too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, record: Any) -> None:
        dbapi_connection.isolation_level = None  # pysqlite's own BEGIN comes too late: it loses updates
        cursor = dbapi_connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("tape_read_only")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_size=5,
            max_overflow=20,
            pool_timeout=10,
            connect_args=_connect_args(url),
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise MissingExtra("A PostgreSQL store", "postgresql") from None


def _connect_args(url: URL) -> dict[str, Any]:
    """What bounds a connection, but for what the URL says itself; its options follow ours, and so stand."""
    bounds: dict[str, Any] = {
        "connect_timeout": 5,
        "application_name": "tape_celery",
        "tcp_user_timeout": 10_000,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    options = " ".join((_POSTGRESQL_OPTIONS, *url.normalized_query.get("options", ())))
    return {name: value for name, value in bounds.items() if name not in url.query} | {"options": options}


def _open_privately(url: URL) -> None:
    """Make sure of a file 0600, made in a directory 0700 where there is none.

    Refuse one that everybody may open. SQLite's side files inherit the mode.
    """
    path = Path(str(url.database))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only a file that is made here is opened here: whoever closes any descriptor of a file drops all the locks of
        # its process on it, SQLite's too.
        with _one_makes_files, contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StoreUnavailable(
            f"the SQLite store {path} cannot be opened: {error.strerror}; tape_store_url must name a file that this "
            "user may write"
        ) from None
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IRWXO:
        raise SettingsError(
            f"the SQLite store {path} is open to every user of this machine (mode {mode:04o}); chmod 600 it"
        )


_one_makes_files = threading.Lock()
_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    # In a child SQLite would take its parent's locks, which it inherits in memory only, for its own: whoever closes
    # the last connection then deletes the log into which the other still writes.
    for database in list(_DATABASES):
        if database.url.get_backend_name() == "sqlite":
            database.close()


def _after_fork() -> None:
    for database in list(_DATABASES):
        database.forget_connections()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
