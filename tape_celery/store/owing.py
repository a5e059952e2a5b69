"""Lists of obligations, newest first: each state is one part, which one index has in the order of the keys."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, select, true, union_all

from tape_celery.records import Obligation, ObligationStatus
from tape_celery.schema import obligations
from tape_celery.store.database import Database
from tape_celery.store.rows import OBLIGATIONS

MOST = 10_000
"""The most obligations of one list."""


@dataclass(frozen=True, kw_only=True)
class Owing:
    """What the obligations of a list have in common; ``None`` is anything."""

    status: ObligationStatus | None = None
    connector: str | None = None
    run_id: str | None = None
    effect_key: str | None = None
    recorded_since_ms: int | None = None
    recorded_before_ms: int | None = None

    def condition(self) -> ColumnElement[bool]:
        """For the database."""
        columns = obligations.c
        equal = {"connector": self.connector, "run_id": self.run_id, "effect_key": self.effect_key}
        conditions = [columns[name] == value for name, value in equal.items() if value is not None]
        if self.recorded_since_ms is not None:
            conditions.append(columns.created_at_ms >= self.recorded_since_ms)
        if self.recorded_before_ms is not None:
            conditions.append(columns.created_at_ms < self.recorded_before_ms)
        return and_(true(), *conditions)


def list_owing(database: Database, asked: Owing, *, limit: int) -> list[Obligation]:
    """Up to ``limit`` obligations that match, newest first; raises `StoreUnavailable`.

    With an age or a connector the index is read past those that do not match, which grows with what is kept.
    """
    key, matches = obligations.c.obligation_key, asked.condition()
    states = list(ObligationStatus) if asked.status is None else [asked.status]
    each = [
        select(key)
        .where(obligations.c.status == state, matches)
        .order_by(key.desc())
        .limit(min(limit, MOST))
        .subquery()
        for state in states
    ]
    together = union_all(*(select(one.c.obligation_key) for one in each)).subquery()
    newest = select(together.c.obligation_key).order_by(together.c.obligation_key.desc()).limit(min(limit, MOST))

    def read(connection: Connection) -> list[Obligation]:
        keys = list(connection.execute(newest).scalars())
        found = select(obligations).where(key.in_(keys)).order_by(key.desc())
        rows = connection.execute(found).mappings().all() if keys else []
        return [OBLIGATIONS.opened(OBLIGATIONS.read(row), database.cipher) for row in rows]

    # One may have moved since its key was found.
    return [debt for debt in database.read(read) if debt.status in states]
