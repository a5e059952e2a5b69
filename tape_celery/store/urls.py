"""Which URLs name a store, and how one is shown."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from tape_celery.errors import SettingsError

EXPECTED = "expected sqlite:///path, postgresql://host/name or mysql://host/name"

_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mysql+pymysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
}
"""The kinds that are supported, and the driver that each goes by. MariaDB is told from MySQL by the server itself."""


def checked(url: str | URL) -> URL:
    """``url`` with the driver that it goes by. Raises `SettingsError` for one that cannot be a store."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingsError(f"tape_store_url is no database URL; {EXPECTED}") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise SettingsError(f"tape_store_url {shown(parsed)!r} is of an unsupported kind; {EXPECTED}")
    if driver == "sqlite":
        if _in_memory(parsed):
            raise SettingsError(
                "tape_store_url names an SQLite database in memory, where intents would not outlive it; give a file"
            )
        return parsed
    return parsed.set(drivername=driver)


def shown(url: URL) -> str:
    """``url`` without what may be secret: libpq takes a password in the query too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _in_memory(url: URL) -> bool:
    name = url.database or ""
    return name in ("", ":memory:") or name.startswith("file:") or url.query.get("mode") == "memory"
