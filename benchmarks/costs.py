"""What one effect costs each process, and PostgreSQL's log: the figures that `benchmarks.scale` computes with.

    python -m benchmarks.costs                           5,000 effects, by delay_many and one by one
    python -m benchmarks.costs --fsync                   PostgreSQL waits for the disk

CPU time is that of the processes over one run, divided by its effects. A session of PostgreSQL is told from another by
whose connection it is: the producer's records, the workers' claim and seal. A VACUUM of both tables follows the run, so
that what autovacuum would have had to do is counted too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from typing import Any

import psutil

from benchmarks.machine import machine
from benchmarks.running import cpu_seconds, running
from tests.servers import PostgresServer, RedisServer

WAYS = ("tape_bulk", "tape_one_by_one")
_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_LOG = "SELECT pg_current_wal_lsn() - '0/0'"
_SIZES = (
    "SELECT relname, pg_total_relation_size(relid), n_tup_upd - n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables "
    "WHERE relname IN ('tape_effects', 'tape_journal')"
)


def measure(way: str, effects: int, chunk: int, postgres: PostgresServer, redis: RedisServer) -> dict[str, Any]:
    """One run: effects a second, and CPU milliseconds, commits and bytes of one effect."""
    with running(way, postgres, redis, chunk_size=chunk) as run, postgres.connect(run.database) as connection:
        names = _named(postgres)
        log, commits = _counted(connection)
        before = cpu_seconds()
        began, submitted = run.submit(effects)
        ended = run.finish()
        after = cpu_seconds()
        log_after, commits_after = _counted(connection)
        spent: Counter[str] = Counter()
        for pid, seconds in after.items():
            spent[names.get(pid, "other")] += (seconds - before.get(pid, 0.0)) / effects * 1000
        own = psutil.Process(connection.info.backend_pid)
        vacuum = sum(own.cpu_times()[:2])
        connection.execute("VACUUM tape_effects, tape_journal")
        spent["PostgreSQL: VACUUM"] = (sum(own.cpu_times()[:2]) - vacuum) / effects * 1000
        return {
            "way": way,
            "chunk": chunk,
            "effects": effects,
            "per second": effects / (ended - began),
            "submitted per second": effects / (submitted - began),
            "CPU ms": {name: round(ms, 3) for name, ms in sorted(spent.items())},
            "commits": (commits_after - commits) / effects,
            "log bytes": float(log_after - log) / effects,
            "bytes kept, rows updated": {
                row[0]: [round(n / effects, 2) for n in row[1:]] for row in connection.execute(_SIZES)
            },
        }


def _counted(connection: Any) -> tuple[Any, Any]:
    log = connection.execute(_LOG).fetchone()[0]
    time.sleep(11)  # a session that is idle tells its last commits after ten seconds
    return log, connection.execute(_COMMITS).fetchone()[0]


def _named(postgres: PostgresServer) -> dict[int, str]:
    """What each process is."""
    processes = psutil.Process().children(recursive=True)
    names: dict[int, str] = {}
    port_of: dict[int, str] = {}
    for process in processes:
        told = " ".join(process.cmdline())
        if "benchmarks.producer" in told:
            name = "producer"
        elif "benchmarks.upstream" in told:
            name = "upstream"
        elif "redis" in told:
            name = "broker"
        elif " worker " in told:
            kind = "worker" if "dispatch@" in told else "other worker"
            child = "worker " in " ".join(psutil.Process(process.ppid()).cmdline())
            name = f"{kind}, child" if child else f"{kind}, parent"
        elif " beat " in told:
            name = "beat"
        else:
            continue
        names[process.pid] = name
        for connection in process.net_connections():
            if connection.raddr and connection.raddr.port == postgres.port:
                port_of[connection.laddr.port] = name
    with postgres.connect() as connection:
        for pid, port in connection.execute("SELECT pid, client_port FROM pg_stat_activity"):
            names[pid] = f"PostgreSQL: session of {port_of[port]}" if port in port_of else "PostgreSQL: of its own"
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effects", type=int, default=5000, help="(%(default)s)")
    parser.add_argument("--fsync", action="store_true", help="have PostgreSQL wait for the disk at each commit")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--chunk", type=int, default=20, help="tape_chunk_size (%(default)s)")
    asked = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, {machine()}, fsync {'on' if asked.fsync else 'off'}", flush=True)
    with PostgresServer(durable=asked.fsync) as postgres, RedisServer() as redis:
        for way in asked.only:
            print(json.dumps(measure(way, asked.effects, asked.chunk, postgres, redis), indent=1), flush=True)


if __name__ == "__main__":
    main()
