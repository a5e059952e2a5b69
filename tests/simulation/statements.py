"""The product's statements as SQLAlchemy compiles them, run by sqlite3 itself.

To go through SQLAlchemy takes several times as long as SQLite does, and there are three million of them in a run. What
comes to SQLite is the same, and so is what comes back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData


class Statements:
    """Runs statements on the connection that SQLAlchemy has too; those that are met again without it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._raw: Any = connection.connection.driver_connection
        self._made: WeakKeyDictionary[Any, dict[Any, _Made]] = WeakKeyDictionary()
        """By the statement and the names of what it is given; a statement that is made for one use is let go."""

    def execute(self, statement: Any, parameters: Any) -> Any:
        """As `Connection.execute`; of the result, what the product uses of it."""
        met = self._made.get(statement)
        if met is None:
            self._made[statement] = {}
            return self._connection.execute(statement, parameters)
        many = isinstance(parameters, list)
        first: Mapping[str, Any] = (parameters[0] if many else parameters) or {}
        names = frozenset(first)
        made = met.get(names)
        if made is None:
            made = met[names] = _Made(statement, sorted(names), self._connection.dialect)
        try:
            if many:
                text, _ = made.expanded(first)
                cursor = self._raw.executemany(text, [made.expanded(each)[1] for each in parameters])
            else:
                cursor = self._raw.execute(*made.expanded(first))
        except sqlite3.Error:
            return self._connection.execute(statement, parameters)  # which fails again, as the product knows it
        return made.result(cursor)


class _Made:
    """One statement, compiled, for parameters of some names."""

    def __init__(self, statement: Any, names: Sequence[str], dialect: Any) -> None:
        self._compiled = statement.compile(dialect=dialect, column_keys=names or None)
        binds = self._compiled.binds
        self._named = {bind.key: name for name, bind in binds.items()}
        self._always = {name: bind.effective_value for name, bind in binds.items() if not bind.required}
        self._lists = [name for name, bind in binds.items() if bind.expanding]
        self._to_sqlite = {name: _of(bind.type, dialect).bind_processor(dialect) for name, bind in binds.items()}
        self._texts: dict[tuple[int, ...], tuple[str, list[tuple[str, int | None, Any]]]] = {}
        """By the lengths of its lists: the text, and for each mark of it the parameter, the place in it if it is a
        list, and how SQLite is given it."""
        columns = statement.exported_columns if statement.is_dml else statement.selected_columns
        from_sqlite = [_of(column.type, dialect).result_processor(dialect, None) for column in columns]
        self._from_sqlite = from_sqlite if any(from_sqlite) else None
        self._keys: Any = None

    def expanded(self, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Its text, and what stands for the marks in it."""
        given = self._always | {self._named[key]: value for key, value in parameters.items() if key in self._named}
        lengths = tuple([len(given[name]) for name in self._lists])
        found = self._texts.get(lengths)
        if found is None:
            found = self._texts[lengths] = self._expand(given)
        text, marks = found
        values = [given[name] if place is None else given[name][place] for name, place, _ in marks]
        return text, [value if to is None else to(value) for value, (_, _, to) in zip(values, marks, strict=True)]

    def _expand(self, given: Mapping[str, Any]) -> tuple[str, list[tuple[str, int | None, Any]]]:
        state = self._compiled.construct_expanded_state(dict(given))
        places = {
            mark: (name, place) for name, all_ in state.parameter_expansion.items() for place, mark in enumerate(all_)
        }
        marks = [places.get(mark, (mark, None)) for mark in state.positiontup]
        return state.statement, [(name, place, self._to_sqlite[name]) for name, place in marks]

    def result(self, cursor: sqlite3.Cursor) -> Any:
        """What came of it."""
        if cursor.description is None:
            return SimpleNamespace(rowcount=cursor.rowcount)
        if self._keys is None:
            self._keys = SimpleResultMetaData([name for name, *_ in cursor.description])
        rows: list[Any] = cursor.fetchall()
        if self._from_sqlite is not None:
            rows = [self._read(row) for row in rows]
        return IteratorResult(self._keys, iter(rows))

    def _read(self, row: Sequence[Any]) -> tuple[Any, ...]:
        processors: Sequence[Callable[[Any], Any] | None] = self._from_sqlite or ()
        return tuple([
            value if read is None else read(value) for value, read in zip(row, processors, strict=True)
        ])  # fmt: skip


def _of(type_: Any, dialect: Any) -> Any:
    return type_.dialect_impl(dialect)
