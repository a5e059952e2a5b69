"""What an effect's life leaves behind on PostgreSQL: versions of rows that are dead, and what the tables grow to.

    python -m benchmarks.dead_rows                           with the settings of the schema, and with others
    python -m benchmarks.dead_rows --effects 2000

Effects are recorded 500 a call and run in chunks of 20, in one process; nothing is pruned. The work of PostgreSQL is
the CPU time of its backends. With each setting of the fill factor nobody vacuums; then autovacuum does, which looks
every second.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery
from sqlalchemy import text

from benchmarks.machine import machine
from tape_celery import Tape, connectors
from tape_celery.connectors.base import DispatchResult
from tests.servers import PostgresServer

TABLES = ("tape_effects", "tape_journal")
RECORDED, CHUNK = 500, 20
ROUNDS = 3
FILL_FACTORS = (100, 90, 70, 50)
VACUUMS = {
    "autovacuum as PostgreSQL has it": "autovacuum_enabled = on",
    "autovacuum at 2 % and 1,000": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000",
}


class _Stub:
    name = "wire"

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult("confirmed", external_ref="w-1")


@dataclass
class Life:
    """What was measured in one round: for each effect, but for what the store has come to."""

    wal: float
    cpu_ms: float
    updates: float
    hot: float
    dead: int
    most_dead: int
    table: int
    indexes: int


class Subject:
    """A store with settings of its own."""

    def __init__(self, server: PostgresServer, name: str, changes: Sequence[str]) -> None:
        self.name = name
        self.url = server.fresh_database()
        self.server = server
        self.tape = Tape(Celery(name, broker="memory://", set_as_current=False), store_url=self.url, chunk_size=CHUNK)
        self.tape.migrate()
        self.number = 0
        with server.connect(self.url) as connection:
            for change in changes:
                connection.execute(change)
        self.lives(RECORDED, lambda: None)

    def lives(self, effects: int, look: Callable[[], None]) -> None:
        """Record so many, and run them."""
        for _ in range(0, effects, RECORDED):
            asked = []
            for _ in range(RECORDED):
                self.number += 1
                asked.append({"connector": "wire", "request": {"n": self.number}, "business_key": f"b-{self.number}"})
            keys = [handle.id for handle in self.tape.effect.delay_many(asked)]
            for start in range(0, RECORDED, CHUNK):
                self.tape.engine.dispatch(keys[start : start + CHUNK])
            look()

    def measure(self, effects: int) -> Life:
        """One round."""
        seen: list[int] = []
        with self.server.connect(self.url) as connection:
            connection.execute("ANALYZE")  # autovacuum does that as well: without it the plans would differ

            def look() -> None:
                told = text("SELECT pg_stat_force_next_flush()")
                self.tape.database.read(lambda own: own.execute(told).all())
                seen.append(_count(connection, "n_dead_tup"))

            wal, cpu = _wal(connection), self._cpu(connection)
            self.lives(effects, look)
            look()
            size = "SELECT sum({}(relid)) FROM pg_stat_user_tables WHERE relname = ANY(%s)"
            table, indexes = (_one(connection, size.format(kind)) for kind in ("pg_table_size", "pg_indexes_size"))
            return Life(
                wal=(_wal(connection) - wal) / effects,
                cpu_ms=(self._cpu(connection) - cpu) / effects * 1000,
                updates=_count(connection, "n_tup_upd") / self.number,
                hot=_count(connection, "n_tup_hot_upd") / self.number,
                dead=seen[-1],
                most_dead=max(seen),
                table=table,
                indexes=indexes,
            )

    def _cpu(self, connection: psycopg.Connection) -> float:
        question = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = %s"
        ticks = 0
        for (pid,) in connection.execute(question, ("client backend",)):
            told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(told[11]) + int(told[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _wal(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(row[0]) if row else 0


def _count(connection: psycopg.Connection, column: str) -> int:
    connection.execute("SELECT pg_stat_clear_snapshot()")
    return _one(connection, f"SELECT sum({column}) FROM pg_stat_user_tables WHERE relname = ANY(%s)")  # noqa: S608 - ours


def _one(connection: psycopg.Connection, question: str) -> int:
    row = connection.execute(question, (list(TABLES),)).fetchone()
    return int(row[0]) if row else 0


def table(subjects: Sequence[Subject], lives: dict[str, list[Life]]) -> str:
    """Medians of the rounds; what the store has come to is that of the last."""
    head = "| | WAL an effect | CPU of PostgreSQL | updates, HOT | dead at the end (most) | tables | indexes |"
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
    for subject in subjects:
        own = lives[subject.name]
        wal, cpu = (statistics.median(getattr(one, name) for one in own) for name in ("wal", "cpu_ms"))
        last = own[-1]
        lines.append(
            f"| {subject.name} | {wal:,.0f} B | {cpu:.2f} ms | {last.updates:.1f}, {last.hot:.1f} | "
            f"{last.dead:,} ({max(one.most_dead for one in own):,}) | {_per(last.table, subject)} | "
            f"{_per(last.indexes, subject)} |"
        )
    return "\n".join(lines)


def _per(size: int, subject: Subject) -> str:
    return f"{size / subject.number:,.0f} B an effect"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effects", type=int, default=4000, help="of each round (default: %(default)s)")
    asked = parser.parse_args()
    connectors.register(_Stub())
    print(machine(), flush=True)
    with PostgresServer() as server:
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
            connection.execute("SELECT pg_reload_conf()")
        filled = {
            f"fill factor {factor}, no vacuum": [
                f"ALTER TABLE {name} SET (autovacuum_enabled = off{_fills(name, factor)})" for name in TABLES
            ]
            for factor in FILL_FACTORS
        }
        vacuumed = {name: [f"ALTER TABLE tape_effects SET ({settings})"] for name, settings in VACUUMS.items()}
        subjects = [Subject(server, name, changes) for name, changes in (filled | vacuumed).items()]
        lives: dict[str, list[Life]] = {subject.name: [] for subject in subjects}
        for number in range(ROUNDS):
            for subject in subjects if number % 2 else reversed(subjects):
                lives[subject.name].append(subject.measure(asked.effects))
        print(f"\n{table(subjects, lives)}")
        for subject in subjects:
            subject.tape.database.close()


def _fills(table: str, factor: int) -> str:
    """The journal is written once: its pages may be full."""
    return f", fillfactor = {factor}" if table == "tape_effects" else ""


if __name__ == "__main__":
    main()
