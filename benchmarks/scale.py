"""A model of scale: what one PostgreSQL and so many workers carry, computed from what `benchmarks.costs` measured.

    python -m benchmarks.scale

It measures nothing and takes some seconds. Two things: arithmetic (an effect costs so many CPU milliseconds in each
process; how many cores is that at so many effects a second), and a simulation that lets the same processes compete for
cores and wait for commits, calls and each other, which tells the rate and the latency. Where the simulation stands for
what was measured, it has to agree (`tests/benchmarks/test_scale.py`). Prints the tables of docs/scale.md.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.simulated import Clock, Log, Machine, Process, Queue

BUSY = 0.7
"""How busy a core is planned to be: above, latency rises fast."""
RATES = (1_000, 10_000, 100_000)
DAY = 86_400


@dataclass(frozen=True)
class Costs:
    """What one effect costs, and how it is asked for and run. CPU times are milliseconds."""

    title: str
    batch: int
    """Effects of one call of the producer."""
    chunk: int
    """Effects of one hint; those of `.delay()` that come one right after the other ride together."""
    producer: float
    worker: float
    """In a worker's children, the call by HTTPConnector among it."""
    parent: float
    """In a worker's parent, which takes messages from the broker."""
    broker: float
    upstream: float
    record: float
    """In PostgreSQL, as the next two."""
    settle: float
    """Claim and seal."""
    vacuum: float
    claim_commits: float
    """Of one hint."""
    seal_commits: float
    """Of one hint, one after the other."""
    round_trips: float
    """Of a worker, for one hint."""
    log_bytes: float
    kept_bytes: float
    measured: float
    """Effects a second that were measured when all this was, on a machine of 2 cores."""

    @property
    def at_workers(self) -> float:
        return self.worker + self.parent

    @property
    def at_store(self) -> float:
        return self.record + self.settle + self.vacuum

    @property
    def commits(self) -> float:
        """Of one effect."""
        return 1 / self.batch + (self.claim_commits + self.seal_commits) / self.chunk


@dataclass(frozen=True)
class Place:
    """The machines."""

    store_cores: float = 2
    worker_machines: int = 0
    """0: everything is on the store's machine."""
    worker_cores: float = 8
    processes: int = 2
    """Of each worker machine."""
    sync_ms: float = 0.0
    """Of the store's disk."""
    trip_ms: float = 0.0
    """From a worker to PostgreSQL and back; on one machine it is CPU time, and counted there."""
    call_ms: float = 0.0
    """How long the upstream takes."""


@dataclass
class Outcome:
    """What a simulation came to."""

    rate: float
    """Effects a second, from the first call of a producer to the last end."""
    steady_rate: float
    """The same without the first fifth and the last twentieth: of what goes on for ever."""
    store_busy: float
    """Part of the store's cores."""
    syncs: float
    """A second."""
    waits: list[float] = field(repr=False)
    """Seconds of each effect from its intent having been committed until its call begins, sorted."""

    def wait_ms(self, part: float) -> float:
        return self.waits[min(len(self.waits) - 1, int(part * len(self.waits)))] * 1000


