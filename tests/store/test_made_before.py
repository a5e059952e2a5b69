"""A store that the version before made, with effects in every state: nothing of it is lost, and the work goes on.

`made_before.py` says how `made_by_0008.sql` came about.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import MetaData, select

from tape_celery import Tape, connectors, schema
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.errors import KeyConflict, RunClosed, SchemaMismatch
from tape_celery.handle import EffectHandle
from tape_celery.records import EffectStatus, ObligationStatus, Violation
from tape_celery.store import inspection
from tape_celery.testing import drain
from tests.store.conftest import MakeTape
from tests.store.steps import engine_of

MADE = Path(__file__).with_name("made_by_0008.sql")
PERSON = {"reason": "looked at the bank's page", "actor": "human:bob"}

Rows = dict[str, list[dict[str, Any]]]


class Bank:
    """It remembers what it was asked; a look finds what was sent, of an inverse too."""

    name = "bank.wire"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def dispatch(self, effect: Any) -> DispatchResult:
        self.asked.append(("dispatch", effect.business_key))
        return DispatchResult("confirmed", f"ref of {effect.business_key}")

    def observe(self, effect: Any) -> ObservationResult:
        self.asked.append(("observe", effect.business_key))
        return ObservationResult("confirmed", f"ref of {effect.business_key}")

    def compensate(self, obligation: Any) -> CompensationResult:
        self.asked.append(("compensate", obligation.payload["business_key"]))
        return CompensationResult("compensated")

    def observe_compensation(self, obligation: Any) -> ObservationResult:
        self.asked.append(("observe_compensation", obligation.payload["business_key"]))
        return ObservationResult("confirmed")


def every_row(tape: Tape) -> Rows:
    """What all tables hold, whatever their columns are."""
    engine, found = engine_of(tape.database), MetaData()
    found.reflect(engine)
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in found.sorted_tables
        }


def restore(path: Path) -> None:
    with sqlite3.connect(path) as store:
        store.executescript(MADE.read_text())
    path.chmod(0o600)


@pytest.fixture(params=["sqlite", "postgresql"])
def before(
    request: pytest.FixtureRequest, tmp_path: Path, make_tape: MakeTape, monkeypatch: pytest.MonkeyPatch
) -> Tape:
    """The store as it was made, for PostgreSQL with the same rows in the tables that the migrations made then."""
    restore(tmp_path / "made.db")
    made = make_tape(f"sqlite:///{tmp_path / 'made.db'}")
    if request.param == "sqlite":
        return made
    tape = make_tape(request.getfixturevalue("postgres_url"))
    rows = every_row(made)
    [version] = rows.pop("tape_alembic_version")
    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, version["version_num"]))
        tape.migrate()
    engine, found = engine_of(tape.database), MetaData()
    found.reflect(engine)
    with engine.begin() as connection:
        connection.execute(found.tables["tape_installation"].delete())
        for table in found.sorted_tables:
            if rows.get(table.name):
                connection.execute(table.insert(), rows[table.name])
    return tape


@pytest.fixture
def bank() -> Iterator[Bank]:
    made = Bank()
    connectors.register(made)
    yield made
    connectors.clear()


def ask(tape: Tape, business_key: str, amount: int = 7, **keywords: Any) -> EffectHandle:
    request = {"amount": amount, "what": business_key}
    return tape.effect.delay("bank.wire", request, business_key=business_key, **keywords)


def wrong(tape: Tape) -> list[Violation]:
    """What the audit finds, in the rows and in the chains of the journal."""
    return tape.audit() + [one for batch in tape.audit_chain() for one in batch.violations]


def test_the_store_that_was_made_before_has_everything_in_it(before: Tape) -> None:
    """So that the test below is about every state, and a row of every table but two."""
    rows = every_row(before)
    assert {row["status"] for row in rows["tape_effects"]} == set(EffectStatus)
    assert {row["status"] for row in rows["tape_obligations"]} == set(ObligationStatus)
    assert {row["status"] for row in rows["tape_callbacks"]} == {"SENT", "WAITING"}
    assert [row["status"] for row in rows["tape_runs"]] == ["COMPENSATED"]
    assert {name for name, has in rows.items() if not has} == {"tape_proposals", "tape_workers"}
    assert set(rows) - {"tape_alembic_version"} == set(schema.metadata.tables)


def test_it_is_migrated_as_it_was_and_worked_on(before: Tape, bank: Bank) -> None:
    """Refused first; then each row is what it was, the audit finds nothing, and what was open comes to its end."""
    tape = before
    with pytest.raises(SchemaMismatch, match="0008, older than"):
        tape.effects()
    old = every_row(tape)
    tape.migrate()
    new = every_row(tape)
    assert old.pop("tape_alembic_version") != new.pop("tape_alembic_version")
    for name, rows in old.items():
        columns = rows[0].keys() if rows else ()
        assert [{column: row[column] for column in columns} for row in new[name]] == rows, name
    assert wrong(tape) == []

    # It goes on where the other clock stood, whatever this machine's says.
    stopped_ms = max(row["updated_at_ms"] for row in old["tape_effects"])
    tape.database.shift_ms = stopped_ms - inspection.now_ms(tape.database)
    drain(tape, advance=True)
    assert sorted(bank.asked) == [
        ("compensate", "duplicate"),
        ("dispatch", "held"),
        ("dispatch", "pending"),
        ("observe", "dispatching"),
        ("observe", "unknown"),
        ("observe_compensation", "owed, compensating"),
        ("observe_compensation", "owed, unknown"),
    ]
    not_confirmed = {one.business_key: one.status for one in tape.effects() if one.status != "CONFIRMED"}
    assert not_confirmed == {"failed": "FAILED", "cancelled": "CANCELLED", "stuck": "STUCK", "held too": "HELD"}
    owed = {one.payload["business_key"]: one.status for one in tape.obligations() if one.status != "COMPENSATED"}
    assert owed == {"owed, stuck": "STUCK"}
    told = {tape.get(row["effect_key"]).business_key: row["status"] for row in every_row(tape)["tape_callbacks"]}
    assert (told["confirmed"], told["pending"]) == ("SENT", "SENT")

    # People decide what waits for them, and what was over binds as before.
    key_of = {effect.business_key: effect.effect_key for effect in tape.effects()}
    seen = {key: tape.get(key).version for key in key_of.values()}
    tape.resolve(key_of["stuck"], "failed", seen_version=seen[key_of["stuck"]], **PERSON)
    tape.release(key_of["held too"], seen_version=seen[key_of["held too"]], **PERSON)
    drain(tape)
    assert bank.asked[-1] == ("dispatch", "held too")
    [tombstone] = old["tape_tombstones"]
    assert ask(tape, "pruned").id == tombstone["effect_key"]
    with pytest.raises(KeyConflict):
        ask(tape, "pruned", amount=8)
    with pytest.raises(RunClosed):
        ask(tape, "third of a run", run_id="order")
    assert [one.connector for one in tape.pauses()] == ["bank.other"]
    assert wrong(tape) == []
