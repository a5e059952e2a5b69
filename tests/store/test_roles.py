"""The roles that docs/security.md gives PostgreSQL: a worker's is enough for all but two acts, and for no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tape_celery import connectors
from tape_celery.errors import StoreUnavailable
from tape_celery.store import fleet
from tape_celery.store.database import Database
from tests.explanation.conftest import Blind
from tests.explanation.ways import WAYS
from tests.invariants import broken_invariants
from tests.servers import PostgresServer
from tests.state.stage import CONFIRMED, FAILED, Stage
from tests.store.conftest import Open
from tests.stores import TABLES

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def blocks() -> list[str]:
    """The SQL of the page: what is done before the schema is made, and what after it."""
    return re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role, password="change-me").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def worker_url(postgres: PostgresServer) -> Iterator[str]:
    """A store that was made as the page says, by its URL for a worker."""
    url = postgres.fresh_database()
    before, after = blocks()
    with postgres.connect(url) as connection:
        connection.execute(before)
        owner = Database(as_role(url, "shop_migrate"))
        owner.migrate()
        owner.close()
        connection.execute(after)
    yield as_role(url, "shop_worker")
    postgres.drop_database(url)
    with postgres.connect() as connection:
        connection.execute("DROP ROLE shop_worker, shop_migrate")


@pytest.fixture
def stage(worker_url: str) -> Iterator[Stage]:
    """An app and its connectors, whose one way to the store is the worker's role."""
    made = Stage(worker_url, second_person_above={"scripted": {"amount": 10**6}})
    connectors.register(Blind())
    yield made
    made.close()


@pytest.fixture
def as_worker(worker_url: str, open_database: Open) -> Database:
    """The store, as a worker reaches it."""
    return open_database(worker_url)


def test_a_workers_role_is_enough_for_all_that_workers_and_people_do(stage: Stage, tmp_path: Path) -> None:
    """27: every way into every state, what workers say in the store, what people do and read, and the audits."""
    tape = stage.tape
    for name, take in WAYS.items():
        if name != "pruned":
            assert take(stage), name
    tape.pause("scripted", reason="for a while", actor="a person")
    tape.resume("scripted", reason="over", actor="a person")
    sent = tape.effect.delay("scripted", {"amount": 10**7}, business_key="much")
    stage.dispatch(sent.id, FAILED)
    proposal = tape.propose("reissue", sent.id, reason="to be sure", actor="one")
    assert tape.confirm(proposal.proposal_key, actor="two")
    told = {"version": "1", "connectors": ["scripted"], "queues": ["tape.dispatch"], "wall_ms": lambda: 0.0}
    for started in (None, fleet.say(tape.database, "worker@here", started_at_ms=None, **told).started_at_ms):
        worker = fleet.say(tape.database, "worker@here", started_at_ms=started, **told)
    assert [one.name for one in tape.workers()] == ["worker@here"]
    fleet.leave(tape.database, worker)
    tape.sweep()
    assert tape.last_sweep_ms()
    tape.export(tmp_path / "export.jsonl")
    assert [problem for batch in tape.audit_chain() for problem in batch.violations] == []
    assert broken_invariants(tape.database) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a INT)",
        "ALTER TABLE tape_effects ADD COLUMN mine INT",
        "ALTER TABLE tape_journal DISABLE TRIGGER ALL",
        "DROP TABLE tape_journal",
        "UPDATE tape_alembic_version SET version_num = '0'",
        "UPDATE tape_installation SET installation_id = 'mine'",
        "UPDATE tape_journal SET actor = 'somebody'",
        "DELETE FROM tape_journal",
        "TRUNCATE tape_journal",
        "DELETE FROM tape_tombstones",
        "UPDATE tape_tombstones SET business_key = ''",
        "DELETE FROM tape_effects",
        "DELETE FROM tape_obligations",
        "DELETE FROM tape_callbacks",
        "DELETE FROM tape_runs",
        "DELETE FROM tape_proposals",
    ],
)
def test_a_workers_role_changes_no_schema_and_no_history(as_worker: Database, statement: str) -> None:
    """27: what whoever has taken over a worker is refused by the database itself."""
    with pytest.raises(StoreUnavailable, match=r"permission denied|must be owner"):
        as_worker.write(lambda connection: connection.exec_driver_sql(statement))


def test_only_the_other_role_prunes(stage: Stage, worker_url: str) -> None:
    """27: a worker that tries is told so, and nothing is gone; who migrates may prune."""
    key = stage.record()
    stage.dispatch(key, CONFIRMED)
    stage.move_time(3 * 86_400)
    with pytest.raises(StoreUnavailable, match="permission denied for table"):
        stage.tape.prune(2)
    assert stage.get(key).status == "CONFIRMED"
    keeper = Stage(as_role(worker_url, "shop_migrate"))
    keeper.move_time(3 * 86_400)
    keeper.tape.prune(2)
    assert keeper.tape.get(key) is None
    keeper.close()


def test_the_page_names_every_table() -> None:
    """27: a table that is added is granted to somebody, or a worker would fail after the next upgrade."""
    granted = set(re.findall(r"\btape_\w+", blocks()[1]))
    assert granted == {*TABLES, "tape_installation", "tape_alembic_version"}
