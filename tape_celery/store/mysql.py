"""MariaDB or MySQL as the store, by PyMySQL: InnoDB at READ COMMITTED, strict, in UTC, and a bound on every wait.

What the server's own defaults would do is not relied on: a session of ours sets its time zone (local time is twice the
same for an hour each autumn), its SQL mode (others cut what is too long, silently) and its waits.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, IntegrityError, NoSuchModuleError

from tape_celery.errors import MissingExtra, SettingsError

LEAST_MARIADB = (10, 6)
"""``SKIP LOCKED``, and DDL that a crash cannot leave half-done."""
LEAST_MYSQL = (8, 0, 16)
"""CHECK constraints that are enforced."""

_PASSING = {1020, 1205, 1213}
"""Record has changed since it was read, lock wait timeout, deadlock found."""
_CHECK_FAILED = {3819, 4025}
"""MySQL's and MariaDB's numbers for it, which PyMySQL takes for an operational error."""
_SESSION = (
    "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
    "innodb_lock_wait_timeout = 10"
)
_MARIADB_SESSION = "SET SESSION max_statement_time = 30, idle_transaction_timeout = 30"
_MYSQL_SESSION = "SET SESSION max_execution_time = 30000"


def engine(url: URL) -> Engine:
    """An engine; nothing is opened yet. Raises `MissingExtra` where PyMySQL is absent."""
    try:
        made = create_engine(
            url,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_size=5,
            max_overflow=20,
            pool_timeout=10,
            connect_args=_connect_args(url),
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise MissingExtra("A MySQL or MariaDB store", "mysql") from None

    @event.listens_for(made, "connect")
    def configure(dbapi_connection: Any, record: Any) -> None:
        mariadb = "mariadb" in dbapi_connection.get_server_info().lower()
        with dbapi_connection.cursor() as cursor:
            cursor.execute(_SESSION)
            cursor.execute(_MARIADB_SESSION if mariadb else _MYSQL_SESSION)

    @event.listens_for(made, "handle_error")
    def name_it(context: ExceptionContext) -> None:
        if _number(context.original_exception) in _CHECK_FAILED:
            raise IntegrityError(context.statement, None, context.original_exception) from None

    return made


def hurried(url: URL, seconds: float) -> URL:
    """``url``, with a bound of so many seconds on every wait for the server."""
    return url.update_query_dict(
        dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), f"{max(1, seconds):.0f}")
    )


def passes(error: DBAPIError) -> bool:
    """Whether another try of the unit, in a new transaction, may work."""
    return _number(error.orig) in _PASSING


def check(connection: Connection) -> None:
    """Raise `SettingsError` for a server that is too old to keep the store's promises."""
    version = connection.dialect.server_version_info or ()
    mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
    name, least = ("MariaDB", LEAST_MARIADB) if mariadb else ("MySQL", LEAST_MYSQL)
    if version < least:
        shown, wanted = (".".join(map(str, number)) for number in (version, least))
        raise SettingsError(f"tape_store_url names a server of {name} {shown}; {wanted} or newer is needed")


def _number(error: BaseException | None) -> object:
    arguments = getattr(error, "args", ())
    return arguments[0] if arguments else None


def _connect_args(url: URL) -> dict[str, Any]:
    """What bounds a connection, but for what the URL says itself."""
    bounds = {"charset": "utf8mb4", "connect_timeout": 5, "read_timeout": 35, "write_timeout": 35}
    return {name: value for name, value in bounds.items() if name not in url.query}
