"""Connectors that people have paused: what is due of them waits, and is found again when they are resumed.

The guard is in the claim itself, so nobody has to be told. A sweep puts what waits to sleep, so that neither hints nor
its own reads are spent on it; resuming wakes it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, exists, insert, not_, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from tape_celery.records import EffectStatus, Pause
from tape_celery.schema import connectors
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind

BATCH = 1_000
"""How many rows are put to sleep or woken in one transaction."""

_PAUSED = connectors.c.paused.is_(true())
_NAMES = select(connectors.c.connector).where(_PAUSED)
_AMONG = _NAMES.where(connectors.c.connector.in_(bindparam("among", expanding=True)))


def is_not_paused(connector: ColumnElement[str]) -> ColumnElement[bool]:
    """The guard of a call: its connector is not paused."""
    return not_(exists().where(connectors.c.connector == connector, _PAUSED))


def pause(database: Database, connector: str, *, reason: str, actor: str) -> Pause:
    """Pause ``connector``, or say anew why. What is claimed from now on is of others. Raises `StoreUnavailable`."""
    return _say(database, connector, paused=True, reason=reason, actor=actor)


def resume(database: Database, connector: str, *, reason: str, actor: str) -> int:
    """End the pause of ``connector`` and wake what waits of it; returns how many rows.

    When it dies in between, the rest wakes by itself in some minutes, or when it is called again. Raises
    `StoreUnavailable`.
    """
    _say(database, connector, paused=False, reason=reason, actor=actor)
    return sum(_wake(database, kind, connector) for kind in (EFFECTS, OBLIGATIONS))


def _say(database: Database, connector: str, *, paused: bool, reason: str, actor: str) -> Pause:
    said: dict[str, Any] = {"paused": paused, "reason": reason, "actor": actor}
    mine = connectors.c.connector == connector
    changed = (
        update(connectors).where(mine).values(**said, updated_at_ms=database.now, version=connectors.c.version + 1)
    )

    def write(connection: Connection) -> Pause:
        # It waits here for a sweep that puts rows of it to sleep, and so wakes all of them afterwards.
        if not connection.execute(changed).rowcount:
            first = {**said, "connector": connector, "updated_at_ms": database.read_now(connection), "version": 1}
            try:
                with connection.begin_nested():
                    connection.execute(insert(connectors), first)
            except IntegrityError:
                connection.execute(changed)  # another person was first
        return _read(connection.execute(select(connectors).where(mine)).mappings().one())

    return database.write(write)


def pauses(database: Database) -> list[Pause]:
    """The connectors that are paused, by name."""
    statement = select(connectors).where(_PAUSED).order_by(connectors.c.connector)
    return [_read(row) for row in database.read(lambda connection: connection.execute(statement).mappings().all())]


def names(database: Database) -> set[str]:
    """The names of the connectors that are paused."""
    return set(database.read(lambda connection: connection.execute(_NAMES).scalars().all()))


def paused_of(database: Database, among: Collection[str]) -> set[str]:
    """Those of the connectors ``among`` that are paused."""
    asked = {"among": list(among)}
    return set(database.read(lambda connection: connection.execute(_AMONG, asked).scalars().all()))


def _read(row: Any) -> Pause:
    return Pause(
        connector=row["connector"],
        reason=row["reason"],
        actor=row["actor"],
        since_ms=row["updated_at_ms"],
        version=row["version"],
    )


def put_to_sleep(database: Database, kind: Kind[Any], connector: str, *, span_ms: int, at_most: int) -> list[str]:
    """Leave what is due of a paused connector alone for so long, or until it expires; returns the keys."""
    asleep: list[str] = []
    while len(asleep) < at_most:
        batch = database.write(lambda connection: _put_to_sleep(connection, database, kind, connector, span_ms))
        asleep += batch
        if len(batch) < BATCH:
            break
    return asleep


def _put_to_sleep(
    connection: Connection, database: Database, kind: Kind[Any], connector: str, span_ms: int
) -> list[str]:
    # Locked until this is committed, so that who resumes it meanwhile wakes these rows too.
    still = _NAMES.where(connectors.c.connector == connector).with_for_update()
    if connection.execute(still).first() is None:
        return []
    columns, now = kind.table.c, database.now
    waits = and_(columns.connector == connector, columns.status == EffectStatus.PENDING.value)
    until: Any = now + span_ms
    if (expires := getattr(columns, "expires_at_ms", None)) is not None:
        waits = and_(waits, or_(expires.is_(None), expires > now))
        until = case((expires < until, expires), else_=until)
    due = and_(waits, columns.sweep_at_ms <= now)
    return _set(connection, kind, due, {"sweep_at_ms": until})


def _wake(database: Database, kind: Kind[Any], connector: str) -> int:
    """Let the next sweep find every row that is due; those that are not are found by themselves."""
    columns, now, number = kind.table.c, database.now, 0
    waits = and_(columns.connector == connector, columns.status == EffectStatus.PENDING.value)
    asleep = and_(waits, columns.due_at_ms <= now, columns.sweep_at_ms > now)
    while True:
        woken = database.write(lambda connection: _set(connection, kind, asleep, {"sweep_at_ms": columns.due_at_ms}))
        number += len(woken)
        if len(woken) < BATCH:
            return number


def _set(connection: Connection, kind: Kind[Any], which: ColumnElement[bool], values: dict[str, Any]) -> list[str]:
    key = kind.table.c[kind.key]
    found = select(key).where(which).order_by(kind.table.c.sweep_at_ms).limit(BATCH)
    keys = list(connection.execute(found).scalars())
    if keys:
        connection.execute(update(kind.table).where(key.in_(keys), which).values(values))
    return keys
