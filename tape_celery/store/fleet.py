"""What workers say of themselves, and when a sweep began last: rows that people and the doctor read.

Nothing is decided by them: a worker that cannot say anything works as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache

from sqlalchemy import ColumnElement, Connection, RowMapping, Update, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from tape_celery.records import Worker, replace
from tape_celery.schema import installation, workers
from tape_celery.store.database import Database

FORGOTTEN_AFTER_MS = 86_400_000
"""Whoever was not seen for so long is forgotten by the next who says something."""
_NAME_LENGTH, _VERSION_LENGTH, _KEYS = 200, 24, 50


def say(
    database: Database,
    name: str,
    *,
    version: str,
    connectors: Sequence[str],
    queues: Sequence[str],
    started_at_ms: int | None,
    wall_ms: Callable[[], float],
    key_ids: Sequence[str] = (),
) -> Worker:
    """Write down what a worker says of itself now; ``wall_ms`` reads its wall clock.

    ``started_at_ms`` is what the first time returned, and ``None`` then. Raises `StoreUnavailable`.
    """
    said = Worker(
        name=name[:_NAME_LENGTH],
        version=version[:_VERSION_LENGTH],
        connectors=tuple(sorted(connectors)),
        queues=tuple(sorted(queues)),
        key_ids=tuple(key_ids[:_KEYS]),
    )

    def write(connection: Connection) -> Worker:
        now, ahead = _clock(connection, database, wall_ms)
        started = now if started_at_ms is None else started_at_ms
        seen = replace(said, clock_ahead_ms=ahead, started_at_ms=started, seen_at_ms=now)
        _put(connection, seen)
        connection.execute(delete(workers).where(workers.c.seen_at_ms < now - FORGOTTEN_AFTER_MS))
        return seen

    return database.write(write)


def clock(database: Database, *, wall_ms: Callable[[], float]) -> tuple[int, int]:
    """Now on the database's clock, and how far ``wall_ms`` is ahead of it, both in milliseconds."""
    return database.read(lambda connection: _clock(connection, database, wall_ms))


def _clock(connection: Connection, database: Database, wall_ms: Callable[[], float]) -> tuple[int, int]:
    database.read_now(connection)  # what the way there takes at first tells nothing of clocks
    before = wall_ms()
    now = database.read_now(connection)
    return now, round((before + wall_ms()) / 2 - now)


def _put(connection: Connection, worker: Worker) -> None:
    row = {
        "worker_name": worker.name,
        "version": worker.version,
        "connectors_json": json.dumps(worker.connectors),
        "queues_json": json.dumps(worker.queues),
        "clock_ahead_ms": worker.clock_ahead_ms,
        "started_at_ms": worker.started_at_ms,
        "seen_at_ms": worker.seen_at_ms,
        "key_ids": " ".join(worker.key_ids),
    }
    mine = update(workers).where(workers.c.worker_name == worker.name).values(row)
    if connection.execute(mine).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(workers), row)
    except IntegrityError:
        connection.execute(mine)  # another one by that name was first


def leave(database: Database, worker: Worker) -> None:
    """Remove what ``worker`` said, unless a later one by its name has said something. Raises `StoreUnavailable`."""
    mine = delete(workers).where(workers.c.worker_name == worker.name, workers.c.started_at_ms == worker.started_at_ms)
    database.write(lambda connection: connection.execute(mine))


def list_workers(database: Database) -> list[Worker]:
    """Every worker that has said something within a day and was not stopped since, by name."""
    statement = select(workers).order_by(workers.c.worker_name)
    return [_read(row) for row in database.read(lambda c: c.execute(statement).mappings().all())]


def _read(row: RowMapping) -> Worker:
    return Worker(
        name=row["worker_name"],
        version=row["version"],
        connectors=tuple(json.loads(row["connectors_json"])),
        queues=tuple(json.loads(row["queues_json"])),
        clock_ahead_ms=row["clock_ahead_ms"],
        started_at_ms=row["started_at_ms"],
        seen_at_ms=row["seen_at_ms"],
        key_ids=tuple(row["key_ids"].split()),
    )


def mark_swept(database: Database, *, every_ms: int) -> None:
    """Note that a sweep begins, unless one did less than ``every_ms`` ago. Raises `StoreUnavailable`."""
    statement = _sweep_noted(database.now, every_ms)
    database.write(lambda connection: connection.execute(statement))


@lru_cache(maxsize=16)
def _sweep_noted(now: ColumnElement[int], every_ms: int) -> Update:
    swept = installation.c.swept_at_ms
    # A clock that was put back must not keep it from being noted until its old time comes again.
    due = or_(swept.is_(None), swept <= now - every_ms, swept > now)
    return update(installation).where(installation.c.id == 1, due).values(swept_at_ms=now)


def last_sweep_ms(database: Database) -> int | None:
    """When a sweep began last, on the database's clock; ``None`` where none ever did."""
    statement = select(installation.c.swept_at_ms)
    found: int | None = database.read(lambda connection: connection.execute(statement).scalar_one())
    return found
