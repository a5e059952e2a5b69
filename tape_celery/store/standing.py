"""Where flows stand, to be shown: what of each is under way and what waits. It takes no lock, so nothing relies on it.

Read of flows of which anything holds alone, at a price that stays the same however much is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Executable, Integer, bindparam, case, func, or_, select

from tape_celery.explanation.controls import Standing
from tape_celery.flow import Flow, Verb
from tape_celery.records import EffectStatus
from tape_celery.schema import effects
from tape_celery.store import flows, queues
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind

AT_MOST = 1_000
"""How many that wait are counted, where nobody asks for more."""
_NONE: Mapping[str, int] = {}


def read(
    database: Database, lease_ms: Mapping[str, int] = _NONE, *, connector: str | None = None, at_most: int = AT_MOST
) -> list[Standing]:
    """Of every connector that is paused, limited or under a breaker, or of one, for calls and for looks.

    ``lease_ms``: of connectors whose leases are longer than a minute, without which looks under way are not all
    counted. Raises `StoreUnavailable`.
    """

    def ask(connection: Connection) -> list[Standing]:
        held = [one for one in flows.said_of(connection) if connector in (None, one.connector)]
        now_ms = database.read_now(connection)
        return [_standing(connection, database, one, now_ms, lease_ms.get(one.connector, 0), at_most) for one in held]

    return database.read(ask)


def _standing(
    connection: Connection, database: Database, one: Flow, now_ms: int, lease_ms: int, at_most: int
) -> Standing:
    seen = waiting = 0
    for kind in (EFFECTS, OBLIGATIONS):
        asked = {"of_connector": one.connector, "at_most": at_most, "now_ms": now_ms}
        rows, due = connection.execute(_waiting(kind, one.verb), asked).one()
        seen, waiting = max(seen, rows), waiting + int(due or 0)
    return Standing(
        flow=one,
        now_ms=now_ms,
        in_flight=flows.in_flight(connection, one.connector, one.verb, database.now, lease_ms),
        waiting=waiting,
        more=seen >= at_most,
        queued=queues.waiting(connection, one.connector, one.most_waiting + queues.COUNTED) if one.most_waiting else 0,
        probe=flows.probe_of(connection, one, now_ms),
    )


@cache
def _waiting(kind: Kind[Any], verb: Verb) -> Executable:
    """How many rows of the state were looked at, and how many of these are the connector's, due and free."""
    columns, now = kind.table.c, bindparam("now_ms", type_=BigInteger)
    status = EffectStatus.PENDING if verb == "call" else EffectStatus.UNKNOWN
    some = select(columns.connector, columns.due_at_ms, columns.lease_until_ms).where(columns.status == status.value)
    if kind.table is effects:  # its index has the connector before the key
        some = some.where(columns.connector == bindparam("of_connector"))
    found = some.order_by(columns[kind.key]).limit(bindparam("at_most", type_=Integer)).subquery()
    free = or_(found.c.lease_until_ms.is_(None), found.c.lease_until_ms <= now)
    waits = (found.c.connector == bindparam("of_connector")) & (found.c.due_at_ms <= now) & free
    return select(func.count(), func.sum(case((waits, 1), else_=0))).select_from(found)
