"""Many keys or rows in one statement.

PostgreSQL gets them as one parameter, whatever their number: so the statement stays the same, its plan is kept, and
constraints and indexes are prepared once for all rows. To the others each key is a parameter, and each row an execution
of the statement, which is as fast there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Insert,
    Table,
    TableValuedAlias,
    Text,
    TypeDecorator,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement, FunctionElement
from sqlalchemy.types import TypeEngine

ROWS = "rows"
"""The parameter of `given`."""

_compact = json.JSONEncoder(separators=(",", ":")).encode


class _Packed(TypeDecorator[Any]):
    """A list as the text of its JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        return _compact(value)


class among(FunctionElement[bool]):  # noqa: N801 - it reads as the operator that it is
    """Whether the text of a column is one of the list that the parameter ``name`` has."""

    type = Boolean()
    inherit_cache = True

    def __init__(self, wanted: ColumnElement[str], name: str) -> None:
        super().__init__(wanted, bindparam(name, expanding=True))

    def self_group(self, against: Any = None) -> Any:
        """As it is: among other conditions a function would be compared with 1 where there is no boolean type."""
        return self


@compiles(among)
def _in(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    wanted, listed = element.clauses
    return compiler.process(wanted.in_(listed), **kw)


@compiles(among, "postgresql")
def _any(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    wanted, listed = element.clauses
    # Out of a subquery: of a list that it sees, the server would make a plan for its length, each time anew.
    packed = compiler.process(cast(bindparam(listed.key, type_=_Packed), JSON), **kw)
    return f"{compiler.process(wanted, **kw)} = ANY (ARRAY(SELECT json_array_elements_text({packed})))"


def one_of(wanted: ColumnElement[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """``wanted IN (…)`` of values that are part of the statement, a parameter each: a list that is one parameter of
    SQLAlchemy's is written into the text of the statement anew each time."""
    return wanted.in_([literal(value, wanted.type) for value in values])


def given(types: Mapping[str, TypeEngine[Any]], parameter: str = ROWS) -> TableValuedAlias:
    """The rows of the parameter ``parameter`` as a table, on PostgreSQL; ``types`` names its columns."""
    columns = [column(name, kind) for name, kind in types.items()]
    records = func.json_to_recordset(cast(bindparam(parameter, type_=_Packed), JSON))
    return records.table_valued(*columns).render_derived(name=f"given_{parameter}", with_types=True)


def at_once(connection: Connection, rows: Sequence[Any]) -> bool:
    """Whether these rows are written by one statement that gets them from `given`."""
    return len(rows) > 1 and connection.dialect.name == "postgresql"


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that have all columns of their table."""
    if at_once(connection, rows):
        connection.execute(_insert_given(table), {ROWS: rows})
    elif rows:
        connection.execute(_insert(table), rows)


@cache
def _insert(table: Table) -> Insert:
    return insert(table)


@cache
def _insert_given(table: Table) -> Insert:
    listed: list[Column[Any]] = list(table.c)
    rows = given({one.name: one.type for one in listed})
    return insert(table).from_select(listed, select(*rows.c))