class _Run:
    def __init__(self, costs: Costs, place: Place, effects: int, rate: float | None, seed: int) -> None:
        self.costs, self.place, self.effects = costs, place, effects
        self.clock = clock = Clock()
        self.store = Machine(clock, place.store_cores)
        shared = not place.worker_machines
        self.workers = (
            [self.store] if shared else [Machine(clock, place.worker_cores) for _ in range(place.worker_machines)]
        )
        # Of producers, brokers and upstreams there are enough, or they are on the one machine.
        self.elsewhere = self.store if shared else Machine(clock, math.inf)
        self.log = Log(clock, place.sync_ms / 1000)
        self.queue = Queue()
        self.gathered: list[float] = []
        self.asked = self.ended = 0
        self.ends: list[tuple[float, int]] = []
        """When, and how many had ended then."""
        self.waits: list[float] = []
        for machine in self.workers:
            fetched = Queue()
            clock.start(self._parent(machine, fetched))
            for _ in range(place.processes):
                clock.start(self._child(machine, fetched))
        clock.start(self._one_producer() if rate is None else self._arrivals(rate, random.Random(seed)))  # noqa: S311

    def _one_producer(self) -> Process:
        """Asks as fast as it can."""
        for start in range(0, self.effects, self.costs.batch):
            yield from self._ask(min(self.costs.batch, self.effects - start))

    def _arrivals(self, rate: float, chance: random.Random) -> Process:
        """Calls of many producers, at random times."""
        for _ in range(0, self.effects, self.costs.batch):
            yield self.clock.pause(chance.expovariate(rate / self.costs.batch))
            self.clock.start(self._ask(self.costs.batch))

    def _ask(self, number: int) -> Process:
        costs = self.costs
        yield self.elsewhere.compute(number * costs.producer / 1000)
        yield self.store.compute(number * costs.record / 1000)
        yield self.log.commit()
        yield self.elsewhere.compute(number * costs.broker / 1000)
        self.gathered += [self.clock.now] * number
        self.asked += number
        while len(self.gathered) >= costs.chunk or (self.gathered and self.asked == self.effects):
            hint, self.gathered = self.gathered[: costs.chunk], self.gathered[costs.chunk :]
            self.queue.put(hint)

    def _parent(self, machine: Machine, fetched: Queue) -> Process:
        while True:
            hint = yield self.queue.take()
            yield machine.compute(len(hint) * self.costs.parent / 1000)
            fetched.put(hint)

    def _child(self, machine: Machine, fetched: Queue) -> Process:
        """One hint after the other; a half of its work comes before the calls of a hint."""
        costs, place = self.costs, self.place
        seals = max(1, round(costs.seal_commits))
        while True:
            hint = yield fetched.take()
            number = len(hint)
            yield machine.compute(number * costs.worker / 2000)
            yield from self._to_store(number * costs.settle / 2000)
            self.waits += [self.clock.now - asked for asked in hint]
            yield machine.compute(number * costs.worker / 2000)
            yield self.elsewhere.compute(number * costs.upstream / 1000)
            yield self.clock.pause(place.call_ms / 1000)
            for _ in range(seals):
                yield from self._to_store(number * costs.settle / 2000 / seals)
            yield self.clock.pause(costs.round_trips * place.trip_ms / 1000)
            self.ended += number
            self.ends.append((self.clock.now, self.ended))

    def _to_store(self, seconds: float) -> Process:
        yield self.store.compute(seconds)
        yield self.log.commit()


def simulate(costs: Costs, place: Place, effects: int, rate: float | None = None, seed: int = 1) -> Outcome:
    """``effects`` from one producer that is as fast as it can, or from many, ``rate`` a second at random times."""
    run = _Run(costs, place, effects, rate, seed)
    run.clock.run(lambda: run.ended >= effects)
    seconds = run.clock.now
    first, last = (run.ends[int(part * (len(run.ends) - 1))] for part in (0.2, 0.95))
    return Outcome(
        rate=run.ended / seconds,
        steady_rate=(last[1] - first[1]) / (last[0] - first[0]),
        store_busy=run.store.busy / seconds / place.store_cores,
        syncs=run.log.syncs / seconds,
        waits=sorted(run.waits),
    )


BULK = Costs(
    "delay_many of 500",
    batch=500,
    chunk=20,
    producer=0.09,
    worker=0.40,
    parent=0.07,
    broker=0.01,
    upstream=0.04,
    record=0.02,
    settle=0.12,
    vacuum=0.05,
    claim_commits=1,
    seal_commits=1.1,
    round_trips=8,
    log_bytes=5000,
    kept_bytes=2500,
    measured=2210,
)
ONE_BY_ONE = Costs(
    "`.delay()` one by one",
    batch=1,
    chunk=20,
    producer=0.52,
    worker=0.37,
    parent=0.08,
    broker=0.01,
    upstream=0.04,
    record=0.26,
    settle=0.11,
    vacuum=0.05,
    claim_commits=1,
    seal_commits=1.1,
    round_trips=8,
    log_bytes=4900,
    kept_bytes=2500,
    measured=1150,
)
WAYS = (BULK, ONE_BY_ONE)
ONE_MACHINE = Place()
"""That on which the costs were measured."""
APART = Place(worker_machines=1, sync_ms=1.0, trip_ms=0.3, call_ms=50.0)
"""Assumed of larger ones: a disk that syncs in 1 ms, 0.3 ms to the database and back, an upstream of 50 ms."""


