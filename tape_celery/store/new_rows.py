"""The row of a new effect: what its intent says of it is given, and the rest is what every effect begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Insert,
    bindparam,
    false,
    insert,
    literal_column,
    null,
    select,
)

from tape_celery.intent import Intent
from tape_celery.records import Effect
from tape_celery.schema import effects
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tape_celery.store.together import ROWS, at_once, given

_INSTANTS = ("due_at_ms", "sweep_at_ms", "created_at_ms", "updated_at_ms")
_SAID = {field.name for field in fields(Intent)} | {*_INSTANTS, "held_business_key", "order_number"}
_GIVEN: dict[str, Column[Any]] = {column.name: column for column in effects.c if column.name in _SAID}


def insert_all(connection: Connection, database: Database, made: Sequence[Effect]) -> None:
    """Insert the rows of ``made``, each as an intent becomes it.

    Raises SQLAlchemy's `IntegrityError` where a key of one is taken.
    """
    rows = [_given(database, effect) for effect in made]
    if at_once(connection, rows):
        connection.execute(_inserting_given(), {ROWS: rows})
    else:
        connection.execute(_inserting(), rows)


def row_for_now(database: Database, effect: Effect, hint_ms: int) -> tuple[Insert, dict[str, Any]]:
    """The statement, and its parameters, for what is due as soon as it is there: its instants are the database's, which
    says them as it writes them, so that nobody has to ask for the time before. Returns when it was created."""
    row = _given(database, effect)
    for name in _INSTANTS:
        del row[name]
    return _inserting_for_now(database.now), row | {"hint_ms": hint_ms}


def _given(database: Database, effect: Effect) -> dict[str, Any]:
    columns = EFFECTS.columns(effect)
    return EFFECTS.sealed(effect.effect_key, {name: columns[name] for name in _GIVEN}, database.cipher)


@lru_cache(maxsize=16)
def _inserting_for_now(now: ColumnElement[int]) -> Insert:
    instants = dict.fromkeys(_INSTANTS, now) | {"sweep_at_ms": now + bindparam("hint_ms", type_=BigInteger)}
    return _inserting().values(instants).returning(effects.c.created_at_ms)


@cache
def _inserting() -> Insert:
    parameters = {name: bindparam(name, type_=column.type) for name, column in _GIVEN.items()}
    return insert(effects).values({**parameters, **_FIRST})


@cache
def _inserting_given() -> Insert:
    rows = given({name: column.type for name, column in _GIVEN.items()})
    return insert(effects).from_select([*_GIVEN, *_FIRST], select(*rows.c, *_FIRST.values()))


def _constant(value: Any) -> ColumnElement[Any]:
    """As it stands in a statement: a parameter would cost each execution as much as one that is given."""
    if value is None:
        return null()
    if value is False:
        return false()
    return literal_column(f"'{value}'" if isinstance(value, str) else str(value))


_FIRST = {
    field.name: _constant(field.default)
    for field in fields(Effect)
    if field.name in effects.c and field.name not in _SAID
}
"""What an effect has before anything has happened to it."""
