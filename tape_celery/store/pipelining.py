"""A whole transaction in one way there and back, on PostgreSQL: one statement, or libpq's pipeline of several.

Statements go to the driver as they were compiled once. In a process that had nothing to do, and has lost all from the
processor's caches, what SQLAlchemy does around a statement takes as long as the statement.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Insert, Select, Update
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import CommitUncertain

T = TypeVar("T")

SQL = Insert | Update | Select[Any]
Statement = tuple[SQL, Mapping[str, Any]]
"""And its parameters."""


def commit_alone(
    connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]] | None:
    """Run ``statement``, which writes, and is a transaction by itself; the rows that it returns.

    ``connection`` must be in no transaction. ``None``: nothing was written; the ordinary way manages, or says why not.
    Raises SQLAlchemy's `IntegrityError` for a key that is taken, when nothing was written either, and
    `CommitUncertain` where the connection was lost with the statement on its way, and where what it answered cannot be
    read.
    """

    def run(driver: Any, progress: _Progress) -> list[tuple[Any, ...]]:
        progress.commits = True
        return rows_of(_execute(driver, connection.dialect, statement, parameters))

    return _committed(connection, run)


def commit_at_once(connection: Connection, *statements: Statement) -> list[Any] | None:
    """Run ``statements`` and COMMIT; the driver's cursors, for `rows_of` and their ``rowcount``.

    All is sent before an answer is read, so what must not be committed has to be refused by a statement that fails.
    Each has a snapshot of its own, as in any READ COMMITTED transaction. Else as `commit_alone`.
    """
    import psycopg  # which is absent where another database is the store

    def run(driver: Any, progress: _Progress) -> list[Any]:
        sent: list[Any] = []
        refused: psycopg.Error | None = None
        try:
            with driver.pipeline():
                try:
                    # psycopg's own BEGIN is waited for, in a pipeline too.
                    driver.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                    sent += [_execute(driver, connection.dialect, *one) for one in statements]
                    progress.commits = True
                    driver.execute("COMMIT")
                except psycopg.Error as error:  # told before all was sent; leaving the pipeline tells what came of it
                    refused = error
        except psycopg.Error as error:
            refused = refused or error
        if refused is not None:
            raise refused
        return sent

    return _committed(connection, run) if psycopg.Pipeline.is_supported() else None


def read_alone(connection: Connection, statement: Select[Any]) -> list[tuple[Any, ...]] | None:
    """The rows of ``statement``, which writes nothing, in no transaction; ``None``: the ordinary way tells why not."""

    def run(driver: Any, _: _Progress) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = _execute(driver, connection.dialect, statement, {}).fetchall()
        return rows

    return _committed(connection, run)


@dataclass
class _Progress:
    """How far it has come."""

    commits: bool = False
    """What is sent next may commit."""


def _committed(connection: Connection, run: Callable[[Any, _Progress], T]) -> T | None:
    import psycopg

    driver: Any = connection.connection.driver_connection
    if not _is_open(driver):
        return None
    progress, refused = _Progress(), None
    try:
        driver.autocommit = True  # else psycopg begins a transaction, and waits for the answer
        result = run(driver, progress)
    except psycopg.Error as error:
        refused = error
        with contextlib.suppress(psycopg.Error):
            driver.rollback()
    except BaseException:
        connection.invalidate()  # somebody has stopped it in the middle
        raise
    if driver.closed:
        connection.invalidate()
        if progress.commits:
            raise CommitUncertain(f"the answer to COMMIT was lost: {type(refused).__name__}: {refused}") from refused
        return None
    driver.autocommit = False
    if refused is None:
        return result
    if isinstance(refused, psycopg.errors.UniqueViolation):
        raise IntegrityError(None, None, refused) from refused
    return None


def _is_open(driver: Any) -> bool:
    """Whether the server has not closed it: it is told so now, before anything is sent that could be uncertain."""
    import psycopg

    with contextlib.suppress(psycopg.OperationalError):
        driver.pgconn.consume_input()
    return not driver.closed


def _execute(driver: Any, dialect: Dialect, statement: SQL, parameters: Mapping[str, Any]) -> Any:
    import psycopg

    compiled = _compiled(statement, dialect)
    return psycopg.RawCursor(driver).execute(compiled.text, compiled.values(parameters))


def rows_of(cursor: Any) -> list[tuple[Any, ...]]:
    """The rows of what was committed; what fails in reading them undoes nothing, and so is `CommitUncertain`."""
    try:
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    except Exception as unread:
        raise CommitUncertain(f"what was committed cannot be read: {type(unread).__name__}: {unread}") from unread
    return rows


@dataclass(frozen=True)
class _Compiled:
    """A statement as PostgreSQL itself takes it."""

    text: bytes
    """The same object each time, which the driver finds by its hash: that of a text would be computed anew."""
    parameters: tuple[tuple[str, Callable[[Any], Any] | None], ...]
    """The names of its parameters, in their order, and how one is written, where that is not as it is."""
    constants: Mapping[str, Any]
    """The parameters that SQLAlchemy made of constants, but for those that are in the text."""

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """The parameters in their order."""
        if self.constants:
            given = {**self.constants, **given}
        return [write(given[name]) if write else given[name] for name, write in self.parameters]


@lru_cache(maxsize=256)
def _compiled(statement: SQL, dialect: Dialect) -> _Compiled:
    # One that numbers parameters: names would be looked for in the text each time.
    numbering: Any = type(dialect)(paramstyle="numeric_dollar")  # type: ignore[call-arg]
    compiled: Any = statement.compile(dialect=numbering)
    names: list[str] = compiled.positiontup
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    written = {name: value for name, value in constants.items() if isinstance(value, int) or _PLAIN.fullmatch(value)}
    left = [name for name in names if name not in written]

    def shown(found: re.Match[str]) -> str:
        name = names[int(found[1]) - 1]
        if name in left:
            return f"${left.index(name) + 1}"
        text: str = compiled.render_literal_value(written[name], compiled.binds[name].type)
        return text

    kinds = [compiled.binds[name].type.dialect_impl(dialect) for name in left]
    return _Compiled(
        re.sub(r"\$(\d+)", shown, str(compiled)).encode(),
        tuple((name, kind.bind_processor(dialect)) for name, kind in zip(left, kinds, strict=True)),
        {name: value for name, value in constants.items() if name not in written},
    )


_PLAIN = re.compile(r"[\w .:()%-]*", re.ASCII)
"""What stands in the text of a statement without being quoted in ways that depend on a server's settings."""
