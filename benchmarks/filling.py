"""A store with as many effects as one likes: a few that really happened, and copies of them made by the database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sqlalchemy import Connection, Table, text

from tape_celery.schema import callbacks, effects, journal, obligations, proposals, runs, tombstones
from tape_celery.store.database import Database
from tests.state.stage import CONFIRMED, FAILED, LOST, Stage, comp, obs

CHUNK = 100_000
"""How many copies one statement makes."""
DAYS = 100
"""Over how many days they are spread; the last one ended now."""
RARE = "rare"
"""The connector of one effect in a thousand."""

_NUMBER = "CAST(100000000 + n AS TEXT)"
_EFFECT, _OBLIGATION = f"'e' || {_NUMBER}", f"'o' || {_NUMBER}"
# Of ten effects, the samples' order says which is which: the fourth is one of an ordering key, the fifth of a rule that
# holds what looks alike. Of 40, ten are in a run with others.
_CONNECTOR = f"CASE WHEN n % 1000 = 7 THEN '{RARE}' WHEN (n / 10) % 3 = 1 THEN 'mail' ELSE sample.connector END"
_RUN = f"CASE WHEN (n / 10) % 4 = 1 THEN 'r' || CAST(n / 10 AS TEXT) ELSE {_EFFECT} END"
_EARLIER = "sample.{column} - :step * (CASE WHEN n < :rows THEN :rows - n ELSE 0 END)"
_KEYS = {
    effects: {
        "effect_key": _EFFECT,
        "idempotency_key": _EFFECT,
        "connector": _CONNECTOR,
        "run_id": _RUN,
        "business_key": _EFFECT,
        "held_business_key": f"CASE WHEN held_business_key IS NOT NULL THEN {_EFFECT} END",
        "ordering_key": "CASE WHEN n % 10 = 3 THEN 'k' || CAST(n % 1000 AS TEXT) ELSE '' END",
        "order_number": "CASE WHEN n % 10 = 3 THEN n ELSE 0 END",
        "similar_digest": "CASE WHEN n % 10 = 4 THEN 'd' || CAST(n AS TEXT) ELSE '' END",
    },
    obligations: {
        "obligation_key": _OBLIGATION,
        "idempotency_key": _OBLIGATION,
        "effect_key": _EFFECT,
        "connector": _CONNECTOR,
        "run_id": _RUN,
    },
    journal: {"key": f"CASE WHEN key = effect_key THEN {_EFFECT} ELSE {_OBLIGATION} END", "effect_key": _EFFECT},
    callbacks: {"callback_key": f"'c' || {_NUMBER}", "effect_key": _EFFECT},
}
_SERIES = (
    "WITH RECURSIVE series(n) AS "
    "(SELECT CAST({first} AS BIGINT) UNION ALL SELECT n + {step} FROM series WHERE n + {step} < {end})"
)


def fill(url: str, rows: int, *, waiting: int | None = None) -> Database:
    """Fill the empty store at ``url`` with ``rows`` effects that are over, and ``waiting`` (default: one in a hundred)
    that wait for their time.

    Of ten that are over, seven were CONFIRMED at once, one of which called back, one FAILED, one lost its answer and
    was found, one was undone. For each two there is the tombstone of a third, and the closed run that it was in; and
    one of them took two people.
    """
    stage = Stage(url)
    stage.tape.migrate()
    samples = [*_seven_confirmed(stage), _failed(stage), _found(stage), _undone(stage)]
    database = stage.tape.database
    for first in range(0, rows, CHUNK):
        end = min(first + CHUNK, rows)
        for number, sample in enumerate(samples):
            database.write(partial(_copy, first=first + number, end=end, step=len(samples), sample=sample, rows=rows))
        database.write(partial(_add_ended, first=first, end=end, sample=samples[0]))
    asked = stage.tape.effect.apply_async(("scripted", {"amount": 1}), {"business_key": "w"}, countdown=3600)
    end = rows + (rows // 100 if waiting is None else waiting)
    database.write(partial(_copy, first=rows, end=end, step=1, sample=asked.id, rows=rows))
    if database.url.get_backend_name() == "postgresql":
        with database._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("VACUUM ANALYZE"))
    return database


def count(database: Database, table: Table) -> int:
    """How many rows it has."""
    statement = text(f"SELECT COUNT(*) FROM {table.name}")  # noqa: S608 - a name of ours
    return int(database.read(lambda connection: connection.execute(statement).scalar_one()))


def _copy(connection: Connection, first: int, end: int, step: int, sample: str, rows: int) -> None:
    if first >= end:
        return
    series = _SERIES.format(first=first, step=step, end=end)
    given = {"sample": sample, "rows": rows, "step": DAYS * 86_400_000 // max(rows, 1)}
    for table, keys in _KEYS.items():
        columns = ", ".join(column.name for column in table.columns)
        values = ", ".join(keys.get(column.name) or _value(column.name) for column in table.columns)
        rest = f"SELECT {values} FROM {table.name} AS sample CROSS JOIN series WHERE sample.effect_key = :sample"  # noqa: S608
        connection.execute(text(f"{series} INSERT INTO {table.name} ({columns}) {rest}"), given)


def _value(column: str) -> str:
    waits = column in ("lease_until_ms", "sweep_at_ms", "expires_at_ms")
    return f"sample.{column}" if waits or not column.endswith("at_ms") else _EARLIER.format(column=column)


def _add_ended(connection: Connection, first: int, end: int, sample: str) -> None:
    """The runs that were closed, and the tombstones, as made of a sample."""
    of_two, of_forty = (_SERIES.format(first=first, step=step, end=end) for step in (2, 40))
    kept = {column.name: f"sample.{column.name}" for column in tombstones.columns if column.name != "pruned_at_ms"}
    kept |= dict.fromkeys(("effect_key", "idempotency_key", "business_key", "held_business_key"), f"'t' || {_NUMBER}")
    rows = f"SELECT {', '.join(kept.values())}, sample.ended_at_ms FROM tape_effects AS sample CROSS JOIN series"  # noqa: S608
    where = "WHERE sample.effect_key = :sample"
    insert = f"{of_two} INSERT INTO tape_tombstones ({', '.join(kept)}, pruned_at_ms) {rows} {where}"
    connection.execute(text(insert), {"sample": sample})
    ended = {column.name: "1" if column.name.endswith(("_ms", "version")) else "'x'" for column in proposals.columns}
    ended |= {"proposal_key": _EFFECT, "subject_key": _EFFECT, "open_subject": "NULL", "status": "'CONFIRMED'"}
    values = ", ".join(ended.values())
    connection.execute(text(f"{of_two} INSERT INTO tape_proposals ({', '.join(ended)}) SELECT {values} FROM series"))  # noqa: S608
    closed = {column.name: "1" if column.name.endswith("at_ms") else "''" for column in runs.columns}
    closed |= {"status": "'COMPENSATED'", "version": "1", "sweep_at_ms": "NULL"}
    for series, run in ((of_forty, "'r' || CAST((n + 10) / 10 AS TEXT)"), (of_two, "'p' || CAST(n AS TEXT)")):
        values = ", ".join((closed | {"run_id": run}).values())
        connection.execute(text(f"{series} INSERT INTO tape_runs ({', '.join(closed)}) SELECT {values} FROM series"))  # noqa: S608


def _seven_confirmed(stage: Stage) -> Iterator[str]:
    key = stage.record(link=stage.tape.app.signature("told"))
    stage.dispatch(key, CONFIRMED)
    yield key
    for _ in range(6):
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
