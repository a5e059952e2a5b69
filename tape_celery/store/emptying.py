"""For tests alone: whether a store holds anything, and taking out of it what a test has put there."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select

from tape_celery.schema import effects, installation, metadata
from tape_celery.store.database import Database


def count(database: Database) -> int:
    """How many effects the store holds."""
    statement = select(func.count()).select_from(effects)
    return database.read(lambda connection: int(connection.execute(statement).scalar_one()))


def empty(database: Database) -> None:
    """Delete every row but the installation's, in one transaction."""

    def delete_all(connection: Connection) -> None:
        for table in reversed(metadata.sorted_tables):
            if table is not installation:
                connection.execute(delete(table))

    database.write(delete_all)
