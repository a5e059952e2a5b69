"""Nothing that a worker, a sweep or a caller asks costs more because more is kept; and no index is kept in vain.

The steps are those of `benchmarks.flatness`, and so are the stores; their statements are looked at as they are sent.
Here nothing is timed: SQLite counts the steps of its machine, PostgreSQL the rows that each part of a plan has read.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Index, PrimaryKeyConstraint, UniqueConstraint, event

from benchmarks.filling import fill
from benchmarks.kept import Store
from tape_celery import connectors, schema
from tape_celery.store import pipelining
from tests.servers import PostgresServer
from tests.store.steps import engine_of, execute

KEPT = 6_000
COUNTED = 50
"""Less than there is in most states of even the smaller store."""
READ = 1_000
"""The most rows that any part of a plan may read: what is due or listed is less, what is kept or waits more."""
LINEAR = ("counts",)
"""What reads all that is kept, by an index."""
SMALL = ("SCAN tape_alembic", "SCAN tape_flows")
"""Of tables that have a row, or one for each connector."""
SHORT = ("_due", "_not_over")
"""How indexes are named that keep only what is due, or open."""
INDEXES = sorted(str(index.name) for table in schema.metadata.sorted_tables for index in table.indexes)
FIRST = {
    str(listed.name or f"{table.name}_pkey"): next(iter(listed.columns)).name
    for table in schema.metadata.sorted_tables
    for listed in (*table.indexes, *table.constraints)
    if isinstance(listed, (Index, UniqueConstraint, PrimaryKeyConstraint))
}
"""By what each index is ordered first: a condition on what comes after that reads all of it."""


@pytest.fixture(autouse=True)
def no_connectors() -> Iterator[None]:
    """What the stores register is forgotten."""
    yield
    connectors.clear()


# --- SQLite ---


@pytest.fixture(scope="module")
def sqlite_files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Files with few and with many effects that are over."""
    made = {}
    for rows in (KEPT // 10, KEPT):
        made[rows] = tmp_path_factory.mktemp("kept") / f"{rows}.db"
        fill(f"sqlite:///{made[rows]}", rows, waiting=10).close()
    return made


@pytest.fixture
def sqlite_kept(sqlite_files: dict[int, Path], tmp_path: Path) -> Callable[[int], Store]:
    """Opens a copy of one of them."""

    def open_one(rows: int) -> Store:
        copied = shutil.copy2(sqlite_files[rows], tmp_path)
        return Store(f"sqlite:///{copied}", rows, counted=COUNTED)

    return open_one


class Machine:
    """Counts the steps of SQLite's machine, and notes the plans."""

    def __init__(self, store: Store) -> None:
        self.steps = 0
        self.plans: list[str] = []
        event.listen(engine_of(store.database), "before_cursor_execute", self._before)

    def _before(self, connection: Any, cursor: Any, statement: str, given: Any, *_: Any) -> None:
        driver: sqlite3.Connection = connection.connection.driver_connection
        driver.set_progress_handler(None, 1)
        if statement.lstrip().split(" ", 1)[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            one = given[0] if isinstance(given, list) else given
            self.plans += [str(row[3]) for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}", one)]
        driver.set_progress_handler(self._step, 10)

    def _step(self) -> int:
        self.steps += 10
        return 0


def played_on_sqlite(store: Store) -> tuple[Counter[str], list[str]]:
    """The steps of SQLite's machine for each of ours, and the scans of tables of ours."""
    machine, steps, scans = Machine(store), Counter[str](), []
    for name, work in store.steps():
        machine.steps = 0
        machine.plans.clear()
        work()
        steps[name] += machine.steps
        if name not in LINEAR:
            scans += [f"{name}: {line}" for line in machine.plans if _scans(line)]
    return steps, scans


def _scans(line: str) -> bool:
    """A scan of an index that keeps only what is due, or open, is none, and that of the newest ends at its limit; nor
    is that of a table with a row for each connector."""
    short = [name for name in INDEXES if name.endswith(SHORT)] + ["sqlite_autoindex_tape_effects_1"]
    if any(f"INDEX {name}" in line for name in short):
        return False
    return line.startswith("SCAN tape_") and not line.startswith(SMALL)


def grown(few: Counter[str], many: Counter[str]) -> list[str]:
    """What takes more steps where more is kept."""
    assert set(few) == set(many)
    return [f"{name}: {few[name]} → {many[name]}" for name in many if many[name] > 1.5 * few[name] + 2_000]


@pytest.mark.parametrize("analyzed", [False, True], ids=["as it is", "analyzed"])
def test_on_sqlite_nothing_takes_more_steps_where_more_is_kept(
    sqlite_kept: Callable[[int], Store], *, analyzed: bool
) -> None:
    """Ten times as much is kept; no statement scans a table, and none does more than before but for what is linear."""
    steps: dict[int, Counter[str]] = {}
    for rows in (KEPT // 10, KEPT):
        store = sqlite_kept(rows)
        if analyzed:
            execute(store.database, "ANALYZE")
        steps[rows], scans = played_on_sqlite(store)
    assert not scans, "\n".join(scans)
    found = grown(steps[KEPT // 10], steps[KEPT])
    assert [line.partition(":")[0] for line in found] == list(LINEAR), "\n".join(found)


# --- PostgreSQL ---


@pytest.fixture(scope="module")
def postgresql_filled(postgres: PostgresServer) -> Iterator[str]:
    """A database with many effects that are over."""
    url = postgres.fresh_database()
    fill(url, KEPT * 3, waiting=READ * 2).close()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def postgresql_kept(postgres: PostgresServer, postgresql_filled: str) -> Iterator[Store]:
    """A copy of it."""
    url = postgres.fresh_database(template=postgresql_filled)
    store = Store(url, KEPT * 3, counted=COUNTED)
    yield store
    store.database.close()
    postgres.drop_database(url)


class Plans:
    """Of each statement that is sent, the plan and what each part of it has read: it is run before, and undone."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self.found: list[str] = []
        event.listen(engine_of(store.database), "before_cursor_execute", self._before)
        self._execute = pipelining._execute
        patch.setattr(pipelining, "_execute", self._past_sqlalchemy)

    def _before(self, connection: Any, cursor: Any, statement: str, given: Any, *_: Any) -> None:
        if statement.lstrip().split(" ", 1)[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            return
        driver = connection.connection.driver_connection
        one = given[0] if isinstance(given, list) else given
        self._look(driver, driver.cursor(), statement, one)

    def _past_sqlalchemy(self, driver: Any, dialect: Any, statement: Any, given: Any) -> Any:
        compiled = pipelining._compiled(statement, dialect)
        self._look(driver, psycopg.RawCursor(driver), compiled.text, compiled.values(given))
        return self._execute(driver, dialect, statement, given)

    def _look(self, driver: Any, cursor: Any, statement: str, given: Any) -> None:
        with driver.transaction(force_rollback=True), cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", given)
            (told,) = cursor.fetchone()
        plan = told if isinstance(told, list) else json.loads(told)
        self.found += [f"{line} in {statement}" for line in _objections(plan[0]["Plan"])]


def _objections(node: dict[str, Any]) -> Iterator[str]:
    """The parts of a plan that read too much: rows that they give, and those that they throw away."""
    thrown = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck", "Join Filter"))
    read = (node["Actual Rows"] + thrown) * node["Actual Loops"]
    name = f"{node['Node Type']} {node.get('Index Name') or node.get('Relation Name', '')}"
    if read > READ:
        yield f"{name} reads {read:.0f}"
    index, condition = node.get("Index Name", ""), node.get("Index Cond", "")
    short = index.endswith(SHORT) or index == "tape_flows_pkey"
    if condition and FIRST.get(index, "") not in condition and not short:
        yield f"{name} is read whole for {condition}"
    for part in node.get("Plans", ()):
        yield from _objections(part)


def played_on_postgresql(store: Store, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """What is found in the plans, for each of our steps."""
    plans = Plans(store, patch)
    for name, work in store.steps():
        plans.found.clear()
        work()
        if name not in LINEAR:
            yield from [f"{name}: {line}" for line in plans.found]


def test_on_postgresql_no_part_of_a_plan_reads_what_is_kept(
    postgresql_kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is scanned, sorted or filtered is what is due or listed."""
    found = list(played_on_postgresql(postgresql_kept, monkeypatch))
    assert not found, "\n".join(found)


# --- the checks themselves ---


@pytest.mark.parametrize("index", INDEXES)
def test_without_an_index_the_check_on_sqlite_objects(sqlite_kept: Callable[[int], Store], index: str) -> None:
    """So the check can fail; and an index that nothing needs would be found, which each write of a row pays for."""

    def without(rows: int) -> tuple[Counter[str], list[str]]:
        store = sqlite_kept(rows)
        execute(store.database, f"DROP INDEX {index}")
        return played_on_sqlite(store)

    many, scans = without(KEPT)
    assert scans or [line for line in grown(without(KEPT // 10)[0], many) if not line.startswith(LINEAR)]


@pytest.mark.parametrize("index", INDEXES)
def test_without_an_index_the_check_on_postgresql_objects(
    postgresql_kept: Store, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on SQLite."""
    execute(postgresql_kept.database, f"DROP INDEX {index}")
    assert next(played_on_postgresql(postgresql_kept, monkeypatch), "")
