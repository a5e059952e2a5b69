"""A store with as many effects as one likes: a few that really happened, and copies of them made by the database."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Table, text

from tape_celery.schema import effects, journal, obligations
from tape_celery.store.database import Database
from tests.state.stage import CONFIRMED, FAILED, LOST, Stage, comp, obs

CHUNK = 100_000
"""How many copies one statement makes."""

_NUMBER = "CAST(100000000 + n AS TEXT)"
_EFFECT, _OBLIGATION = f"'e' || {_NUMBER}", f"'o' || {_NUMBER}"
_KEYS = {
    effects: {
        "effect_key": _EFFECT,
        "idempotency_key": _EFFECT,
        "run_id": _EFFECT,
        "business_key": _EFFECT,
        "held_business_key": f"CASE WHEN held_business_key IS NOT NULL THEN {_EFFECT} END",
    },
    obligations: {
        "obligation_key": _OBLIGATION,
        "idempotency_key": _OBLIGATION,
        "effect_key": _EFFECT,
        "run_id": _EFFECT,
    },
    journal: {"key": f"CASE WHEN key = effect_key THEN {_EFFECT} ELSE {_OBLIGATION} END", "effect_key": _EFFECT},
}
_SERIES = (
    "WITH RECURSIVE series(n) AS (SELECT {first} UNION ALL SELECT n + {step} FROM series WHERE n + {step} < {end})"
)


def fill(url: str, rows: int) -> Database:
    """Fill the empty store at ``url`` with ``rows`` effects that are over, and one in a hundred that waits.

    Of ten that are over, seven were CONFIRMED at once, one FAILED, one lost its answer and was found, one was undone.
    """
    stage = Stage(url)
    samples = [*_seven_confirmed(stage), _failed(stage), _found(stage), _undone(stage)]
    database = stage.tape.database
    for first in range(0, rows, CHUNK):
        for number, sample in enumerate(samples):
            end = min(first + CHUNK, rows)
            database.write(lambda c, f=first + number, e=end, s=sample: _copy(c, f, e, len(samples), s))
    waiting = stage.tape.effect.apply_async(("scripted", {"amount": 1}), {"business_key": "w"}, countdown=3600)
    database.write(lambda c: _copy(c, rows, rows + rows // 100, 1, waiting.id))
    if database.url.get_backend_name() == "postgresql":
        with database._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return database


def count(database: Database, table: Table) -> int:
    """How many rows it has."""
    statement = text(f"SELECT COUNT(*) FROM {table.name}")  # noqa: S608 - a name of ours
    return int(database.read(lambda connection: connection.execute(statement).scalar_one()))


def _copy(connection: Connection, first: int, end: int, step: int, sample: str) -> None:
    if first >= end:
        return
    series = _SERIES.format(first=first, step=step, end=end)
    for table, keys in _KEYS.items():
        columns = ", ".join(column.name for column in table.columns)
        values = ", ".join(keys.get(column.name, f"sample.{column.name}") for column in table.columns)
        rest = f"SELECT {values} FROM {table.name} AS sample CROSS JOIN series WHERE sample.effect_key = :sample"  # noqa: S608
        connection.execute(text(f"{series} INSERT INTO {table.name} ({columns}) {rest}"), {"sample": sample})


def _seven_confirmed(stage: Stage) -> Iterator[str]:
    for _ in range(7):
        key = stage.record()
        stage.dispatch(key, CONFIRMED)
        yield key


def _failed(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.dispatch(key, FAILED)
    return key


def _found(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.dispatch(key, LOST)
    stage.observe(key, obs("confirmed", "ref-1"))
    return key


def _undone(stage: Stage) -> str:
    key = stage.record("idempotent")
    stage.dispatch(key, CONFIRMED)
    owed = stage.tape.owe(key, reason="returned", actor="ann")
    stage.compensate(owed.obligation_key, comp("compensated"))
    return key
