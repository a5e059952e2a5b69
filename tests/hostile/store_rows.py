"""What a store holds, seen past the product's own verbs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from tape_celery import Tape
from tape_celery.schema import effects, journal, obligations
from tape_celery.store import emptying

_TABLES = (journal, obligations, effects)


def emptied(tape: Tape) -> None:
    """Take every row out: each example starts from nothing."""
    emptying.empty(tape.database)


def counted(tape: Tape) -> dict[str, int]:
    """How many rows each table has."""

    def count(connection: Any) -> dict[str, int]:
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar() for table in _TABLES}

    return tape.database.read(count)


NOTHING = {table.name: 0 for table in _TABLES}
