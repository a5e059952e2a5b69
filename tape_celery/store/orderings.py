"""Effects of one ordering key, one at a time: their numbers, whose turn it is, and who is next.

Numbers are taken under the lock of the key's row, which is held until the intent is committed: whoever sees a number
sees all smaller ones. What is settled is never sent again, so an effect whose turn it is keeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, FromClause, and_, case, delete, exists, insert, not_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.expression import ColumnElement

from tape_celery.errors import StoreUnavailable
from tape_celery.records import Effect, EffectStatus
from tape_celery.schema import EMPTY, effects, orderings
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tape_celery.store.together import among, one_of

_HOLDING = tuple(status.value for status in EffectStatus if not status.settled)
"""What holds its key: UNKNOWN and STUCK too, for they may have landed, or may be sent again."""
_UNDER_WAY = tuple(status for status in _HOLDING if status != EffectStatus.PENDING)
_ROUNDS = 20
_EARLIER, _WAITING = effects.alias("earlier"), effects.alias("waiting")

KEYS = "ordered_keys"
"""The parameter of `HELD_UP` and `IS_FREE`: a list of keys."""


def take_numbers(connection: Connection, counts: Mapping[str, int]) -> dict[str, int]:
    """Take as many numbers of each ordering key as ``counts`` says; returns the first of each.

    Others that record under the same key wait until the caller's transaction is over.
    """
    # In one order for everybody, so that two that take the same keys do not wait for each other.
    return {key: _take(connection, key, counts[key]) for key in sorted(counts)}


def _take(connection: Connection, key: str, count: int) -> int:
    lock(connection, key, count)
    mine = orderings.c.ordering_key == key
    last: int = connection.execute(select(orderings.c.last_number).where(mine)).scalar_one()
    return last - count + 1


def lock(connection: Connection, key: str, count: int = 1) -> None:
    """Raise the key's number by ``count``: others that want it wait until the caller's transaction is over.

    Raises `StoreUnavailable` in a transaction that cannot see who made the key's row.
    """
    mine = orderings.c.ordering_key == key
    raised = update(orderings).where(mine).values(last_number=orderings.c.last_number + count)
    if connection.execute(raised).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(orderings), {"ordering_key": key, "last_number": count})
    except IntegrityError:
        # Somebody else's first came before ours.
        if not connection.execute(raised).rowcount:
            raise StoreUnavailable(
                f"the turn of {key!r} was taken first by a transaction that this one cannot see; roll back, and run it "
                "again"
            ) from None


def forget(connection: Connection, keys: Collection[str]) -> None:
    """Delete the rows of those of ``keys`` under which there is no effect any more: numbers may start again then.

    Whoever records under a key has its row locked, and needs it: such a row stays, and nobody waits for anybody.
    """
    free = select(orderings.c.ordering_key).where(orderings.c.ordering_key.in_(sorted(keys)))
    locked = connection.execute(free.with_for_update(skip_locked=True)).scalars().all()
    # A statement of its own, which sees what was committed before the locks were had.
    used = exists().where(effects.c.ordering_key == orderings.c.ordering_key, effects.c.ordering_key != EMPTY)
    connection.execute(delete(orderings).where(orderings.c.ordering_key.in_(locked), not_(used)))


def has_earlier(waiting: FromClause) -> ColumnElement[bool]:
    """Whether an earlier effect of the ordering key of ``waiting`` is not settled."""
    return exists().where(
        _EARLIER.c.ordering_key == waiting.c.ordering_key,
        _EARLIER.c.ordering_key != EMPTY,
        one_of(_EARLIER.c.status, _HOLDING),
        _EARLIER.c.order_number < waiting.c.order_number,
    )


HELD_UP = (
    select(_WAITING.c.effect_key)
    .distinct()
    .where(among(_WAITING.c.effect_key, KEYS))
    .where(_WAITING.c.ordering_key != EMPTY, has_earlier(_WAITING))
)
"""Those of `KEYS` whose turn it is not."""
# MySQL updates no table that a subquery of the same statement reads, but for one that it has to build first.
IS_FREE: ColumnElement[bool] = effects.c.effect_key.not_in(select(HELD_UP.subquery("held_up").c.effect_key))
"""The guard of a call: no earlier effect of its ordering key holds the row, which is one of `KEYS`."""


def wake_next(connection: Connection, database: Database, settled: Effect) -> Effect | None:
    """Let a sweep find the effect whose turn it became when ``settled`` was; ``None`` where it is nobody's.

    In the transaction that settles the one before it, so that it is found whoever dies.
    """
    mine = and_(effects.c.ordering_key == settled.ordering_key, effects.c.ordering_key != EMPTY)
    first = select(effects).where(mine, effects.c.status == EffectStatus.PENDING.value)
    first = first.order_by(effects.c.order_number).limit(1)
    for _ in range(_ROUNDS):
        row = connection.execute(first).mappings().first()
        if row is None:
            return None
        found = EFFECTS.read(row)
        if found.order_number < settled.order_number:
            return None
        before = and_(mine, effects.c.status.in_(_UNDER_WAY), effects.c.order_number < found.order_number)
        if connection.execute(select(effects.c.effect_key).where(before).limit(1)).first() is not None:
            return None
        now = database.read_now(connection)
        at = max(now, found.due_at_ms or now)
        at = at if found.expires_at_ms is None else min(at, max(now, found.expires_at_ms))
        wake = update(effects).where(effects.c.effect_key == found.effect_key, effects.c.version == found.version)
        if connection.execute(wake.values(sweep_at_ms=at)).rowcount:
            return found
        # Somebody moved it meanwhile; if that ended it, another is next.
    return None


def park(connection: Connection, rows: Sequence[tuple[str, int]], *, until_ms: ColumnElement[int]) -> None:
    """Leave effects that wait for their turn alone until then, or until they are woken or expire.

    ``rows`` are keys and `sweep_at_ms` as they were read: one that was woken since is not put to sleep again.
    """
    columns = effects.c
    for key, seen in sorted(rows):
        statement = update(effects).where(columns.effect_key == key, columns.sweep_at_ms == seen)
        connection.execute(statement.values(sweep_at_ms=_or_expiry(until_ms)))


def _or_expiry(until_ms: ColumnElement[int]) -> Any:
    columns = effects.c
    return case((columns.expires_at_ms < until_ms, columns.expires_at_ms), else_=until_ms)
