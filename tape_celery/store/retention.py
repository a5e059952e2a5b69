"""Pruning: effects that ended long ago, with all that belongs to them, become tombstones.

Only what is settled and owes nothing goes. One chunk is one transaction: a process that dies between two leaves whole
effects and whole tombstones. The rows are locked before it is decided, so that late evidence for one either comes first
and is seen, or finds that there is no such effect any more.

The row of a closed run stays, as a tombstone of its own: a run that has no row is open, so what comes late into one
that was undone would be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, exists, func, insert, not_, or_, select

from tape_celery import failpoints
from tape_celery.records import EffectStatus, ObligationStatus
from tape_celery.schema import EMPTY, callbacks, effects, journal, obligations, run_is_not_over, runs, tombstones
from tape_celery.store import histories, orderings, proposals
from tape_celery.store.database import Database
from tape_celery.store.runs import parts

CHUNK = 500
"""The most effects that one transaction prunes."""
_OPEN = tuple(status.value for status in EffectStatus if not status.settled)
_OWED = tuple(status.value for status in ObligationStatus if status is not ObligationStatus.COMPENSATED)

Keep = Callable[[Connection, Sequence[str]], None]
"""What is to be done with effects in the transaction that deletes them, before it does."""


@dataclass
class PruneReport:
    """What was pruned, in rows."""

    effects: int = 0
    obligations: int = 0
    callbacks: int = 0
    journal_entries: int = 0


def chunks(
    database: Database, *, age_ms: int, limit: int | None = None, keep: Keep | None = None
) -> Iterator[PruneReport]:
    """Prune what ended ``age_ms`` ago or earlier, up to ``limit`` effects; what each transaction took.

    ``keep`` gets the keys of each first; it is called again where the transaction has to be run again.
    """
    left = limit
    while left is None or left > 0:
        number = CHUNK if left is None else min(CHUNK, left)
        report = database.write(partial(_prune, database=database, age_ms=age_ms, number=number, keep=keep))
        if not report.effects:
            return
        yield report
        failpoints.reach("prune.chunk")
        left = None if left is None else left - report.effects


def count(database: Database, *, age_ms: int) -> int:
    """How many effects could be pruned now, those aside that others of these keep until they are gone."""
    statement = select(func.count()).select_from(effects).where(may_go(database.now - age_ms))
    return database.read(lambda connection: int(connection.execute(statement).scalar_one()))


def may_go(before: ColumnElement[int]) -> ColumnElement[bool]:
    """The condition that an effect ended at ``before`` or earlier, and that nobody needs it any more."""
    return and_(effects.c.ended_at_ms <= before, _is_over(before))


def _is_over(before: ColumnElement[int]) -> ColumnElement[bool]:
    e, o, c = effects.c, obligations.c, callbacks.c
    predecessor = effects.alias("predecessor")
    in_debt = exists().where(o.effect_key == e.effect_key, or_(o.status.in_(_OWED), o.updated_at_ms > before))
    to_call = exists().where(c.effect_key == e.effect_key, c.status == "DUE", c.sweep_at_ms.is_not(None))
    # A run is compensated as a whole: while a part of it is open, all of it stays.
    sibling, debt = effects.alias("sibling"), obligations.alias("debt")
    # Each part by itself: PostgreSQL finds a sibling by an index, and would read all that is open for one OR.
    are_open = [exists().where(part, sibling.c.status.in_(_OPEN)) for part in parts(e.run_id, sibling)]
    owes = exists().where(debt.c.run_id == e.run_id, debt.c.status.in_(_OWED))
    not_over = select(runs.c.run_id).where(run_is_not_over)
    return and_(
        e.status.not_in(_OPEN),  # not one of a list: SQLite would take the index of states for that
        e.sweep_at_ms.is_(None),
        e.lease_until_ms.is_(None),
        not_(in_debt),
        not_(to_call),
        # What is seen of a predecessor is judged by what became of its successor.
        or_(e.reissue_of == "", not_(exists().where(predecessor.c.effect_key == e.reissue_of))),
        *map(not_, are_open),
        not_(owes),
        e.run_id.not_in(not_over),
    )


def candidates(before: ColumnElement[int], number: int) -> Select[tuple[str]]:
    """The keys of up to ``number`` effects that may go, the oldest first."""
    return select(effects.c.effect_key).where(may_go(before)).order_by(effects.c.ended_at_ms).limit(number)


def _prune(
    connection: Connection, database: Database, age_ms: int, number: int, keep: Keep | None = None
) -> PruneReport:
    before = database.now - age_ms
    locked = connection.execute(candidates(before, number).with_for_update(skip_locked=True)).scalars().all()
    if not locked:
        return PruneReport()
    # Their debts too; then what was committed before a lock was had is seen. When they ended was read under the lock:
    # asked again, PostgreSQL may look for all that ended by then.
    debts = select(obligations.c.obligation_key).where(obligations.c.effect_key.in_(locked)).with_for_update()
    connection.execute(debts).all()
    still = select(effects.c.effect_key).where(effects.c.effect_key.in_(locked), _is_over(before))
    keys = connection.execute(still).scalars().all()
    if not keys:
        return PruneReport()
    if keep is not None:
        keep(connection, keys)
        failpoints.reach("prune.exported")
    return _bury(connection, database, keys)


def _bury(connection: Connection, database: Database, keys: Sequence[str]) -> PruneReport:
    kept = [column.name for column in tombstones.c if column.name != "pruned_at_ms"]
    rows = select(*(effects.c[name] for name in kept), database.now).where(effects.c.effect_key.in_(keys))
    connection.execute(insert(tombstones).from_select([*kept, "pruned_at_ms"], rows))
    ordered = select(effects.c.ordering_key).where(effects.c.effect_key.in_(keys), effects.c.ordering_key != EMPTY)
    ordering_keys = connection.execute(ordered.distinct()).scalars().all()
    report = PruneReport()
    report.callbacks = connection.execute(delete(callbacks).where(callbacks.c.effect_key.in_(keys))).rowcount
    owed = connection.execute(select(obligations.c.obligation_key).where(obligations.c.effect_key.in_(keys)))
    proposals.forget(connection, [*keys, *owed.scalars()])
    report.obligations = connection.execute(delete(obligations).where(obligations.c.effect_key.in_(keys))).rowcount
    report.effects = connection.execute(delete(effects).where(effects.c.effect_key.in_(keys))).rowcount
    # Last: nobody writes an entry any more once the rows are gone.
    for entries in histories.parts(lambda key: key.in_(keys)):
        # Two statements: of a condition with OR, MySQL would lock what others write.
        report.journal_entries += connection.execute(delete(journal).where(entries)).rowcount
    if ordering_keys:
        orderings.forget(connection, ordering_keys)
    return report
