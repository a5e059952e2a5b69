"""The invariants of `Tape.audit` in one statement, compiled once for each kind of database, for who asks often.

To compile the audit takes a hundred times as long as to run it over a few rows, and each new `Tape` compiles its own.
"""

from __future__ import annotations

from sqlalchemy import Dialect, String, cast, literal, select, union_all

from tape_celery.store import audit
from tape_celery.store.database import Database

_compiled: dict[str, str] = {}


def broken_invariants(database: Database) -> list[tuple[str, str, str]]:
    """What the audit finds in the whole store, of safety: the invariant, the key, a detail."""
    dialect = database._engine.dialect
    if dialect.name not in _compiled:
        _compiled[dialect.name] = _all_in_one(dialect)
    statement = _compiled[dialect.name]
    rows = database.read(lambda connection: connection.exec_driver_sql(statement).all())
    return [(name, _text(key), _text(detail)) for name, key, detail in rows]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # MariaDB keeps keys as bytes


def _all_in_one(dialect: Dialect) -> str:
    parts = []
    for name, statement in audit._safety():
        found = statement.subquery()
        key, detail = found.c
        parts.append(select(literal(name), key, cast(detail, String(200))))
    return str(union_all(*parts).compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
