"""The newest effects of a list, each part of which one index has in order: so a list costs what it shows.

No index serves every filter: each would cost every write of every effect. A list of a state is one of each connector in
that state, a list of a connector one of each state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, true, union_all

from tape_celery.records import EffectStatus
from tape_celery.schema import EMPTY, effects
from tape_celery.store import runs

AT_ONCE = 100
"""How many parts one statement reads: SQLite takes 500."""

Part = ColumnElement[bool]


def parts(
    connection: Connection, status: str | None, connector: str | None, run_id: str | None, business_key: str | None
) -> list[Part]:
    """Conditions without a row in common, one of which every effect fulfils that matches the filters."""
    e = effects.c
    if business_key is not None:
        known = connectors(connection) if connector is None else [connector]
        holds = [and_(e.connector == name, e.held_business_key == business_key) for name in known]
        let_go = and_(e.business_key == business_key, e.held_business_key.is_(None), e.business_key != EMPTY)
        return [*holds, let_go] if business_key else [true()]
    statuses = list(EffectStatus) if status is None else [status]
    if run_id is not None:
        in_it, named_after = runs.parts(run_id)
        return [*(and_(in_it, e.status == state) for state in statuses), named_after]
    if status is None and connector is None:
        return [true()]
    known = connectors(connection) if connector is None else [connector]
    return [and_(e.status == state, e.connector == name) for state in statuses for name in known]


def pairs(
    connection: Connection, states: Sequence[EffectStatus] = tuple(EffectStatus), among: Sequence[str] | None = None
) -> list[Part]:
    """Each of ``states`` of each connector, or of each ``among`` them."""
    e = effects.c
    known = connectors(connection) if among is None else among
    return [and_(e.status == state, e.connector == name) for name in known for state in states]


ENDED = 2_000
"""The most effects that `ended_since` reads."""


def ended_since(connection: Connection, since_ms: int) -> Sequence[Any] | None:
    """Key, state, connector and time of recording of what has ended since then, whenever it was recorded.

    ``None`` where that is more than `ENDED`.
    """
    e = effects.c
    some = select(e.effect_key, e.status, e.connector, e.created_at_ms).where(e.ended_at_ms >= since_ms)
    rows = connection.execute(some.limit(ENDED + 1)).all()
    return rows if len(rows) <= ENDED else None


def newest(
    connection: Connection,
    parts: Sequence[Part],
    matches: ColumnElement[bool],
    number: int,
    *,
    oldest_first: bool = False,
) -> list[str]:
    """The keys of up to ``number`` effects, the newest (or oldest) of those that match and are of one of ``parts``."""

    def order(key: ColumnElement[str]) -> ColumnElement[str]:
        return key.asc() if oldest_first else key.desc()

    key, found = effects.c.effect_key, list[str]()
    for start in range(0, len(parts), AT_ONCE):
        some = parts[start : start + AT_ONCE]
        each = [select(key).where(part, matches).order_by(order(key)).limit(number).subquery() for part in some]
        together = union_all(*(select(one.c.effect_key) for one in each)).subquery()
        ordered = select(together.c.effect_key).order_by(order(together.c.effect_key)).limit(number)
        found += connection.execute(ordered).scalars()
    return sorted(found, reverse=not oldest_first)[:number] if len(parts) > AT_ONCE else found


def connectors(connection: Connection) -> list[str]:
    """The connectors of all effects: each is found from the one before it, without a look at the rows between."""
    following, found = select(func.min(effects.c.connector)), list[str]()
    first = connection.execute(following).scalar()
    while first is not None:
        found.append(first)
        first = connection.execute(following.where(effects.c.connector > first)).scalar()
    return found
