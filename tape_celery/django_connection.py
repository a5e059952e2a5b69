"""Django's database connection as a SQLAlchemy one, for as long as it takes to record an intent on it.

It stays Django's: what SQLAlchemy would begin, commit, roll back or close is left undone, and only savepoints are set.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionProxy
from sqlalchemy import Connection, Engine, NullPool, create_engine

from tape_celery.errors import WrongSession

_DIALECTS = {
    "sqlite3": "sqlite+pysqlite",
    "psycopg": "postgresql+psycopg",
    "psycopg2.extensions": "postgresql+psycopg2",
}
"""By the module of the driver's connection."""

_lent: ContextVar[Any] = ContextVar("_lent")


def is_one(session: Any) -> bool:
    """Whether ``session`` is ``django.db.connection`` or one of ``django.db.connections``."""
    return isinstance(session, BaseDatabaseWrapper | ConnectionProxy)


@contextlib.contextmanager
def borrowed(wrapper: Any) -> Iterator[Connection]:
    """A SQLAlchemy connection in Django's transaction; raises `WrongSession` outside of ``transaction.atomic()``."""
    if not wrapper.in_atomic_block:
        raise WrongSession("session= is a connection of Django outside of transaction.atomic(): it commits by itself")
    wrapper.ensure_connection()
    module = type(wrapper.connection).__module__
    dialect = next((known for name, known in _DIALECTS.items() if f"{module}.".startswith(f"{name}.")), None)
    if dialect is None:
        raise WrongSession(f"session= is a connection of Django by {module}; PostgreSQL and SQLite are supported")
    token = _lent.set(_Borrowed(wrapper.connection))
    try:
        with _engine(dialect).connect() as connection:
            yield connection
    finally:
        _lent.reset(token)


def follow(wrapper: Any, committed: Callable[[], None], rolled_back: Callable[[], None]) -> None:
    """Call the one or the other when the transaction, or the savepoint that this happens in, has ended."""
    alias = getattr(wrapper, "alias", DEFAULT_DB_ALIAS)
    transaction.on_commit(_Ending(committed, rolled_back), using=alias, robust=True)


class _Ending:
    """Django keeps it until the COMMIT, and lets go of it at a roll-back without a word."""

    def __init__(self, committed: Callable[[], None], rolled_back: Callable[[], None]) -> None:
        self._committed = committed
        self._gone = weakref.finalize(self, rolled_back)
        self._gone.atexit = False

    def __call__(self) -> None:
        self._gone.detach()
        self._committed()


class _Borrowed:
    """A driver's connection without what would change it for its owner."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def _nothing(self, *_: Any, **__: Any) -> None:
        """What SQLAlchemy does to a connection that is its own."""

    commit = rollback = close = create_function = add_notice_handler = _nothing


@cache
def _engine(dialect: str) -> Engine:
    options = {} if dialect.startswith("sqlite") else {"use_native_hstore": False}
    return create_engine(
        f"{dialect}://",
        creator=lambda: _lent.get(),
        poolclass=NullPool,
        hide_parameters=True,
        **options,
    )
