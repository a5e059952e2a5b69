"""28: the database itself keeps the journal: no entry is changed, and none goes but with what was pruned."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError

from tape_celery.schema import effects, journal, tombstones
from tape_celery.store import emptying, inspection
from tape_celery.store.database import Database
from tests.store.steps import S, count, engine_of, in_state


@pytest.fixture(params=["sqlite_store", "postgres_store"])
def kept(request: pytest.FixtureRequest) -> Database:
    """A store whose database has the triggers."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    "change",
    [
        update(journal).values(actor="somebody"),
        update(journal).where(journal.c.seq == 1).values(seq=99),
        update(journal).values(digest=""),
        delete(journal),
        delete(journal).where(journal.c.seq == 1),
    ],
    ids=str,
)
def test_whoever_changes_the_journal_is_refused(kept: Database, change: object) -> None:
    """Also who owns the tables."""
    key = in_state(kept, S.CONFIRMED).effect_key
    before = inspection.read_journal(kept, key)
    with pytest.raises(DBAPIError, match="tape_journal is append-only"), engine_of(kept).begin() as connection:
        connection.execute(change)  # type: ignore[call-overload]
    assert inspection.read_journal(kept, key) == before


def test_a_tombstone_lets_the_entries_of_its_own_effect_go(kept: Database) -> None:
    """And of no other."""
    gone, other = in_state(kept, S.CONFIRMED).effect_key, in_state(kept, S.CONFIRMED).effect_key
    with engine_of(kept).begin() as connection:
        columns = [column.name for column in tombstones.c if column.name != "pruned_at_ms"]
        connection.execute(
            text(
                f"INSERT INTO tape_tombstones ({', '.join(columns)}, pruned_at_ms) "
                f"SELECT {', '.join(columns)}, 0 FROM tape_effects WHERE effect_key = :key"
            ),
            {"key": gone},
        )
        connection.execute(delete(effects).where(effects.c.effect_key == gone))
        connection.execute(delete(journal).where(journal.c.effect_key == gone))
    assert inspection.read_journal(kept, gone) == []
    assert len(inspection.read_journal(kept, other)) == 3
    with pytest.raises(DBAPIError, match="tape_journal is append-only"), engine_of(kept).begin() as connection:
        connection.execute(delete(journal).where(journal.c.effect_key == other))


def test_a_store_of_tests_is_emptied_all_the_same(kept: Database) -> None:
    """By `tape_celery.testing`, whatever state its effects are in."""
    for status in (S.PENDING, S.CONFIRMED, S.STUCK):
        in_state(kept, status)
    emptying.empty(kept)
    assert [count(kept, table) for table in ("tape_effects", "tape_journal", "tape_tombstones")] == [0, 0, 0]
