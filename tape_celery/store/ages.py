"""How much is in each state and how old it is, at a price that stays the same however much is kept.

Each read is of one state of one connector, which an index has in the order in which it was recorded, and looks at no
more rows than it is told. Pairs that nothing is in are skipped by the same index.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, Select, String, and_, bindparam, func, literal, select

from tape_celery.records import EffectStatus, RunStatus
from tape_celery.schema import effects, run_is_not_over, runs
from tape_celery.store.database import Database


@dataclass(frozen=True)
class State:
    """The effects of one connector in one state, or the first of them. Instants are epoch milliseconds."""

    connector: str
    status: str
    number: int
    since_ms: int | None = None
    """Since when the oldest is so: UNKNOWN since its first call, STUCK since it came to be so, HELD since it was
    recorded; ``None`` for other states."""
    due_ms: int | None = None
    """Since when that is due which is due longest: PENDING to be sent, UNKNOWN to be looked at."""


@dataclass(frozen=True)
class Ages:
    """What there is, at ``now_ms`` on the database's clock."""

    now_ms: int
    states: list[State]
    sweep_ms: dict[str, int]
    """By connector, since when a sweep has to act on an effect; without those where it has not."""


_SINCE = {
    EffectStatus.UNKNOWN: effects.c.first_sent_at_ms,
    EffectStatus.STUCK: effects.c.updated_at_ms,
    EffectStatus.HELD: effects.c.created_at_ms,
}
_DUE = (EffectStatus.PENDING, EffectStatus.UNKNOWN)


def read(database: Database, at_most: int, connectors: int) -> Ages:
    """Of each state the first ``connectors`` by name, and of each of these the first ``at_most`` effects.

    Raises `StoreUnavailable`.
    """
    return database.read(lambda connection: _read(connection, database, at_most, connectors))


def _read(connection: Connection, database: Database, at_most: int, connectors: int) -> Ages:
    now, states, sweep_ms = database.read_now(connection), list[State](), dict[str, int]()
    for status in EffectStatus:
        for connector in _connectors(connection, status, connectors):
            asked = {"connector": connector, "at_most": at_most}
            number, since_ms, due_ms = connection.execute(_state(status), asked).one()
            due_ms = None if due_ms is None or due_ms > now else due_ms
            states.append(State(connector, str(status), number, since_ms, due_ms))
    for connector in {state.connector for state in states}:
        earliest = connection.execute(_earliest(), {"connector": connector}).scalar()
        if earliest is not None and earliest <= now:
            sweep_ms[connector] = earliest
    return Ages(now, states, sweep_ms)


def _connectors(connection: Connection, status: EffectStatus, most: int) -> list[str]:
    """Each is found from the one before it, without a look at the rows between."""
    found = list[str]()
    while len(found) < most:
        after = {"after": found[-1] if found else ""}
        following = connection.execute(_following(status), after).scalar()
        if following is None:
            break
        found.append(following)
    return found


@cache
def _following(status: EffectStatus) -> Select[Any]:
    c = effects.c
    return select(func.min(c.connector)).where(c.status == status, c.connector > bindparam("after", type_=String))


@cache
def _state(status: EffectStatus) -> Select[int, Any, Any]:
    c = effects.c
    # Of states that are no older than others, the index tells all that is asked.
    since, due = _SINCE.get(status, literal(None)), c.due_at_ms if status in _DUE else literal(None)
    of_state = and_(c.status == status, c.connector == bindparam("connector", type_=String))
    first = select(c.effect_key, since.label("since"), due.label("due")).where(of_state).order_by(c.effect_key)
    some = first.limit(bindparam("at_most", type_=Integer)).subquery()
    return select(func.count(), func.min(some.c.since), func.min(some.c.due)).select_from(some)


@cache
def _earliest() -> Select[Any]:
    c = effects.c
    of_connector = c.connector == bindparam("connector", type_=String)
    return select(func.min(c.sweep_at_ms)).where(of_connector, c.sweep_at_ms.is_not(None))


def count_runs(database: Database, at_most: int) -> dict[str, int]:
    """How many closed runs are in each state in which they are not over; of each at most so many are counted."""

    def read(connection: Connection) -> dict[str, int]:
        found = {}
        for status in (RunStatus.CANCELLING, RunStatus.COMPENSATING, RunStatus.STUCK):
            of_status = select(runs.c.run_id).where(and_(run_is_not_over, runs.c.status == status))
            some = of_status.order_by(runs.c.run_id).limit(at_most).subquery()
            found[str(status)] = connection.execute(select(func.count()).select_from(some)).scalar_one()
        return found

    return database.read(read)