_TOLD: dict[str, Callable[[Costs], float]] = {
    "producer, CPU ms": lambda costs: costs.producer,
    "worker's children, the call among it, CPU ms": lambda costs: costs.worker,
    "worker's parent, CPU ms": lambda costs: costs.parent,
    "PostgreSQL: record, CPU ms": lambda costs: costs.record,
    "PostgreSQL: claim and seal, CPU ms": lambda costs: costs.settle,
    "PostgreSQL: VACUUM, CPU ms": lambda costs: costs.vacuum,
    "Redis, CPU ms": lambda costs: costs.broker,
    "upstream, CPU ms": lambda costs: costs.upstream,
    "effects of one hint": lambda costs: costs.chunk,
    "commits": lambda costs: round(costs.commits, 2),
    "bytes of PostgreSQL's log": lambda costs: costs.log_bytes,
    "bytes kept": lambda costs: costs.kept_bytes,
}


def processes(costs: Costs, rate: float, place: Place) -> int:
    """Worker processes that a rate takes: by how long each is at one hint, computing or waiting, and `BUSY`."""
    commits = costs.claim_commits + costs.seal_commits
    milliseconds = (
        costs.chunk * (costs.worker + costs.settle)
        + place.call_ms
        + costs.round_trips * place.trip_ms
        + commits * 1.5 * place.sync_ms  # the sync that is under way, half of it, and one's own
    )
    return math.ceil(rate / costs.chunk * milliseconds / 1000 / BUSY)


def planned(costs: Costs, rate: float, assumed: Place = APART) -> Place:
    """``assumed`` with as many cores and processes as ``rate`` takes, none busier than `BUSY`."""
    cores = rate * costs.at_workers / 1000 / BUSY
    machines = math.ceil(cores / assumed.worker_cores)
    return replace(
        assumed,
        store_cores=math.ceil(rate * costs.at_store / 1000 / BUSY),
        worker_machines=machines,
        processes=math.ceil(processes(costs, rate, assumed) / machines),
    )


def checks() -> Iterator[Sequence[object]]:
    """The simulation beside what was measured."""
    for costs in WAYS:
        found = simulate(costs, ONE_MACHINE, 5000)
        yield costs.title, f"{costs.measured:,.0f}", f"{found.rate:,.0f}", f"{found.rate / costs.measured:.2f}"


def costs_told() -> Iterator[Sequence[object]]:
    """What is computed with."""
    for name, of in _TOLD.items():
        yield name, *(f"{of(costs):g}" for costs in WAYS)


def ceilings() -> Iterator[Sequence[object]]:
    """The most that one of each part does, fully busy."""
    parts: dict[str, Callable[[Costs], float]] = {
        "a producer's thread": lambda costs: costs.producer + costs.record,
        "the same, a sync takes 1 ms": lambda costs: costs.producer + costs.record + 1.0 / costs.batch,
        "a worker process, calls answered at once": lambda costs: costs.worker + costs.settle,
        "a worker's parent": lambda costs: costs.parent,
        "a core of PostgreSQL": lambda costs: costs.at_store,
        "Redis, which has one thread": lambda costs: costs.broker,
    }
    for name, of in parts.items():
        yield name, *(f"{1000 / of(costs):,.0f}" for costs in WAYS)


def stores() -> Iterator[Sequence[object]]:
    """What one PostgreSQL carries, by its cores."""
    for cores in (2, 4, 8, 16, 32):
        row: list[object] = [cores]
        for costs in WAYS:
            rate = cores * BUSY * 1000 / costs.at_store
            workers = rate * costs.at_workers / 1000 / BUSY
            row += [f"{rate:,.0f}", f"{workers:,.0f}", f"{rate * costs.log_bytes / 1e6:,.0f}"]
        yield row


