"""Recording an intent in a transaction of the app's own, on the app's connection, without harm to it.

All of it happens inside a savepoint: what is refused here leaves the app's transaction as it was, and usable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, TwoPhaseTransaction, literal_column, select
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from tape_celery.errors import StoreUnavailable, WrongSession
from tape_celery.intent import Intent
from tape_celery.schema import installation
from tape_celery.store import callbacks, intents, queues, sharing
from tape_celery.store.database import Database
from tape_celery.store.intents import Recorded

T = TypeVar("T")

_KINDS = {"mariadb": "mysql"}
"""A dialect that goes by another name in the URL of an app."""


def record(connection: Connection, database: Database, intent: Intent, *, actor: str, hint_ms: int) -> Recorded:
    """Record ``intent`` on ``connection``, or find the effect that already stands for it.

    It becomes real when the transaction of ``connection`` commits, and goes with its roll-back. Raises `WrongSession`
    where that is no transaction on this store, `KeyConflict` where a key belongs to another request, `QueueFull`,
    `StoreUnavailable` where the database refused (a deadlock, a lock that was not free in time): then roll back.
    """

    def work(bounded: bool) -> Recorded:
        recorded = intents.record_within(connection, database, intent, actor=actor, hint_ms=hint_ms, bounded=bounded)
        if sharing.is_needed(recorded, intent):
            sharing.share(connection, database, recorded, intent, actor=actor)
        if intent.callbacks and not recorded.created:
            callbacks.add(connection, database, recorded.effect.effect_key, intent.callbacks)
        return recorded

    return within(connection, database, work)


def within(connection: Connection, database: Database, work: Callable[[bool], T]) -> T:
    """Do ``work`` in a savepoint of the transaction of ``connection``, which must be one on this store; it is told
    whether there is any bound on how many effects may wait."""
    ours = database.installation_id
    _refuse_another_kind(connection, database)
    try:
        if connection.dialect.name == "sqlite":
            _begin_sqlite(connection)
        elif database.url.get_backend_name() == "mysql":
            _refuse_mysql_autocommit(connection)
        with connection.begin_nested():
            return work(_refuse_another_store(connection, ours))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "25P01":
            raise _commits_by_itself() from error
        first_line = (str(error.orig).splitlines() or [""])[0]
        raise StoreUnavailable(
            f"the transaction of session= was refused ({type(error.orig).__name__}: {first_line}); roll it back"
        ) from error


def _refuse_another_kind(connection: Connection, database: Database) -> None:
    ours, theirs = database.url.get_backend_name(), connection.dialect.name
    if _KINDS.get(theirs, theirs) != ours:
        raise WrongSession(f"session= is on {theirs}, and this store is {database!r}")
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        raise _commits_by_itself()
    if isinstance(connection.get_transaction(), TwoPhaseTransaction):
        raise WrongSession("session= is in a two-phase transaction, whose end nobody here would see")


def _begin_sqlite(connection: Connection) -> None:
    """Begin, where Python's driver has not yet: a savepoint outside of a transaction would commit when it ends."""
    driver = connection.connection.driver_connection
    if not getattr(driver, "in_transaction", True):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _refuse_mysql_autocommit(connection: Connection) -> None:
    """There a savepoint outside of a transaction is no error: it is nothing."""
    autocommit: ColumnElement[int] = literal_column("@@autocommit")
    if connection.execute(select(autocommit)).scalar():
        raise _commits_by_itself()


def _refuse_another_store(connection: Connection, ours: str) -> bool:
    """Also whether any queue is bounded: read here, and in no statement that writes, as MySQL would keep what that
    reads locked until the app commits."""
    asked = select(installation.c.installation_id, queues.any_bounded())
    try:
        theirs, bounded = connection.execute(asked).first() or (None, False)
    except (OperationalError, ProgrammingError) as error:
        if error.connection_invalidated:
            raise
        raise WrongSession(
            "session= does not see this store's tables: "
            f"{(str(error.orig).splitlines() or [''])[0]}; it must be on the database of tape_store_url"
        ) from error
    if theirs != ours:
        raise WrongSession(f"session= sees the installation {theirs}, and this store is {ours}; nothing was recorded")
    return bool(bounded)


def _commits_by_itself() -> WrongSession:
    return WrongSession("session= commits each statement by itself (AUTOCOMMIT): there is no transaction to be part of")
