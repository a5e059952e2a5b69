"""PostgreSQL as the store, by psycopg 3: READ COMMITTED, and a bound on every wait."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from tape_celery.errors import MissingExtra, SettingsError

_PASSING = {"40001", "40P01", "55P03"}
"""Serialization failure, deadlock detected, lock not available."""
_OPTIONS = (
    "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=30s "
    # A plan is kept that was made while a table was small. Then reading all of it looked cheap.
    "-c enable_seqscan=off -c jit=off"
)


def engine(url: URL) -> Engine:
    """An engine; nothing is opened yet. Raises `MissingExtra` where psycopg is absent."""
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
        raise MissingExtra("A PostgreSQL store", "postgresql") from None
    # Before SQLAlchemy asks for the version, which already is no text where the encoding is none.
    event.listen(made, "connect", _check_encoding, insert=True)
    return made


def hurried(url: URL, seconds: float) -> URL:
    """``url``, with a bound of so many seconds on every wait that the driver or the server can bound."""
    wait_ms = f"{seconds * 1000:.0f}"
    options = (*url.normalized_query.get("options", ()), f"-c lock_timeout={wait_ms} -c statement_timeout={wait_ms}")
    bounds = {"connect_timeout": f"{max(2, seconds):.0f}", "tcp_user_timeout": wait_ms, "options": " ".join(options)}
    return url.update_query_dict(bounds)


def passes(error: DBAPIError) -> bool:
    """Whether another try of the unit, in a new transaction, may work."""
    return getattr(error.orig, "sqlstate", None) in _PASSING


def _check_encoding(driver: Any, record: Any) -> None:
    """Raise `SettingsError` where the driver cannot tell what the bytes of a text stand for."""
    if driver.info.parameter_status("client_encoding") == "SQL_ASCII":
        name, encoding = driver.info.dbname, driver.info.parameter_status("server_encoding")
        driver.close()
        raise SettingsError(
            f"tape_store_url names the database {name!r}, whose encoding is {encoding} and which is read as SQL_ASCII; "
            "create it with ENCODING 'UTF8'"
        )


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
    options = " ".join((_OPTIONS, *url.normalized_query.get("options", ())))
    return {name: value for name, value in bounds.items() if name not in url.query} | {"options": options}
