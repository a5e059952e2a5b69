"""The rows of runs: closing one, waking it, and the guards that keep effects out of a closed one.

A run that has no row is open, so an open run costs nothing and recording takes no lock for it. Whoever records looks
whether the run is closed, without a lock; an intent that is committed after that look all the same is never claimed
(`is_closed` guards the claim), and the sweep wakes its run, which cancels it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import CommitUncertain, NotAllowed, RunClosed, SchemaMismatch, StaleView, StoreUnavailable
from tape_celery.records import Run, RunStatus
from tape_celery.schema import effects, runs
from tape_celery.store.database import Database
from tape_celery.store.together import among

TRIES = 5
Refusal = Callable[[Connection, Run], None]
"""Raises what is against closing a run, which is given as it was before."""
_WALKING = (RunStatus.CANCELLING, RunStatus.COMPENSATING)


def read(connection: Connection, run_id: str) -> Run:
    """The run; an open one where it has no row."""
    row = connection.execute(select(runs).where(runs.c.run_id == run_id)).mappings().first()
    if row is None:
        return Run(run_id=run_id)
    try:
        return Run(**{**row, "status": RunStatus(row["status"])})
    except ValueError:
        raise SchemaMismatch(f"run {run_id} has the status {row['status']!r}, of a newer tape_celery") from None


def get(database: Database, run_id: str) -> Run:
    """The run; an open one where nobody has closed it."""
    return database.read(lambda connection: read(connection, run_id))


def has_effects(database: Database, run_id: str) -> bool:
    """Whether any effect is in the run."""
    statement = select(effects.c.effect_key).where(contains(run_id)).limit(1)
    return database.read(lambda connection: connection.execute(statement).first() is not None)


def connectors_in(database: Database, run_id: str) -> list[str]:
    """The connectors of the effects in the run."""
    return database.read(lambda connection: read_connectors(connection, run_id))


def read_connectors(connection: Connection, run_id: str) -> list[str]:
    """The connectors of the effects in the run, as this transaction sees it."""
    statement = select(effects.c.connector).where(contains(run_id)).distinct()
    return list(connection.execute(statement).scalars().all())


def count_effects(connection: Connection, run_id: str) -> int:
    """How many effects are in the run, as this transaction sees it."""
    number: int = connection.execute(select(func.count()).select_from(effects).where(contains(run_id))).scalar_one()
    return number


def contains(run_id: str | ColumnElement[str], among: FromClause = effects) -> ColumnElement[bool]:
    """The condition that an effect is in the run."""
    return or_(*parts(run_id, among))


def parts(run_id: str | ColumnElement[str], among: FromClause = effects) -> list[ColumnElement[bool]]:
    """That it is in the run as its index has it, and that it is the one that the run is named after."""
    key, run = among.c.effect_key, among.c.run_id
    return [and_(run == run_id, run != key), and_(key == run_id, run == run_id)]


def is_closed(run_id: ColumnElement[str]) -> ColumnElement[bool]:
    """The guard of a claim: nothing in a closed run is sent any more."""
    return exists().where(runs.c.run_id == run_id, runs.c.status != RunStatus.OPEN.value)


def refuse_closed(connection: Connection, run_id: str) -> None:
    """Raise `RunClosed` where nothing may be recorded into the run any more."""
    run = read(connection, run_id)
    if run.status is not RunStatus.OPEN:
        raise RunClosed(f"run {run_id!r} is {run.status}: nothing is recorded into it any more", run_id, run.status)


def close(
    database: Database,
    run_id: str,
    status: RunStatus,
    *,
    reason: str,
    actor: str,
    seen_version: int | None = None,
    refuse: Refusal | None = None,
    alongside: Callable[[Connection], None] | None = None,
) -> Run:
    """Close the run: from when this is committed on, nothing in it is claimed for a call any more.

    It is a transaction of its own, so that whoever walks the run afterwards sees all that was claimed before. A run
    that is closed for that already stays as it is, and a cancelled one may still be compensated. Raises `NotAllowed`
    for a run that is to be cancelled and is being compensated already, `StaleView` for one whose version is another
    than ``seen_version``. ``alongside`` is done in the same transaction. ``refuse`` is asked when the row is written
    and before that is committed, so it sees all that is in the run by then, but for what others have not committed.
    """
    asked = {"status": status.value, "closing_reason": reason, "actor": actor}
    uncertain = False

    def unit(connection: Connection) -> Run | None:
        run = read(connection, run_id)
        ours = uncertain and {name: getattr(run, name) for name in asked} == asked
        closed = run if ours else _close(connection, database, run, asked, seen_version)
        if closed is not None and refuse is not None and not ours:
            refuse(connection, run)
        if closed is not None and alongside is not None:
            alongside(connection)
        return closed

    for _ in range(TRIES):
        try:
            closed = database.write(unit)
        except IntegrityError:
            continue
        except CommitUncertain:
            uncertain = True
            continue
        if closed is not None:
            return closed
    raise StoreUnavailable(f"run {run_id} changed {TRIES} times while it was closed, or its COMMIT was never answered")


def wake(connection: Connection, database: Database, run_ids: Collection[str]) -> bool:
    """Those of the runs that are closed are to be walked: something in them has moved, in this transaction.

    The version is raised, so that no walker who has not seen it decides. Returns whether there is any.
    """
    return bool(run_ids) and connection.execute(*waking(database, run_ids)).rowcount > 0


def waking(database: Database, run_ids: Collection[str]) -> tuple[Update, dict[str, Any]]:
    """The statement of `wake`, and its parameters."""
    return _waking(database.now), {"run_ids": sorted(run_ids)}


@lru_cache(maxsize=16)
def _waking(now: ColumnElement[int]) -> Update:
    return (
        update(runs)
        .where(among(runs.c.run_id, "run_ids"), runs.c.status != RunStatus.OPEN.value)
        .values(sweep_at_ms=now, version=runs.c.version + 1)
    )


def wake_those_of(database: Database, effect_keys: Sequence[str]) -> None:
    """Wake the closed runs into which one of these effects, which are to be sent, was recorded too late."""
    if not effect_keys:
        return
    statement = (
        select(runs.c.run_id)
        .join(effects, effects.c.run_id == runs.c.run_id)
        .where(effects.c.effect_key.in_(list(effect_keys)), runs.c.status != RunStatus.OPEN.value)
        .distinct()
    )
    found = database.read(lambda connection: list(connection.execute(statement).scalars()))
    if found:
        database.write(lambda connection: wake(connection, database, found))


def due(database: Database, *, limit: int, among: Collection[str] | None = None) -> list[str]:
    """Runs that are to be walked now, those that wait longest first."""
    statement = _due(database.now, among is not None)
    asked = {"at_most": limit} if among is None else {"at_most": limit, "among": sorted(among)}
    return database.read(lambda connection: list(connection.execute(statement, asked).scalars()))


@lru_cache(maxsize=16)
def _due(now: ColumnElement[int], among: bool) -> Select[Any]:
    statement = select(runs.c.run_id).where(runs.c.sweep_at_ms.is_not(None), runs.c.sweep_at_ms <= now)
    if among:
        statement = statement.where(runs.c.run_id.in_(bindparam("among", expanding=True)))
    return statement.order_by(runs.c.sweep_at_ms).limit(bindparam("at_most", type_=Integer))


def write_step(
    connection: Connection, database: Database, run: Run, status: RunStatus, *, reason: str, sweep_in_ms: int
) -> bool:
    """The guarded write of one step: false where the run, or anything in it, has moved since it was read."""
    changed: dict[str, Any] = {
        "status": status.value,
        "reason": reason,
        "sweep_at_ms": database.now + sweep_in_ms if status in _WALKING else None,
        "updated_at_ms": database.now,
        "version": run.version + 1,
    }
    statement = update(runs).where(runs.c.run_id == run.run_id, runs.c.version == run.version).values(changed)
    return connection.execute(statement).rowcount == 1


def _close(
    connection: Connection, database: Database, run: Run, asked: Mapping[str, str], seen_version: int | None
) -> Run | None:
    """``None`` where the run moved between the read and the write."""
    run_id, status = run.run_id, RunStatus(asked["status"])
    if seen_version not in (None, run.version):
        act = "to cancel it" if status.cancels else "to compensate it"
        raise StaleView(f"run {run_id}", run.status, act, seen_version or 0, run.version)
    now = database.read_now(connection)
    values: dict[str, Any] = {
        **asked,
        "reason": "",
        "sweep_at_ms": now,
        "updated_at_ms": now,
        "version": run.version + 1,
    }
    if run.version == 0:
        connection.execute(insert(runs).values(run_id=run_id, created_at_ms=now, **values))
        return read(connection, run_id)
    if run.status.cancels == status.cancels:
        return run
    if status.cancels:
        raise NotAllowed(f"run {run_id}", run.status, "to cancel it", "what was confirmed in it is being undone")
    statement = update(runs).where(runs.c.run_id == run_id, runs.c.version == run.version).values(values)
    return read(connection, run_id) if connection.execute(statement).rowcount else None
