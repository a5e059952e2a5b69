"""What a store holds, seen past the product's own verbs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, select

from tape_celery import Tape
from tape_celery.schema import effects, journal, obligations

_TABLES = (journal, obligations, effects)


def emptied(tape: Tape) -> None:
    """Take every row out: each example starts from nothing."""
    tape.database.write(lambda connection: [connection.execute(delete(table)) for table in _TABLES])


def counted(tape: Tape) -> dict[str, int]:
    """How many rows each table has."""

    def count(connection: Any) -> dict[str, int]:
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar() for table in _TABLES}

    return tape.database.read(count)


NOTHING = {table.name: 0 for table in _TABLES}
