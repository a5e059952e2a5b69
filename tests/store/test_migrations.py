"""Creating the schema, upgrading it, and refusing one that this code was not written for."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect
from sqlalchemy.exc import IntegrityError

from tape_celery import Tape, connectors, migrations, schema
from tape_celery.errors import SchemaMismatch
from tape_celery.flow import Said
from tape_celery.records import Pause
from tape_celery.store import flows, inspection
from tape_celery.store.database import Database
from tape_celery.testing import ScriptedConnector, kept_registry
from tests.servers import PostgresServer
from tests.store.conftest import MakeTape, Open
from tests.store.steps import an_intent as intent
from tests.store.steps import count, engine_of, execute, record, scalar, together
from tests.store.workers import each_in_a_process, migrate, open_first

NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None


def upgrade() -> None:
    op.add_column("tape_effects", sa.Column("colour", sa.String(8), nullable=True))
"""
HEAD = migrations.head()
PREPARED = 7
"""A statement that is run more than five times is prepared at the server."""

Newer = Callable[[], None]


@pytest.fixture
def newer_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Newer]:
    """Turns this code into the next release, which has one migration more."""
    shipped = Path(migrations.__file__).parent
    copied = Path(shutil.copytree(shipped, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__")))
    (copied / "versions" / "9999_colour.py").write_text(NEXT.replace("{head}", HEAD))

    return lambda: monkeypatch.setattr(migrations, "_home", lambda: copied)


def tables(database: Database) -> set[str]:
    return set(inspect(engine_of(database)).get_table_names())


def raw_count(database: Database) -> object:
    """How many effects there are, whatever the schema."""
    with engine_of(database).connect() as connection:
        return connection.exec_driver_sql("SELECT COUNT(*) FROM tape_effects").scalar()


def test_the_names_of_the_migrations_tell_their_revisions() -> None:
    """In the order in which Alembic makes them: a store is checked without Alembic."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert migrations._revisions() == scripts[::-1]


def test_to_check_a_store_takes_no_alembic(ready_sqlite_url: str) -> None:
    """It is a fifth of what a worker imports at its start."""
    opened = "from tape_celery.store.database import Database; Database(sys.argv[1]).ready()"
    code = f"import sys; {opened}; assert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, ready_sqlite_url], cwd=Path(__file__).parents[2], check=True)


def test_migrating_twice_changes_nothing(store_url: str, open_database: Open) -> None:
    """The second finds its work done, and what was recorded in between stays."""
    database = open_database(store_url)
    database.prepare_file()
    database.migrate()
    record(database, intent())
    before = tables(database)
    database.migrate()
    assert tables(database) == before
    assert count(database) == 1
    assert scalar(database, f"SELECT version_num FROM {migrations.VERSION_TABLE}") == migrations.head()


def test_four_threads_may_migrate_at_once(store_url: str, open_database: Open) -> None:
    """One creates the schema, the others wait for it and find it."""
    stores = [open_database(store_url) for _ in range(4)]
    stores[0].prepare_file()
    together([store.migrate for store in stores])
    assert count(stores[0], "tape_installation") == 1
    assert count(stores[0]) == 0


def test_four_processes_may_migrate_at_once(store_url: str, open_database: Open) -> None:
    """As in a deployment where every container migrates before it starts."""
    assert each_in_a_process(migrate, [(store_url,)] * 4) == [migrations.head()] * 4
    assert count(open_database(store_url), "tape_installation") == 1


def test_four_processes_may_be_the_first_to_use_an_sqlite_file(sqlite_url: str, open_database: Open) -> None:
    """The file and its schema are there once, for all of them."""
    assert all(each_in_a_process(open_first, [(sqlite_url,)] * 4))
    assert count(open_database(sqlite_url), "tape_installation") == 1


def test_an_empty_postgresql_database_is_not_given_tables_silently(postgres_url: str, make_tape: MakeTape) -> None:
    """It may be the wrong one, and a worker's role may not create tables: the error says what to do."""
    tape = make_tape(postgres_url)
    with pytest.raises(SchemaMismatch, match="tape migrate"):
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    assert tables(tape.database) == set()


def test_an_sqlite_file_that_does_not_exist_is_created_with_its_schema(sqlite_url: str, make_tape: MakeTape) -> None:
    """The embedded store needs no step before the first effect."""
    tape = make_tape(sqlite_url)
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    assert handle.status == "PENDING"


def test_an_sqlite_file_with_other_tables_is_left_alone(tmp_path: Path, make_tape: MakeTape) -> None:
    """Somebody's own database is not taken for an empty one."""
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE invoices (id INTEGER)")
    path.chmod(0o600)
    tape = make_tape(f"sqlite:///{path}")
    with pytest.raises(SchemaMismatch, match="tape migrate"):
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    assert tables(tape.database) == {"invoices"}


def test_our_tables_may_live_beside_those_of_the_app(store_url: str, open_database: Open) -> None:
    """With Alembic's own version table among them: ours has another name, and neither is touched by the other."""
    database = open_database(store_url)
    database.prepare_file()
    with engine_of(database).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE invoices (id INTEGER)")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    database.migrate()
    database.ready()
    assert {"invoices", "alembic_version", "tape_effects"} <= tables(database)
    assert scalar(database, "SELECT version_num FROM alembic_version") == "theirs"


def test_an_older_schema_is_refused_and_then_upgraded(
    store_url: str, open_database: Open, make_tape: MakeTape, newer_code: Newer
) -> None:
    """New code on an old schema names both revisions and records nothing; after the migration it works."""
    old = open_database(store_url)
    old.prepare_file()
    old.migrate()
    newer_code()
    tape = make_tape(store_url)
    with pytest.raises(SchemaMismatch, match=rf"{HEAD}, older than this code's 9999.*tape migrate"):
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    assert raw_count(old) == 0
    tape.migrate()
    assert tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1").status == "PENDING"


def test_a_newer_schema_is_refused(
    store_url: str,
    open_database: Open,
    make_tape: MakeTape,
    newer_code: Newer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Old code on a new schema names both revisions, records nothing, and does not migrate downwards."""
    newer_code()
    newer = open_database(store_url)
    newer.prepare_file()
    newer.migrate()
    monkeypatch.undo()
    tape = make_tape(store_url)
    with pytest.raises(SchemaMismatch, match=rf"9999, newer than this code's {HEAD}.*upgrade tape-celery"):
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    with pytest.raises(SchemaMismatch, match=rf"9999, newer than this code's {HEAD}"):
        tape.migrate()
    assert raw_count(newer) == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
def test_code_that_runs_already_goes_on_when_a_newer_migration_adds_a_column(
    kind: str,
    request: pytest.FixtureRequest,
    open_database: Open,
    make_tape: MakeTape,
    newer_code: Newer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With connections that are open and statements that the server has prepared; whoever starts then is refused."""
    url = request.getfixturevalue(f"{kind}_url")
    tape, started_later, newer = make_tape(url), make_tape(url), open_database(url)
    tape.migrate()
    with kept_registry():
        connectors.register(ScriptedConnector())
        for number in range(PREPARED):
            assert confirmed(tape, f"before {number}")
        newer_code()
        newer.migrate()
        monkeypatch.undo()
        assert "colour" in {column["name"] for column in inspect(engine_of(newer)).get_columns("tape_effects")}
        for number in range(PREPARED):
            assert confirmed(tape, f"after {number}")
        assert tape.audit() == []
        assert len(tape.effects()) == 2 * PREPARED
    with pytest.raises(SchemaMismatch, match=rf"9999, newer than this code's {HEAD}"):
        started_later.effects()


def confirmed(tape: Tape, business_key: str) -> bool:
    """Whether one more effect was recorded, sent and sealed."""
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key=business_key)
    tape.dispatch(handle.id)
    return handle.status == "CONFIRMED" and len(handle.journal) == 3


def test_a_schema_that_was_lost_in_mid_life_is_not_created_again(
    postgres: PostgresServer, postgres_url: str, open_database: Open
) -> None:
    """A version table without a revision in it is a store without a schema, not an empty one."""
    database = open_database(postgres_url)
    database.migrate()
    execute(database, f"DELETE FROM {migrations.VERSION_TABLE}")
    with pytest.raises(SchemaMismatch, match="tape migrate"):
        open_database(postgres_url).ready()


def test_a_store_of_the_first_schema_is_upgraded_with_all_that_is_in_it(
    store_url: str, open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An effect and its journal stay; what it did not have before, it has as nothing. Indexes and checks are today's.

    That a store with all kinds of rows is worked on afterwards is in `test_made_before.py`.
    """
    database = open_database(store_url)
    database.prepare_file()
    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        database.migrate()
    old = sorted(column["name"] for column in inspect(engine_of(database)).get_columns("tape_effects"))
    values = dict.fromkeys(old, "0") | {
        "effect_key": "'e-1'", "status": "'CONFIRMED'", "semantics": "'idempotent'", "held_business_key": "'b-1'",
        "connector": "'bank'", "max_attempts": "5", "request_json": "'{}'",
        **dict.fromkeys(("may_have_landed", "might_before", "landed", "cancel_requested", "absent"), "FALSE"),
        **dict.fromkeys(("effect_name", "reason", "response_json", "error_json", "external_ref", "claim_nonce"), "''"),
        **dict.fromkeys(("idempotency_key", "business_key", "run_id", "request_digest", "landed_ref"), "'x'"),
    }  # fmt: skip
    with engine_of(database).begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO tape_effects ({', '.join(old)}) VALUES ({', '.join(values[name] for name in old)})"
        )
        connection.exec_driver_sql(
            "INSERT INTO tape_journal (key, seq, effect_key, at_ms, kind, from_status, status, token, actor, "
            "evidence_json) VALUES ('e-1', 1, 'e-1', 0, 'recorded', '', 'PENDING', 0, '', '{}')".replace(
                "(key,", "(`key`," if connection.dialect.name == "mysql" else "(key,"
            )
        )
    database.migrate()
    database.ready()
    for table in schema.metadata.sorted_tables:
        found = inspect(engine_of(database)).get_indexes(table.name)
        assert {index["name"] for index in found if not index["unique"]} == {index.name for index in table.indexes}
    [effect] = inspection.list_effects(database)
    assert (effect.effect_key, effect.status, effect.business_key) == ("e-1", "CONFIRMED", "x")
    assert (effect.priority, effect.ordering_key, effect.reissued_as, effect.shared) == (0, "", "", False)
    assert (effect.traceparent, effect.dispatch_traceparent) == ("", "")
    assert count(database, "tape_journal") == 1
    execute(database, "UPDATE tape_effects SET status = 'HELD' WHERE effect_key = 'e-1'")
    with pytest.raises(IntegrityError):
        execute(database, "UPDATE tape_effects SET status = 'DREAMING' WHERE effect_key = 'e-1'")


def test_what_was_paused_before_limits_came_stays_paused(
    store_url: str, open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With who said so, when and why, for calls; looks pass."""
    database = open_database(store_url)
    database.prepare_file()
    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0005"))
        database.migrate()
    with engine_of(database).begin() as connection:
        names = "connector, paused, reason, actor, updated_at_ms, version"
        for row in ("'bank', TRUE, 'maintenance', 'ann', 7, 3", "'other', FALSE, 'it is over', 'bob', 8, 2"):
            connection.exec_driver_sql(f"INSERT INTO tape_connectors ({names}) VALUES ({row})")
    database.migrate()
    assert flows.pauses(database) == [
        Pause(connector="bank", reason="maintenance", actor="ann", since_ms=7, version=3, looks=False)
    ]
    assert [one.controlled for one in flows.every(database)] == [False, False]
    assert "tape_connectors" not in tables(database)


def test_each_thing_that_is_said_of_a_connector_keeps_who_said_it(
    store_url: str, open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said before that was kept apart keeps who said anything last."""
    database = open_database(store_url)
    database.prepare_file()
    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0008"))
        database.migrate()
    columns = [column for column in schema.flows.c if column.name not in ("most_waiting", "said_json")]
    values = {"connector": "bank", "verb": "call", "paused": True, "controlled": False, "breaker": "CLOSED"}
    values |= {"probe_key": "", "reason": "maintenance", "actor": "ann", "updated_at_ms": 7, "version": 3}
    row = {column.name: values.get(column.name, 0) for column in columns}
    with engine_of(database).begin() as connection:
        connection.execute(insert(schema.flows).values(row))
    database.migrate()
    [before] = flows.every(database)
    assert (before.said("pause"), before.most_waiting) == (Said("maintenance", "ann", 7), 0)
    _, after = flows.say(database, "bank", "call", "limit", lambda one, _: one, reason="slow", actor="bob")
    assert [after.said("pause"), after.said("limit").reason] == [Said("maintenance", "ann", 7), "slow"]
    assert flows.every(database) == [after]
