"""What a sweep takes first where it cannot take everything."""

from __future__ import annotations

from tape_celery.store import due
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tests.store.steps import BANK, REACH, recorded, row


def taken(database: Database, limit: int) -> list[due.Due]:
    return due.due(database, EFFECTS, connector=BANK, reach=REACH, limit=limit)


def test_the_urgent_come_first_and_among_equals_those_that_wait_longest(database: Database) -> None:
    """However late they were recorded."""
    plain = [recorded(database, delay_ms=-1000 + number).effect_key for number in range(3)]
    urgent = [recorded(database, priority=9, delay_ms=number - 100).effect_key for number in range(2)]
    middle = recorded(database, priority=5).effect_key
    assert [one.key for one in taken(database, 5)] == [*urgent, middle, *plain[:2]]
    assert [one.priority for one in taken(database, 6)] == [9, 9, 5, 0, 0, 0]


def test_in_a_long_backlog_those_that_wait_longest_are_looked_at(database: Database) -> None:
    """So that a flood of what is urgent starves nothing for ever, and a pass costs what it takes and no more."""
    oldest = recorded(database, delay_ms=-60_000).effect_key
    for _ in range(2 * due.WINDOW):
        recorded(database, priority=9)
    seen = 0
    while oldest not in {one.key for one in taken(database, 2)}:
        due.mark_relayed(database, EFFECTS, [one.key for one in taken(database, 2)], relay_ms=60_000)
        seen += 2
        assert seen <= 2 * due.WINDOW
    assert row(database, oldest).status == "PENDING"
