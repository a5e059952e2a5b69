"""A whole transaction in one way there and back: libpq's pipeline, on PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Insert
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import CommitUncertain

Statement = tuple[Insert, Mapping[str, Any]]
"""And its parameters."""


def commit_at_once(connection: Connection, *statements: Statement) -> tuple[Any, ...] | None:
    """Run ``statements`` and COMMIT; the row that the first one returns.

    All is sent before an answer is read, so what must not be committed has to be refused by a statement that fails.
    Each has a snapshot of its own, as in any READ COMMITTED transaction. ``connection`` must be in no transaction.

    ``None``: nothing was written; the ordinary way manages, or says why not. Raises SQLAlchemy's `IntegrityError` for a
    key that is taken, when nothing was written either, and `CommitUncertain` where the connection was lost with the
    COMMIT on its way.
    """
    import psycopg  # which is absent where another database is the store

    driver: Any = connection.connection.driver_connection
    if not psycopg.Pipeline.is_supported() or not _is_open(driver):
        return None
    end, refused = None, None
    try:
        driver.autocommit = True  # psycopg's own BEGIN is waited for, in a pipeline too
        with driver.pipeline():
            try:
                driver.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                sent = [_execute(driver, connection.dialect, *one) for one in statements]
                end = driver.cursor()
                end.execute("COMMIT")
            except psycopg.Error as error:  # told before all was sent; leaving the pipeline tells what came of it
                refused = error
    except psycopg.Error as error:
        refused = refused or error
    except BaseException:
        connection.invalidate()  # somebody has stopped it in the middle
        raise
    if refused is not None:
        with contextlib.suppress(psycopg.Error):
            driver.rollback()
    if driver.closed:
        connection.invalidate()
        if end is not None:
            raise CommitUncertain(f"the answer to COMMIT was lost: {type(refused).__name__}: {refused}") from refused
        return None
    driver.autocommit = False
    if refused is None:
        row: tuple[Any, ...] = sent[0].fetchone()
        return row
    if isinstance(refused, psycopg.errors.UniqueViolation):
        raise IntegrityError(None, None, refused) from refused
    return None


def _is_open(driver: Any) -> bool:
    """Whether the server has not closed it: it is told so now, before anything is sent that could be uncertain."""
    import psycopg

    with contextlib.suppress(psycopg.OperationalError):
        driver.pgconn.consume_input()
    return not driver.closed


def _execute(driver: Any, dialect: Dialect, statement: Insert, parameters: Mapping[str, Any]) -> Any:
    text, constants = _compiled(statement, dialect)
    return driver.execute(text, {**constants, **parameters})


@lru_cache(maxsize=64)
def _compiled(statement: Insert, dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """Its text, and those of its parameters that SQLAlchemy has made of constants."""
    compiled = statement.compile(dialect=dialect)
    return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}
