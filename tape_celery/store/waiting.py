"""What waits for a pause, a place, a rate or a breaker: it sleeps, so that neither hints nor a sweep's reads are spent
on it, and is taken out of its sleep in its order as far as some may go.

Of a row that waits, ``sweep_at_ms`` tells which: by then or later than a relay from now it has no hint on its way; in
between, it has. What is urgent sleeps for shorter, and so stands before the others in the order of the index.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    case,
    literal,
    not_,
    or_,
    select,
    true,
    update,
)

from tape_celery import flow
from tape_celery.flow import Verb
from tape_celery.records import EffectStatus
from tape_celery.schema import EMPTY, effects
from tape_celery.store import flows, orderings
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind

BATCH = 1_000
"""How many rows are put to sleep or woken in one transaction, and among how many the next ones are found."""
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Next:
    """A row whose turn it is."""

    kind: Kind[Any]
    verb: Verb
    key: str
    priority: int
    wait_ms: int
    """It may go so much later."""

    @property
    def hinted_as(self) -> str:
        """The verb of its hint."""
        if self.kind is OBLIGATIONS:
            return "compensate"
        return "dispatch" if self.verb == "call" else "observe"


def put_to_sleep(
    database: Database, kind: Kind[Any], connector: str, verb: Verb, *, relay_ms: int, at_most: int
) -> list[str]:
    """Leave what is due of a flow that does not pass freely alone for some minutes, or until it expires; the keys."""
    asleep: list[str] = []
    while len(asleep) < at_most:
        batch = database.write(lambda connection: _put_to_sleep(connection, database, kind, connector, verb, relay_ms))
        asleep += batch
        if len(batch) < BATCH:
            break
    return asleep


def _put_to_sleep(
    connection: Connection, database: Database, kind: Kind[Any], connector: str, verb: Verb, relay_ms: int
) -> list[str]:
    # Locked until this is committed, so that who lets it go on meanwhile wakes these rows too.
    one = flows.get(connection, connector, verb, lock=True)
    if one is None or not (one.paused or one.controlled):
        return []
    found, setting = _falling_asleep(kind, verb, database.now)
    keys = list(connection.execute(found, {"of_connector": connector}).scalars())
    if keys:
        connection.execute(setting, {"of_connector": connector, "keys": keys, "relay_ms": relay_ms})
    return keys


@lru_cache(maxsize=16)
def _falling_asleep(kind: Kind[Any], verb: Verb, now: ColumnElement[int]) -> tuple[Select[Any], Update]:
    due = and_(_waits(kind, verb, now), kind.table.c.sweep_at_ms <= now)
    return _some(kind, due, _asleep_until(kind, now, bindparam("relay_ms", type_=BigInteger)))


def sleep(
    connection: Connection, database: Database, kind: Kind[Any], keys: Sequence[str], verb: Verb, relay_ms: int
) -> None:
    """Put those of ``keys`` that wait, and whose hints have come to nothing, to sleep; the flow is locked."""
    if keys:
        asked = {"keys": sorted(keys), "relay_ms": relay_ms}
        connection.execute(_sleeping(kind, verb, database.now), asked)


@lru_cache(maxsize=16)
def _sleeping(kind: Kind[Any], verb: Verb, now: ColumnElement[int]) -> Update:
    columns, relay_ms = kind.table.c, bindparam("relay_ms", type_=BigInteger)
    these = columns[kind.key].in_(bindparam("keys", expanding=True))
    awake = columns.sweep_at_ms <= now + relay_ms
    return (
        update(kind.table)
        .where(these, _waits(kind, verb, now), awake)
        .values(sweep_at_ms=_asleep_until(kind, now, relay_ms))
    )


def _asleep_until(kind: Kind[Any], now: ColumnElement[int], relay_ms: Any) -> Any:
    columns = kind.table.c
    if kind.table is not effects:
        return now + relay_ms + 10 * MINUTE_MS
    until = now + relay_ms + (10 - columns.priority) * MINUTE_MS
    return case((columns.expires_at_ms < until, columns.expires_at_ms), else_=until)


def _waits(kind: Kind[Any], verb: Verb, now: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a row is due for the verb, and nobody has it."""
    columns = kind.table.c
    if verb == "look":
        free = or_(columns.lease_until_ms.is_(None), columns.lease_until_ms <= now)
        return and_(columns.status.in_(kind.looking), columns.due_at_ms <= now, free)
    waits = and_(columns.status == EffectStatus.PENDING.value, columns.due_at_ms <= now)
    if kind.table is not effects:
        return waits
    return and_(waits, or_(columns.expires_at_ms.is_(None), columns.expires_at_ms > now))


def wake(database: Database, connector: str, verb: Verb) -> int:
    """Let the next sweep find every row that waits; returns how many slept."""
    return sum(_wake(database, kind, connector, verb) for kind in (EFFECTS, OBLIGATIONS))


def _wake(database: Database, kind: Kind[Any], connector: str, verb: Verb) -> int:
    found, setting = _waking(kind, verb, database.now)

    def wake_some(connection: Connection) -> int:
        keys = list(connection.execute(found, {"of_connector": connector}).scalars())
        if keys:
            connection.execute(setting, {"of_connector": connector, "keys": keys})
        return len(keys)

    number = 0
    while True:
        woken = database.write(wake_some)
        number += woken
        if woken < BATCH:
            return number


