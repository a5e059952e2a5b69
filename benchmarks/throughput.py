"""How many effects a second each contestant brings to their end, side by side and in turn.

    python -m benchmarks.throughput                                  5,000 effects, 3 rounds, everybody
    python -m benchmarks.throughput --effects 500 --rounds 2 --only plain_celery tape_bulk
    python -m benchmarks.throughput --fsync                          PostgreSQL waits for the disk

From the first submit of one producer process until the last effect is over: CONFIRMED, or what the contestant has for
that. Ratios are those of one round, so that a slow minute of the machine is everybody's. Prints the tables, and writes
throughput.json and throughput.png.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.contestants import NAMES, brought_by_bench, find
from benchmarks.rounds import play
from benchmarks.running import cpu_seconds, running
from tests.servers import PostgresServer, RedisServer

MEASURED = tuple(name for name in NAMES if name != "tape_threads")
"""Without the one that is for latency: all threads of its one process share a core."""
GOALS = (
    ("tape_one_by_one", "plain_celery", 1.2),
    ("tape_one_by_one", "dbos_queue", 3.0),
    ("tape_bulk", "plain_celery", 3.0),
    ("tape_bulk", "dbos_queue", 7.0),
    ("tape_embedded", "plain_celery", 0.5),
)


@dataclass(frozen=True)
class Lap:
    """One contestant in one round."""

    contestant: str
    round: int
    effects: int
    submit_seconds: float
    seconds: float
    cpu_seconds: float
    """Of all processes, servers among them: with this it matters less what else the machine does."""
    repeated: int
    """POSTs beyond one an effect."""

    @property
    def rate(self) -> float:
        """Effects a second, from the first submit to the last end."""
        return self.effects / self.seconds

    @property
    def submit_rate(self) -> float:
        """Effects a second that the producer submitted."""
        return self.effects / self.submit_seconds


def lap(name: str, round_number: int, effects: int, postgres: PostgresServer, redis: RedisServer) -> Lap:
    """Measure one."""
    with running(name, postgres, redis) as run:
        before = cpu_seconds()
        began, submitted = run.submit(effects)
        ended = run.finish()
        used = sum(spent - before.get(pid, 0) for pid, spent in cpu_seconds().items())
        counts = run.upstream.counts()
        return Lap(
            name,
            round_number,
            effects,
            submit_seconds=submitted - began,
            seconds=ended - began,
            cpu_seconds=used,
            repeated=counts["requests"] - counts["distinct"],
        )


def ratios(laps: Sequence[Lap], name: str, to: str) -> list[float]:
    """How ``name`` compares ``to`` another, round by round."""
    rate = {(one.contestant, one.round): one.rate for one in laps}
    rounds = sorted({one.round for one in laps})
    return [rate[name, n] / rate[to, n] for n in rounds if (name, n) in rate and (to, n) in rate]


def table(laps: Sequence[Lap], names: Sequence[str]) -> str:
    """Ratios first."""
    head = "| | × plain Celery | × DBOS | effects/s, end to end | submitted/s | CPU ms an effect | POSTs too many |"
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
    for name in names:
        own = [one for one in laps if one.contestant == name]
        cells = [find(name).title]
        cells += [_spread(ratios(laps, name, to), ".2f") for to in ("plain_celery", "dbos_queue")]
        cells += [_spread([one.rate for one in own], ",.0f"), _spread([one.submit_rate for one in own], ",.0f")]
        cells.append(_spread([one.cpu_seconds / one.effects * 1000 for one in own], ".1f"))
        cells.append(str(sum(one.repeated for one in own)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def goals(laps: Sequence[Lap]) -> str:
    """Each goal, and whether its median reaches it."""
    lines = ["| goal | median | |", "| --- | --- | --- |"]
    for name, to, goal in GOALS:
        if found := ratios(laps, name, to):
            median = statistics.median(found)
            what = f"{find(name).title} ≥ {goal:g} × {find(to).title}"
            lines.append(f"| {what} | {median:.2f} | {'reached' if median >= goal else '**missed**'} |")
    return "\n".join(lines)


def plot(laps: Sequence[Lap], names: Sequence[str], told: str, path: Path) -> None:
    """Bars for the medians, whiskers for the ranges."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rates = [[one.rate for one in laps if one.contestant == name] for name in names]
    medians = [statistics.median(own) for own in rates]
    low = [median - min(own) for own, median in zip(rates, medians, strict=True)]
    high = [max(own) - median for own, median in zip(rates, medians, strict=True)]
    colours = ["#1f6f8b" if name.startswith("tape_") else "#b8b8b8" for name in names]
    figure, axes = pyplot.subplots(figsize=(9, 0.6 * len(names) + 1.6))
    axes.barh([find(name).title for name in names], medians, xerr=[low, high], color=colours, capsize=4)
    for place, (median, more) in enumerate(zip(medians, high, strict=True)):
        axes.annotate(f" {median:,.0f}", (median + more, place), va="center")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("effects/s, from the first submit to the last end: median, and range of the rounds")
    figure.suptitle(told, fontsize=8, x=0.01, ha="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "–"
    median, low, high = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
    return median if len(values) == 1 else f"{median} ({low}–{high})"


def main() -> None:
    brought_by_bench("matplotlib")  # which draws when all is measured, minutes later
    rounds = play(__doc__, lap, lambda one: f"{one.rate:>8,.0f} effects/s", effects=5000, names=MEASURED)
    laps, names = rounds.found, rounds.names
    print(f"\n{table(laps, names)}\n\n{goals(laps)}\n\nSet-up:")
    for name in names:
        print(f"- {find(name).title}: {find(name).setup}")
    fastest = max(one.rate for one in laps)
    print(f"\nOf the upstream, at most {fastest:,.0f}/s were asked; alone it gives {rounds.upstream:,.0f}.")
    if fastest > rounds.upstream / 2:
        print(f"\nThe upstream may have been the bottleneck: {fastest:,.0f}/s were asked of it.")
    told = {
        "told": rounds.told,
        "upstream": rounds.upstream,
        "laps": [{**asdict(one), "rate": one.rate} for one in laps],
    }
    (rounds.out / "throughput.json").write_text(json.dumps(told, indent=1))
    caption = f"{rounds.told}; {rounds.effects:,} effects, {rounds.number} rounds"
    plot(laps, names, caption, rounds.out / "throughput.png")


if __name__ == "__main__":
    main()
