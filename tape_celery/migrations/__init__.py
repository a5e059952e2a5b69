"""Creating and upgrading the schema, and telling how a store's schema stands to this code.

The migrations are Alembic's, numbered; their version table is ours alone (``tape_alembic_version``), so that the tables
may live in the app's own database beside its own migrations.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from sqlalchemy import Connection, column, func, inspect, select, table

from tape_celery.errors import SchemaMismatch, StoreUnavailable
from tape_celery.migrations import append_only

VERSION_TABLE = "tape_alembic_version"
REMEDY = "celery -A APP tape migrate"

_ADVISORY_LOCK = 0x7461_7065
"""PostgreSQL's name for "one migrates at a time": two that create the same table at once fail, one of them."""
_LOCK_SECONDS = 20
"""How long one migration of a MySQL store waits for another."""
_one_in_this_process = threading.Lock()
"""Alembic keeps what it runs in globals."""


def upgrade(connection: Connection) -> None:
    """Bring the schema to this code's revision, inside the caller's transaction; nothing to do is fine.

    MySQL commits each step by itself, so there a step can be made again. Raises `SchemaMismatch` where the schema is
    newer than the code: there is no way down.
    """
    # Only who makes tables needs Alembic; to import it takes a fifth of a worker's start.
    from alembic import command
    from alembic.config import Config

    with _one_in_this_process, _one_in_this_store(connection):
        _refuse_newer(current(connection))
        config = Config()
        config.set_main_option("script_location", str(_home()).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if connection.dialect.name == "mysql":
            append_only.protect(connection)


@contextlib.contextmanager
def _one_in_this_store(connection: Connection) -> Iterator[None]:
    """Hold the store's lock on migrating; SQLite's transaction is one already."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    if connection.dialect.name != "mysql":
        yield
        return
    # Of the database, not of the server: others may share that. What died lets go of it.
    lock = func.concat("tape_celery.", func.md5(func.database()))
    if not connection.execute(select(func.get_lock(lock, _LOCK_SECONDS))).scalar():
        raise StoreUnavailable(f"somebody else has been migrating this store for {_LOCK_SECONDS} seconds")
    try:
        yield
        connection.commit()
    finally:
        connection.execute(select(func.release_lock(lock)))


def check(connection: Connection) -> None:
    """Raise `SchemaMismatch`, naming both revisions, unless the schema is the one that this code was written for."""
    revision = current(connection)
    if revision is None:
        raise SchemaMismatch(f"the store has no tape_celery tables; create them with: {REMEDY}")
    _refuse_newer(revision)
    if revision != head():
        raise SchemaMismatch(
            f"the store's schema is revision {revision}, older than this code's {head()}; upgrade it with: {REMEDY}"
        )


def is_empty(connection: Connection) -> bool:
    """Whether the database has no table at all."""
    return not inspect(connection).get_table_names()


def current(connection: Connection) -> str | None:
    """The revision of the store's schema; ``None`` where there is none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision = connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()
    return None if revision is None else str(revision)


def head() -> str:
    """The revision that this code was written for."""
    return _revisions()[-1]


def knows(revision: str) -> bool:
    """Whether ``revision`` is one of this code's, and not of a newer one."""
    return revision in _revisions()


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and not knows(revision):
        raise SchemaMismatch(
            f"the store's schema is revision {revision}, newer than this code's {head()}; upgrade tape-celery"
        )


def _revisions() -> list[str]:
    """The revisions that this code knows, oldest first: the name of a migration's file begins with its own."""
    names = [file.name for file in (_home() / "versions").iterdir()]
    revisions = sorted(name.partition("_")[0] for name in names if name.endswith(".py"))
    if not revisions:
        raise SchemaMismatch("this installation of tape_celery ships no migrations")
    return revisions


def _home() -> Traversable:
    return files(__name__)
