"""What the code says of the tables is what the migrations make of an empty database."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from tape_celery import schema
from tape_celery.migrations import VERSION_TABLE
from tape_celery.store.database import Database
from tests.servers import PostgresServer
from tests.store.conftest import Open
from tests.store.steps import S as Status
from tests.store.steps import count, engine_of, execute, in_state, scalar

_COLUMNS = """
    SELECT table_name, column_name, ordinal_position, data_type, character_maximum_length, is_nullable, column_default,
           collation_name
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 3
"""
_CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
"""
_INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"


def test_on_sqlite_the_migrations_give_the_tables_of_the_code(
    sqlite_store: Database, open_database: Open, tmp_path: Any
) -> None:
    """Down to every CHECK, every unique and every partial index."""
    written = open_database(f"sqlite:///{tmp_path / 'written.db'}")
    schema.metadata.create_all(engine_of(written))
    assert _sqlite_parts(sqlite_store) == _sqlite_parts(written)


@pytest.mark.parametrize("server", ["postgresql", "postgresql15"], indirect=True)
def test_on_postgresql_the_migrations_give_the_tables_of_the_code(
    server: PostgresServer, server_store: Database, open_database: Open
) -> None:
    """Columns with type, length and nullability; constraints and indexes as PostgreSQL words them."""
    url = server.fresh_database()
    written = open_database(url)
    try:
        schema.metadata.create_all(engine_of(written))
        for question in (_COLUMNS, _CONSTRAINTS, _INDEXES):
            assert _asked(server_store, question) == _asked(written, question)
        assert len(_asked(server_store, _CONSTRAINTS)) > 15
    finally:
        written.close()
        server.drop_database(url)


def test_a_store_has_one_installation_and_its_id_stays(database: Database) -> None:
    """The id is there after the migration, is not made again by the next, and nobody can add a second."""
    first = scalar(database, "SELECT installation_id FROM tape_installation")
    database.migrate()
    assert scalar(database, "SELECT installation_id FROM tape_installation") == first
    assert len(first) == 36
    with pytest.raises(IntegrityError):
        execute(database, "INSERT INTO tape_installation (id, installation_id, created_at_ms) VALUES (2, 'second', 0)")
    assert count(database, "tape_installation") == 1


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (Status.PENDING, "status = 'DREAMING'"),
        (Status.PENDING, "semantics = 'sometimes'"),
        (Status.PENDING, "status = 'DISPATCHING'"),
        (Status.PENDING, "sweep_at_ms = NULL"),
        (Status.PENDING, "attempt = 6"),
        (Status.PENDING, "attempt = -1"),
        (Status.DISPATCHING, "lease_until_ms = NULL"),
        (Status.DISPATCHING, "claim_nonce = ''"),
        (Status.UNKNOWN, "sweep_at_ms = NULL"),
        (Status.UNKNOWN, "status = 'STUCK', reason = ''"),
        (Status.FAILED, "held_business_key = 'taken back'"),
        (Status.CANCELLED, "held_business_key = 'taken back'"),
    ],
)
def test_the_database_itself_refuses_a_row_that_cannot_be(database: Database, status: Status, change: str) -> None:
    """Whatever wrote it: the invariants of one row are CHECK constraints on every database."""
    effect = in_state(database, status, business_key="b-1")
    with pytest.raises(IntegrityError):
        execute(database, f"UPDATE tape_effects SET {change} WHERE effect_key = :key", key=effect.effect_key)


def _asked(database: Database, question: str) -> list[tuple[Any, ...]]:
    """The answer, without what belongs to Alembic alone."""
    rows = database._run(lambda connection: connection.execute(text(question)).all(), read_only=True)
    return [tuple(row) for row in rows if row[0] != VERSION_TABLE]


def _sqlite_parts(database: Database) -> dict[str, tuple[str, list[str]]]:
    """Of each table and index: what it begins with, and its parts in a fixed order."""
    listed = "SELECT name, sql FROM sqlite_master WHERE type <> 'trigger' AND sql IS NOT NULL ORDER BY name"
    rows = database._run(lambda connection: connection.execute(text(listed)).all(), read_only=True)
    parts: dict[str, tuple[str, list[str]]] = {}
    for name, statement in rows:
        if name == VERSION_TABLE:
            continue
        flat = re.sub(r"\s+", " ", statement.replace('"', ""))
        if flat.startswith("CREATE TABLE"):
            begin, _, inside = flat.partition("(")
            parts[name] = (begin.strip(), sorted(_split(inside.rstrip()[:-1])))
        else:
            parts[name] = (flat, [])
    assert set(inspect(engine_of(database)).get_table_names()) - {VERSION_TABLE} == set(schema.metadata.tables)
    return parts


def _split(inside: str) -> list[str]:
    """Columns and constraints of a table, parted at the commas that are in no bracket."""
    found, depth = [""], 0
    for letter in inside:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]