@lru_cache(maxsize=16)
def _waking(kind: Kind[Any], verb: Verb, now: ColumnElement[int]) -> tuple[Select[Any], Update]:
    columns = kind.table.c
    return _some(kind, and_(_waits(kind, verb, now), columns.sweep_at_ms > now), columns.due_at_ms)


def _some(kind: Kind[Any], which: ColumnElement[bool], sweep_at_ms: Any) -> tuple[Select[Any], Update]:
    """What finds up to a batch of a connector's rows, and what sets those of its keys that are so still."""
    columns = kind.table.c
    key, mine = columns[kind.key], and_(columns.connector == bindparam("of_connector"), which)
    found = select(key).where(mine).order_by(columns.sweep_at_ms).limit(BATCH)
    these = key.in_(bindparam("keys", expanding=True))
    return found, update(kind.table).where(these, mine).values(sweep_at_ms=sweep_at_ms)


# --- whose turn it is ---


def next_up(
    database: Database,
    connector: str,
    verb: Verb,
    *,
    effect_names: Collection[str],
    lease_ms: int,
    relay_ms: int,
    span_ms: int,
    most: int,
) -> list[Next]:
    """The next rows of a connector with a limit, at most as many as may go within ``span_ms``, and when each may.

    The caller has to hint them: for ``relay_ms`` nobody else does. Inverses go before dispatches, the urgent before
    the others, then what is due longest, among the `BATCH` that slept first.
    """

    def take(connection: Connection) -> list[Next]:
        one = flows.get(connection, connector, verb)
        if one is None or not one.controlled:
            return []
        now_ms = database.read_now(connection)
        under_way = flows.in_flight(connection, connector, verb, database.now, lease_ms)
        probe = flows.probe_of(connection, one, now_ms)
        waits = flow.schedule(one, now_ms, under_way, span_ms=span_ms, most=most, probe=probe)
        asked = {"of_connector": connector, "known_names": ["", *sorted(effect_names)], "relay_ms": relay_ms}
        found: list[Next] = []
        for kind in (OBLIGATIONS, EFFECTS):
            if left := waits[len(found) :]:
                rows = _taken(connection, kind, verb, database.now, asked, len(left))
                found += [Next(kind, verb, key, priority, ms) for (key, priority), ms in zip(rows, left, strict=False)]
        return found

    return database.write(take)


def first(
    connection: Connection,
    database: Database,
    kind: Kind[Any],
    connector: str,
    verb: Verb,
    effect_names: Collection[str],
    relay_ms: int,
    number: int,
) -> list[str]:
    """The keys of the next rows that wait and have no hint on its way; nothing is marked, and nothing locked."""
    asked = {"of_connector": connector, "known_names": ["", *sorted(effect_names)], "relay_ms": relay_ms}
    candidates, _, _ = _statements(kind, verb, database.now)
    return [row.key for row in connection.execute(candidates, {**asked, "at_most": number}).all()]


def _taken(
    connection: Connection, kind: Kind[Any], verb: Verb, now: ColumnElement[int], asked: dict[str, Any], number: int
) -> list[tuple[str, int]]:
    """Up to so many rows that have no hint on its way, and now have; those that another process just takes are left."""
    candidates, locking, marking = _statements(kind, verb, now)
    # Some more than are wanted: others may be taking the first ones.
    rows = connection.execute(candidates, {**asked, "at_most": 2 * number + 20}).all()
    if not rows:
        return []
    keys = [row.key for row in rows]
    mine = set(connection.execute(locking, {"keys": keys, "relay_ms": asked["relay_ms"]}).scalars())
    taken = [(row.key, row.priority) for row in rows if row.key in mine][:number]
    if taken:
        marked = {"keys": sorted(key for key, _ in taken), "relay_ms": asked["relay_ms"]}
        connection.execute(marking, marked)
    return taken


@lru_cache(maxsize=16)
def _statements(kind: Kind[Any], verb: Verb, now: ColumnElement[int]) -> tuple[Select[Any], Select[Any], Update]:
    columns, relay_ms = kind.table.c, bindparam("relay_ms", type_=BigInteger)
    key = columns[kind.key]
    unhinted = or_(columns.sweep_at_ms <= now, columns.sweep_at_ms > now + relay_ms)
    its_turn: ColumnElement[bool] = true()
    priority: ColumnElement[int] = literal(0)
    if kind.table is effects:
        priority = columns.priority
        if verb == "call":
            its_turn = or_(columns.ordering_key == EMPTY, not_(orderings.has_earlier(kind.table)))
    window = (
        select(key.label("key"), priority.label("priority"), columns.due_at_ms)
        .where(columns.connector == bindparam("of_connector"), columns.sweep_at_ms.is_not(None))
        .where(columns.effect_name.in_(bindparam("known_names", expanding=True)))
        .where(_waits(kind, verb, now), unhinted, its_turn)
        .order_by(columns.sweep_at_ms)
        .limit(BATCH)
        .subquery("waiting_longest")
    )
    candidates = select(window).order_by(window.c.priority.desc(), window.c.due_at_ms, window.c.key)
    candidates = candidates.limit(bindparam("at_most", type_=Integer))
    these = key.in_(bindparam("keys", expanding=True))
    locking = select(key).where(these, _waits(kind, verb, now), unhinted).order_by(key)
    locking = locking.with_for_update(skip_locked=True)
    return candidates, locking, update(kind.table).where(these).values(sweep_at_ms=now + relay_ms)
