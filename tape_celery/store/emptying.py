"""For tests alone: whether a store holds anything, and taking out of it what a test has put there."""

from __future__ import annotations

from sqlalchemy import Connection, Insert, delete, func, insert, literal, select

from tape_celery.schema import effects, installation, journal, metadata, tombstones
from tape_celery.store.database import Database


def count(database: Database) -> int:
    """How many effects the store holds."""
    statement = select(func.count()).select_from(effects)
    return database.read(lambda connection: int(connection.execute(statement).scalar_one()))


def empty(database: Database) -> None:
    """Delete every row but the installation's, in one transaction."""

    def delete_all(connection: Connection) -> None:
        connection.execute(_tombstones())
        for table in (journal, *reversed(metadata.sorted_tables)):
            if table is not installation:
                connection.execute(delete(table))

    database.write(delete_all)


def _tombstones() -> Insert:
    """The journal lets nothing go but with a tombstone: of each effect in it one that says nothing, for a moment."""
    key = journal.c.effect_key
    words = ("connector", "business_key", "run_id", "request_digest", "status", "external_ref")
    numbers = ("created_at_ms", "ended_at_ms", "pruned_at_ms")
    named = [*((name, literal("")) for name in words), *((name, literal(0)) for name in numbers)]
    known = select(tombstones.c.effect_key)
    rows = select(key, key, *(value for _, value in named)).distinct().where(key.not_in(known))
    return insert(tombstones).from_select(["effect_key", "idempotency_key", *(name for name, _ in named)], rows)
