"""How the database that holds the store is set up, as a connection of ours has it. It makes and changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, text

from tape_celery import migrations
from tape_celery.migrations import append_only
from tape_celery.store import urls
from tape_celery.store.database import Database

_POSTGRESQL = (
    "synchronous_commit", "fsync", "full_page_writes", "statement_timeout", "default_transaction_isolation",
    "max_connections", "transaction_read_only",
)  # fmt: skip
_MYSQL = (
    "innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "binlog_format", "sql_mode", "max_connections",
    "read_only", "transaction_isolation", "tx_isolation",
)  # fmt: skip
_SQLITE = ("journal_mode", "synchronous", "busy_timeout")


@dataclass(frozen=True, kw_only=True)
class Health:
    """What was found."""

    kind: str
    """``sqlite``, ``postgresql``, or ``mysql`` for MariaDB as well."""
    shown: str
    """Its URL without a password."""
    revision: str | None
    """The schema's; ``None`` where there is none."""
    head: str
    """The revision that this code was written for."""
    known: bool = True
    """Whether this code knows that revision: a newer one it does not."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """The database's own settings, by its own names."""
    missing_triggers: tuple[str, ...] = ()
    """Of MariaDB and MySQL: those of the journal's triggers that are not there, once the schema is this code's."""
    connections: int = 0
    """How many the server has open."""
    mode: int = 0
    """Of an SQLite file: who may read and write it."""
    filesystem: str = ""
    """Of an SQLite file: the kind of file system that it lies on, where the system tells."""


def look(database: Database) -> Health:
    """Look at the database. Raises `StoreUnavailable`, also for an SQLite file that does not exist."""
    kind = database.url.get_backend_name()

    def read(connection: Connection) -> Health:
        revision, head = migrations.current(connection), migrations.head()
        variables = _READ[kind](connection)
        return Health(
            kind=kind,
            shown=urls.shown(database.url),
            revision=revision,
            head=head,
            known=revision is None or migrations.knows(revision),
            missing_triggers=append_only.missing(connection) if kind == "mysql" and revision == head else (),
            connections=int(variables.pop("", "0")),
            variables=variables,
            mode=stat.S_IMODE(os.stat(str(database.url.database)).st_mode) if database.is_file else 0,
            filesystem=filesystem_of(Path(str(database.url.database))) if database.is_file else "",
        )

    return database.peek(read)


def _postgresql(connection: Connection) -> dict[str, str]:
    shown = {name: str(connection.execute(text(f"SHOW {name}")).scalar()) for name in _POSTGRESQL}
    open_ones = text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    return {**shown, "": str(connection.execute(open_ones).scalar())}


def _mysql(connection: Connection) -> dict[str, str]:
    listed = ", ".join(f"'{name}'" for name in _MYSQL)
    rows = connection.execute(text(f"SHOW VARIABLES WHERE Variable_name IN ({listed})"))
    found = {str(name): str(value) for name, value in map(tuple, rows)}
    of_all = connection.execute(text("SELECT @@GLOBAL.sql_mode")).scalar()
    status = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")).first()
    return {**found, "global sql_mode": str(of_all), "": str(status[1]) if status else "0"}


def _sqlite(connection: Connection) -> dict[str, str]:
    return {name: str(connection.execute(text(f"PRAGMA {name}")).scalar()) for name in _SQLITE}


_READ: dict[str, Callable[[Connection], dict[str, str]]] = {
    "postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite,
}  # fmt: skip


def filesystem_of(path: Path, mounts: str | None = None) -> str:
    """The kind of the file system that ``path`` lies on, by Linux's list of mounts; ``""`` where there is none."""
    try:
        listed = Path("/proc/self/mounts").read_text() if mounts is None else mounts
        whole = path.resolve()
    except OSError:
        return ""
    found, longest = "", -1
    for line in listed.splitlines():
        _, where, kind, *_ = line.split(" ")
        point = Path(where.replace("\\040", " "))
        if whole.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = kind, len(point.parts)
    return found