def needs() -> Iterator[Sequence[object]]:
    """What each rate takes."""
    for costs in WAYS:
        for rate in RATES:
            place = planned(costs, rate)
            yield (
                costs.title,
                f"{rate:,}",
                f"{math.ceil(rate * costs.producer / 1000 / BUSY):,}",
                f"{math.ceil(rate * costs.at_workers / 1000 / BUSY):,}",
                f"{place.worker_machines * place.processes:,}",
                f"{place.store_cores:,.0f}",
                f"{rate * costs.commits:,.0f}",
                f"{rate * costs.log_bytes / 1e6:,.1f}",
                f"{rate * 2:,}",
                f"{rate * DAY / 1e6:,.0f}",
                f"{rate * DAY * costs.kept_bytes / 1e9:,.0f}",
                f"{rate * costs.broker / 10:.0f} %",
            )


def runs() -> Iterator[Sequence[object]]:
    """The places that were planned, simulated."""
    for costs in WAYS:
        for rate in RATES:
            found = simulate(costs, planned(costs, rate), effects=max(10_000, rate), rate=rate)
            yield (
                costs.title,
                f"{rate:,}",
                f"{found.steady_rate:,.0f}",
                f"{found.store_busy:.0%}",
                f"{found.syncs:,.0f}",
                f"{found.wait_ms(0.5):.1f}",
                f"{found.wait_ms(0.99):.1f}",
            )


def rising(rate: float = 2000) -> Iterator[Sequence[object]]:
    """How long effects wait as a place that stays the same is asked for more."""
    for part in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
        row: list[object] = [f"{part:.0%}"]
        for costs in WAYS:
            place = replace(planned(costs, rate), call_ms=0.0)
            # Not the steady rate: what floods the store is recorded first, and then ends all the faster.
            most = simulate(costs, place, 20_000, rate=10 * rate).rate
            found = simulate(costs, place, 20_000, rate=part * most)
            row += [f"{part * most:,.0f}", f"{found.wait_ms(0.5):.1f}", f"{found.wait_ms(0.99):.1f}"]
        yield row


def slow() -> Iterator[Sequence[object]]:
    """Worker processes for a thousand a second, by how long a call takes."""
    for call in (0, 50, 500, 2000):
        yield f"{call:,} ms", *(f"{processes(costs, 1000, replace(APART, call_ms=call)):,}" for costs in WAYS)


def table(head: Sequence[str], rows: Iterator[Sequence[object]]) -> str:
    """As a page has it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    each = [costs.title for costs in WAYS]
    of_each = [f"{title}: {what}" for title in each for what in ("effects/s", "median ms", "p99 ms")]
    wanted = ["cores of producers", "cores of workers", "worker processes", "cores of PostgreSQL", "commits/s"]
    kept = ["log MB/s", "dead rows/s", "million effects a day", "GB a day", "of Redis's core"]
    print("What one effect costs:\n")
    print(table(["", *each], costs_told()), "\n")
    print("Measured and simulated, 2 cores, 5,000 effects:\n")
    print(table(["", "measured, effects/s", "simulated", "ratio"], checks()), "\n")
    print("The most that one of each does, effects/s:\n")
    print(table(["", *each], ceilings()), "\n")
    print(f"What one PostgreSQL carries, {BUSY:.0%} busy:\n")
    of_store = [f"{title}: {what}" for title in each for what in ("effects/s", "cores of workers", "log MB/s")]
    print(table(["cores", *of_store], stores()), "\n")
    print(f"What a rate takes, nothing busier than {BUSY:.0%}:\n")
    print(table(["", "effects/s", *wanted, *kept], needs()), "\n")
    print("The same, simulated:\n")
    print(table(["", "asked for/s", "ended/s", "PostgreSQL busy", "syncs/s", "median ms", "p99 ms"], runs()), "\n")
    print("As the load rises:\n")
    print(table(["of the most", *of_each], rising()), "\n")
    print("Worker processes for 1,000 effects/s:\n")
    print(table(["a call takes", *each], slow()))


if __name__ == "__main__":
    main()
