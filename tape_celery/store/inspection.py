"""Reading for people and for callers: one row, lists, the journal, counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, func, select, true

from tape_celery.records import Effect, EffectStatus, JournalEntry, Obligation, ObligationStatus
from tape_celery.schema import effects, installation, journal, obligations
from tape_celery.store import listing
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind, R, by_keys, read_entry

MOST = 10_000
"""The most rows that one listing returns."""


@dataclass(frozen=True)
class Count:
    """How many rows of one connector are in one state, and since when the oldest was made."""

    connector: str
    status: str
    number: int
    oldest_ms: int
    more: bool = False
    """There are more than were counted, and the oldest is that of those."""


def get_effect(database: Database, effect_key: str) -> Effect | None:
    """The effect with that key."""
    return _one(database, EFFECTS, effect_key)


def get_obligation(database: Database, obligation_key: str) -> Obligation | None:
    """The obligation with that key."""
    return _one(database, OBLIGATIONS, obligation_key)


def get_many(database: Database, kind: Kind[R], keys: list[str]) -> dict[str, R]:
    """Those of ``keys`` that exist."""
    rows = database.read(lambda connection: connection.execute(by_keys(kind), {"keys": keys}).mappings().all())
    return {row[kind.key]: kind.opened(kind.read(row), database.cipher) for row in rows}


def list_effects(
    database: Database,
    *,
    status: EffectStatus | None = None,
    connector: str | None = None,
    run_id: str | None = None,
    business_key: str | None = None,
    limit: int = 100,
) -> list[Effect]:
    """Effects that match every filter given, newest first."""
    asked = {"status": status, "connector": connector, "run_id": run_id, "business_key": business_key}
    filters = {name: value for name, value in asked.items() if value is not None}
    matches = and_(true(), *(effects.c[name] == value for name, value in filters.items()))
    number = min(limit, MOST)

    def read(connection: Connection) -> Sequence[RowMapping]:
        parts = listing.parts(connection, status, connector, run_id, business_key)
        keys = listing.newest(connection, parts, matches, number)
        found = select(effects).where(effects.c.effect_key.in_(keys)).order_by(effects.c.effect_key.desc())
        return connection.execute(found).mappings().all() if keys else []

    # One may have moved since its key was found. Not asked of the database: SQLite would take the index of states.
    found = [EFFECTS.opened(EFFECTS.read(row), database.cipher) for row in database.read(read)]
    return [effect for effect in found if all(getattr(effect, name) == value for name, value in filters.items())]


def list_obligations(
    database: Database,
    *,
    run_id: str | None = None,
    effect_key: str | None = None,
    status: ObligationStatus | None = None,
    limit: int = MOST,
) -> list[Obligation]:
    """Obligations that match every filter given, oldest first."""
    filters = {"run_id": run_id, "effect_key": effect_key, "status": status and status.value}
    statement = _filtered(OBLIGATIONS, filters).order_by(obligations.c.obligation_key).limit(min(limit, MOST))
    return _listed(database, OBLIGATIONS, statement)


def read_journal(database: Database, key: str) -> list[JournalEntry]:
    """The history of one effect or obligation, oldest entry first."""
    statement = select(journal).where(journal.c.key == key).order_by(journal.c.seq)
    rows = database.read(lambda connection: connection.execute(statement).mappings().all())
    return [read_entry(row) for row in rows]


def count_effects(database: Database, at_most: int | None = None) -> list[Count]:
    """How many effects each connector has in each state; with ``at_most``, of none more than that is counted."""
    if at_most is None:
        return _counted(database, EFFECTS)
    return database.read(lambda connection: _counted_some(connection, EFFECTS, at_most, listing.pairs(connection)))


def count_obligations(database: Database, at_most: int | None = None) -> list[Count]:
    """How many obligations each connector has in each state; with ``at_most``, of no state more than that is counted,
    whosever they are."""
    if at_most is None:
        return _counted(database, OBLIGATIONS)
    of_state = [obligations.c.status == status for status in ObligationStatus]
    return database.read(lambda connection: _counted_some(connection, OBLIGATIONS, at_most, of_state))


def now_ms(database: Database) -> int:
    """Now, on the database's clock."""
    return database.read(database.read_now)


def installation_id(database: Database) -> str:
    """The id that this store was given when it was created."""
    statement = select(installation.c.installation_id)
    return database.read(lambda connection: str(connection.execute(statement).scalar_one()))


def _one(database: Database, kind: Kind[R], key: str) -> R | None:
    return get_many(database, kind, [key]).get(key)


def _listed(database: Database, kind: Kind[R], statement: Select[Any]) -> list[R]:
    rows = database.read(lambda connection: connection.execute(statement).mappings().all())
    return [kind.opened(kind.read(row), database.cipher) for row in rows]


def _filtered(kind: Kind[Any], filters: dict[str, str | None]) -> Select[Any]:
    statement = select(kind.table)
    for name, value in filters.items():
        if value is not None:
            statement = statement.where(kind.table.c[name] == value)
    return statement


def _counted(database: Database, kind: Kind[Any]) -> list[Count]:
    columns = kind.table.c
    statement = (
        select(
            columns.connector,
            columns.status,
            func.count().label("number"),
            func.min(columns.created_at_ms).label("oldest_ms"),
        )
        .group_by(columns.connector, columns.status)
        .order_by(columns.connector, columns.status)
    )
    rows = database.read(lambda connection: connection.execute(statement).all())
    return [Count(row.connector, row.status, row.number, row.oldest_ms) for row in rows]


def _counted_some(
    connection: Connection, kind: Kind[Any], at_most: int, parts: Sequence[ColumnElement[bool]]
) -> list[Count]:
    """Of each part, which one index has in order, the first ``at_most``."""
    columns, found = kind.table.c, list[Count]()
    for part in parts:
        first = select(columns.connector, columns.status, columns.created_at_ms).where(part)
        some = first.order_by(columns[kind.key]).limit(at_most + 1).subquery()
        counted = select(some.c.connector, some.c.status, func.count(), func.min(some.c.created_at_ms))
        rows = connection.execute(counted.group_by(some.c.connector, some.c.status)).all()
        more = sum(number for _, _, number, _ in rows) > at_most
        found += [Count(name, status, min(number, at_most), oldest, more) for name, status, number, oldest in rows]
    return sorted(found, key=lambda count: (count.connector, count.status))
