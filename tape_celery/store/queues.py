"""A bound on how many effects of a connector may wait to be sent, looked at as an intent is recorded.

Where nobody has set one, it is a condition in a statement that is needed anyhow: no statement more, no way there and
back. What counts is each PENDING effect, whatever it waits for, as far as the transaction sees: so the bound may be
exceeded by what others are recording at the same moment, and by no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Select,
    String,
    bindparam,
    exists,
    func,
    literal_column,
    select,
)

from tape_celery.errors import QueueFull
from tape_celery.records import EffectStatus
from tape_celery.schema import effects, flows
from tape_celery.store.database import Database

COUNTED = 1_000
"""So many above the bound are counted, for the message of the error."""

_CALLS = flows.c.verb == literal_column("'call'", String)
_PENDING = literal_column(f"'{EffectStatus.PENDING}'", String)
_BOUNDED = (_CALLS, flows.c.most_waiting > 0)


def is_bounded(connector: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that a connector's effects may not wait in any number."""
    return exists().where(flows.c.connector == connector, *_BOUNDED)


def is_exceeded(connector: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that more wait than may, in one statement; PostgreSQL's."""
    waits = effects.alias("waits")
    some = select(waits.c.connector).where(waits.c.connector == flows.c.connector, waits.c.status == _PENDING)
    counted = some.limit(flows.c.most_waiting + 1).correlate(flows).subquery("counted")
    number = select(func.count()).select_from(counted).correlate(flows).scalar_subquery()
    return exists().where(flows.c.connector == connector, *_BOUNDED, flows.c.most_waiting < number)


def any_bounded() -> ColumnElement[bool]:
    """The condition that any connector's effects may not wait in any number."""
    return exists().where(*_BOUNDED)


def now_and_any_bounded(connection: Connection, database: Database) -> tuple[int, bool]:
    """The database's time, and whether there is any bound; in one way there and back."""
    now_ms, bounded = connection.execute(_now_and_any_bounded(database.now)).one()
    return now_ms, bool(bounded)


@lru_cache(maxsize=16)
def _now_and_any_bounded(now: ColumnElement[int]) -> Executable:
    return select(now, any_bounded())


def refuse_full(connection: Connection, added: Mapping[str, int]) -> None:
    """Raise `QueueFull` where more effects of a connector wait than may, with those that were ``added`` just now."""
    for connector, number in sorted(added.items()):
        limit = connection.execute(_bound(), {"of_connector": connector}).scalar()
        if limit is None:
            continue
        found = waiting(connection, connector, limit + number + COUNTED)
        if found > limit:
            raise QueueFull(connector, limit, found - number, number)


@cache
def _bound() -> Select[Any]:
    return select(flows.c.most_waiting).where(flows.c.connector == bindparam("of_connector"), *_BOUNDED)


def waiting(connection: Connection, connector: str, at_most: int) -> int:
    """How many effects of a connector wait to be sent, now or later; counted to ``at_most``."""
    number: int = connection.execute(_waiting(), {"of_connector": connector, "at_most": at_most}).scalar_one()
    return number


@cache
def _waiting() -> Select[Any]:
    mine = (effects.c.connector == bindparam("of_connector"), effects.c.status == _PENDING)
    some = select(effects.c.connector).where(*mine).limit(bindparam("at_most", type_=Integer)).subquery("counted")
    return select(func.count()).select_from(some)
