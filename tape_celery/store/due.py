"""What is due and nobody holds: the reads of a sweep, and the marks that keep hints from being published in floods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    literal,
    select,
    update,
)
from sqlalchemy.sql.expression import ColumnElement

from tape_celery.schema import effects
from tape_celery.store import orderings
from tape_celery.store.claims import Reach
from tape_celery.store.database import Database
from tape_celery.store.rows import Kind

WINDOW = 10


@dataclass(frozen=True)
class Due:
    """One row that a sweep has to act on."""

    key: str
    connector: str
    status: str
    expired: bool
    """Its expiry has passed."""
    priority: int
    sweep_at_ms: int
    waits: bool
    """An earlier effect of its ordering key is not settled."""


def due(database: Database, kind: Kind[Any], *, connector: str, reach: Reach, limit: int) -> list[Due]:
    """Up to ``limit`` rows of ``connector`` that a sweep has to act on: the urgent first, then those that wait longest.

    Of a longer backlog than `WINDOW` times as many, those that wait longest are looked at: so neither is a pass longer
    for what waits, nor waits anything for ever.
    """
    anything, urgent_first = _statements(kind, database.now)
    asked = {
        "of_connector": connector,
        "known_names": ["", *sorted(reach.effect_names)],
        "at_most": limit,
        "window": WINDOW * limit,
    }

    def read(connection: Connection) -> Sequence[Row[Any]]:
        # Mostly nothing is due, and to sort what is takes several times as long as to ask that.
        if connection.execute(anything, asked).first() is None:
            return []
        return connection.execute(urgent_first, asked).all()

    return [
        Due(row.key, row.connector, row.status, bool(row.expired), row.priority, row.sweep_at_ms, bool(row.waits))
        for row in database.read(read)
    ]


@lru_cache(maxsize=16)
def _statements(kind: Kind[Any], now: ColumnElement[int]) -> tuple[Select[Any], Select[Any]]:
    """Whether anything is due, and what; made once, as making them takes longer than an idle store takes to answer."""
    columns = kind.table.c
    in_reach = and_(
        columns.connector == bindparam("of_connector"),
        columns.sweep_at_ms.is_not(None),
        columns.sweep_at_ms <= now,
        columns.effect_name.in_(bindparam("known_names", expanding=True)),
    )
    expires = getattr(columns, "expires_at_ms", None)
    window = (
        select(columns[kind.key].label("key"), columns.connector, columns.status, columns.sweep_at_ms)
        .add_columns(
            (expires <= now).label("expired") if expires is not None else (columns.version < 0).label("expired")
        )
        .add_columns(*_of_effects(kind))
        .where(in_reach)
        .order_by(columns.sweep_at_ms)
        .limit(bindparam("window", type_=Integer))
        .subquery("due")
    )
    first = (
        select(window)
        .order_by(window.c.priority.desc(), window.c.sweep_at_ms)
        .limit(bindparam("at_most", type_=Integer))
        .subquery("first_due")
    )
    waits = and_(first.c.ordering_key != "", orderings.has_earlier(first))
    return (
        select(columns[kind.key]).where(in_reach).limit(1),
        select(first, waits.label("waits")).order_by(first.c.priority.desc(), first.c.sweep_at_ms),
    )


def _of_effects(kind: Kind[Any]) -> list[ColumnElement[Any]]:
    columns = kind.table.c
    if kind.table is effects:
        return [columns.priority, columns.ordering_key, columns.order_number]
    return [literal(0).label("priority"), literal("").label("ordering_key"), literal(0).label("order_number")]


def mark_relayed(database: Database, kind: Kind[Any], keys: Sequence[str], *, relay_ms: int) -> list[str]:
    """Take the publishing of hints for ``keys`` upon the caller, for ``relay_ms``.

    Those that another sweep took are left out.
    """
    still_due, relaying = _marks(kind, database.now)

    def mark(connection: Connection) -> list[str]:
        taken = [str(key) for key in connection.execute(still_due, {"keys": list(keys)}).scalars()]
        if taken:
            connection.execute(relaying, {"keys": taken, "relay_ms": relay_ms})
        return taken

    return database.write(mark) if keys else []


@lru_cache(maxsize=16)
def _marks(kind: Kind[Any], now: ColumnElement[int]) -> tuple[Select[Any], Update]:
    columns = kind.table.c
    key = columns[kind.key]
    these = key.in_(bindparam("keys", expanding=True))
    still_due = select(key).where(these, columns.sweep_at_ms <= now).order_by(key).with_for_update(skip_locked=True)
    until = now + bindparam("relay_ms", type_=BigInteger)
    return still_due, update(kind.table).where(these).values(sweep_at_ms=until)


def park(database: Database, rows: Sequence[Due], *, span_ms: int) -> None:
    """Leave effects that wait for their turn alone for so long: they are woken when it comes."""
    if rows:
        seen = [(row.key, row.sweep_at_ms) for row in rows]
        database.write(lambda connection: orderings.park(connection, seen, until_ms=database.now + span_ms))
