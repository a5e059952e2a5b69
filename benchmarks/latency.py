"""How soon the upstream sees an effect, on an idle system: from `.delay()` having returned until the request is there.

    python -m benchmarks.latency                       300 effects, one every 50 ms, of each contestant

A worker may be faster than the producer comes back from its call: such a figure is below 0.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.contestants import find
from benchmarks.rounds import play
from benchmarks.running import running
from tests.servers import PostgresServer, RedisServer

MEASURED = ("plain_celery", "tape_threads", "tape_one_by_one", "tape_embedded", "dbos_queue", "procrastinate_jobs")
OURS = ("tape_threads", "tape_one_by_one")
"""Those that have a server for their messages."""
PAUSE_SECONDS = 0.05
GOALS = (("median", 1.5), ("p99", 3.0))


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of one contestant in one round."""

    contestant: str
    round: int
    call: list[float]
    """What the call itself took."""
    seen: list[float]
    """From its return until the upstream saw the request."""


def measure(name: str, round_number: int, effects: int, postgres: PostgresServer, redis: RedisServer) -> Latencies:
    """Measure one contestant."""
    with running(name, postgres, redis) as run:
        spans = run.trickle(effects, PAUSE_SECONDS)
        run.finish()
        seen = run.upstream.seen()
        return Latencies(
            name,
            round_number,
            [(returned - began) * 1000 for began, returned in spans.values()],
            [(seen[number] - returned) * 1000 for number, (_, returned) in spans.items()],
        )


def table(found: Sequence[Latencies], names: Sequence[str]) -> str:
    """Medians and ranges over the rounds."""
    lines = ["| milliseconds | seen: median | seen: p99 | the call: median | the call: p99 |", "| --- " * 5 + "|"]
    for name in names:
        own = [one for one in found if one.contestant == name]
        cells = [
            _spread([at([*getattr(one, what)]) for one in own]) for what in ("seen", "call") for at in (_median, _p99)
        ]
        lines.append(f"| {find(name).title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def goals(found: Sequence[Latencies]) -> str:
    """The goals against plain Celery, round by round."""
    lines = ["| goal | median of the rounds | |", "| --- | --- | --- |"]
    by_round = {(one.contestant, one.round): one.seen for one in found}
    for name in OURS:
        rounds = [n for contestant, n in by_round if contestant == name and ("plain_celery", n) in by_round]
        for (what, goal), at in zip(GOALS, (_median, _p99), strict=True):
            if rounds:
                ratio = statistics.median(at(by_round[name, n]) / at(by_round["plain_celery", n]) for n in rounds)
                verdict = "reached" if ratio <= goal else "**missed**"
                lines.append(f"| {find(name).title}: {what} ≤ {goal:g} × plain Celery's | {ratio:.2f} | {verdict} |")
    return "\n".join(lines)


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(len(values) * 0.99))]


def _spread(values: Sequence[float]) -> str:
    median = f"{statistics.median(values):.1f}"
    return median if len(values) == 1 else f"{median} ({min(values):.1f}–{max(values):.1f})"


def main() -> None:
    rounds = play(__doc__, measure, lambda one: f"{_median(one.seen):>8.1f} ms", effects=300, names=MEASURED)
    print(f"\n{table(rounds.found, rounds.names)}\n\n{goals(rounds.found)}")
    told = {"told": rounds.told, "rounds": [asdict(one) for one in rounds.found]}
    (rounds.out / "latency.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
