"""28: the database itself keeps the journal: no entry is changed, and none goes but with what was pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError

from tape_celery.migrations import append_only
from tape_celery.schema import effects, journal, tombstones
from tape_celery.store import emptying, health, inspection
from tape_celery.store.database import Database
from tests.servers import MariaDBServer
from tests.store.conftest import Open, url_of
from tests.store.steps import S, count, engine_of, in_state


@pytest.fixture(params=["sqlite_store", "postgres_store", "mariadb_store"])
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


# --- where the server asks for a right of its own ---

ALLOWED = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES"

Allow = Callable[[str], Database]


@pytest.fixture
def allow(mariadb: MariaDBServer, mariadb_store: Database, open_database: Open) -> Iterator[Allow]:
    """Opens a store without triggers as somebody who may do this in it, and nothing else."""
    somebody = f"'somebody'@'{mariadb.host}'"
    url = mariadb_store.url.set(username="somebody", password="something")

    def unprotect() -> None:
        for name in append_only.TRIGGERS:
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}")

    def as_somebody(rights: str) -> Database:
        cursor.execute(f"REVOKE ALL, GRANT OPTION FROM {somebody}")
        cursor.execute(f"GRANT {rights} ON `{url.database}`.* TO {somebody}")
        return open_database(url.render_as_string(hide_password=False))

    with mariadb.connect(url_of(mariadb_store)) as connection, connection.cursor() as cursor:
        unprotect()
        cursor.execute(f"CREATE USER {somebody} IDENTIFIED BY 'something'")
        yield as_somebody
        unprotect()
        cursor.execute(f"DROP USER {somebody}")
    mariadb_store.migrate()


def test_a_server_that_refuses_triggers_has_the_schema_all_the_same(
    allow: Allow, caplog: pytest.LogCaptureFixture
) -> None:
    """`tape migrate` says so in one line, and makes them once the right is given; whether they are there can be told
    without it."""
    refused = allow(ALLOWED)
    refused.migrate()
    refused.ready()
    [said] = [record.getMessage() for record in caplog.records if record.name == append_only.__name__]
    assert "not append-only: the server refuses its triggers (1142)" in said
    assert health.look(refused).missing_triggers == tuple(append_only.TRIGGERS)

    caplog.clear()
    allowed = allow(f"{ALLOWED}, TRIGGER")
    allowed.migrate()
    assert caplog.records == []
    in_state(allowed, S.CONFIRMED)
    with pytest.raises(DBAPIError, match="append-only"), engine_of(allowed).begin() as connection:
        connection.execute(delete(journal))
    assert health.look(allow("SELECT")).missing_triggers == ()
