"""Whether workers stay as they are: memory, connections, files and threads of each process over 100,000 effects.

    python -m benchmarks.longrun                          100,000 effects, about five minutes
    python -m benchmarks.longrun --effects 5000           a shorter one, whose warm-up is most of it

A dispatch worker (prefork, 2 processes), a worker for the other queues, and beat, on PostgreSQL and Redis; effects come
by delay_many, 500 a call, and never more than 2,000 ahead of the upstream. Everything is looked at every two seconds.
Prints what was seen at 10, 25, 50, 75 and 100 %, and whether it was flat: the most of each figure after 40 % is within
a tenth of its most between 20 and 40 %. Exits with 1 where it was not. What is stored grows with the effects, and is
only shown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

import psutil
from sqlalchemy import text

from benchmarks.installation import Installation, installed
from benchmarks.machine import machine
from tests.servers import Process

AT_ONCE = 500
AHEAD = 2000
EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 1200.0
SHOWN = (0.10, 0.25, 0.50, 0.75, 1.0)
WARM, THEN = 0.20, 0.40
TOLERANCE = 1.10
SLACK = 2
"""That many more files, threads or connections are no leak, whatever a tenth of a small number is."""
_TABLES = text(
    "SELECT relname, n_dead_tup, pg_total_relation_size(relid) FROM pg_stat_user_tables "
    "WHERE relname IN ('tape_effects', 'tape_journal') ORDER BY relname"
)
_SESSIONS = text("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")

Seen = dict[str, float]
"""One look: each figure by what it is."""


def look(installation: Installation, processes: Mapping[str, psutil.Process]) -> Seen:
    """Look at everything once."""
    seen: Seen = {}
    for name, process in processes.items():
        with process.oneshot():
            seen[f"{name}: MiB resident"] = process.memory_info().rss / 2**20
            seen[f"{name}: open files"] = process.num_fds()
            seen[f"{name}: threads"] = process.num_threads()
        ports = [connection.raddr.port for connection in process.net_connections() if connection.raddr]
        seen[f"{name}: connections to PostgreSQL"] = ports.count(installation.postgres.port)
    database = installation.tape.database
    seen["PostgreSQL: sessions"] = database.read(lambda c: c.execute(_SESSIONS).scalar_one())
    for table, dead, size in database.read(lambda c: c.execute(_TABLES).all()):
        seen[f"{table}: dead rows"] = dead
        seen[f"{table}: MiB"] = size / 2**20
    return seen


def watched(installation: Installation, effects: int) -> list[tuple[float, float, Seen]]:
    """What was seen when which part of all effects had come to the upstream, and how many seconds had passed."""
    dispatch = installation.worker("tape.dispatch", concurrency=2)
    others = installation.worker("tape.observe,tape.compensate,tape.sweep", concurrency=1)
    processes = {**_named("dispatch", dispatch), **_named("others", others), **_named("beat", installation.beat())}
    looks: list[tuple[float, float, Seen]] = []
    began = time.monotonic()
    came = asked = 0
    while came < effects:
        came, passed = installation.upstream.counts()["distinct"], time.monotonic() - began
        if asked < effects and asked - came <= AHEAD - AT_ONCE:
            asked = _ask(installation, asked, min(asked + AT_ONCE, effects))
        if not looks or passed - looks[-1][1] >= EVERY_SECONDS or came >= effects:
            looks.append((came / effects, passed, look(installation, processes)))
        time.sleep(0.05)
        if passed > PATIENCE_SECONDS:
            raise RuntimeError(f"{effects - came:,} have not come to the upstream: {installation.states()}")
    installation.finish(effects)
    return looks


def _ask(installation: Installation, first: int, end: int) -> int:
    installation.tape.effect.delay_many(
        {"connector": "wire", "request": {"number": number}, "business_key": f"wire-{number}"}
        for number in range(first, end)
    )
    return end


def is_flat(what: str, looks: Sequence[tuple[float, float, Seen]]) -> bool | None:
    """Whether it was, of what should be; ``None`` for what grows with the effects, and where the run was too short."""
    warm = [seen[what] for part, _, seen in looks if WARM <= part <= THEN]
    later = [seen[what] for part, _, seen in looks if part > THEN]
    if what.startswith("tape_") or not warm or not later:
        return None
    return max(later) <= max(max(warm) * TOLERANCE, max(warm) + (0 if "MiB" in what else SLACK))


def table(looks: Sequence[tuple[float, float, Seen]], effects: int) -> str:
    """All figures at the parts that are shown."""
    at = [next(one for one in looks if one[0] >= part) for part in SHOWN]
    lines = [f"| | {' | '.join(f'{part:.0%}' for part in SHOWN)} | |", "| --- " * (len(SHOWN) + 2) + "|"]
    befores = [looks[0], *at[:-1]]
    rates = [
        (after[0] - before[0]) * effects / max(after[1] - before[1], 0.001)
        for before, after in zip(befores, at, strict=True)
    ]
    lines.append(f"| effects/s since the last column | {' | '.join(f'{rate:,.0f}' for rate in rates)} | |")
    for what in looks[-1][2]:
        flat = {True: "flat", False: "**grows**", None: ""}[is_flat(what, looks)]
        cells = [f"{seen[what]:,.1f}" if "MiB" in what else f"{seen[what]:,.0f}" for _, _, seen in at]
        lines.append(f"| {what} | {' | '.join(cells)} | {flat} |")
    return "\n".join(lines)


def _named(name: str, process: Process) -> dict[str, psutil.Process]:
    parent = psutil.Process(process.pid)
    children = sorted(parent.children(recursive=True), key=lambda child: child.pid)
    return {name: parent, **{f"{name}, child {number}": child for number, child in enumerate(children, 1)}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effects", type=int, default=100_000, help="(%(default)s)")
    asked = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, {machine()}\n{asked.effects:,} effects\n", flush=True)
    with installed() as installation:
        looks = watched(installation, asked.effects)
        counts = installation.upstream.counts()
    print(table(looks, asked.effects))
    grown = [what for what in looks[-1][2] if is_flat(what, looks) is False]
    print(f"\n{looks[-1][1]:.0f} s, {counts['requests'] - counts['distinct']} POSTs too many")
    print(f"not flat: {', '.join(grown)}" if grown else "flat")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
