"""The model of docs/scale.md agrees with what was measured, and its parts do what queues and cores do. No clock."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.simulated import Clock, Log, Machine, Process, Queue

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
WAYS = pytest.mark.parametrize("costs", scale.WAYS, ids=lambda costs: costs.title)


@WAYS
def test_at_the_small_end_the_simulation_agrees_with_the_measurement(costs: scale.Costs) -> None:
    """On the two cores on which its costs were measured, within a quarter."""
    found = scale.simulate(costs, scale.ONE_MACHINE, 5000)
    assert found.rate == pytest.approx(costs.measured, rel=0.25)


@WAYS
def test_the_simulation_notices_costs_that_are_not_those_measured(costs: scale.Costs) -> None:
    """The agreement is none of chance: an effect that costs twice as much in three places does not fit."""
    dearer = replace(costs, producer=costs.producer * 2, worker=costs.worker * 2, settle=costs.settle * 2)
    assert scale.simulate(dearer, scale.ONE_MACHINE, 5000).rate < 0.75 * costs.measured


@WAYS
@pytest.mark.parametrize("rate", scale.RATES[:2])
def test_what_is_planned_for_a_rate_carries_it(costs: scale.Costs, rate: int) -> None:
    """Arithmetic and simulation tell the same: what is asked for ends, and PostgreSQL is as busy as was planned."""
    place = scale.planned(costs, rate)
    found = scale.simulate(costs, place, effects=max(20_000, 200 * costs.batch), rate=rate)
    assert found.steady_rate == pytest.approx(rate, rel=0.15)
    foreground = costs.at_store - costs.vacuum
    assert found.store_busy == pytest.approx(rate * foreground / 1000 / place.store_cores, rel=0.15)


def test_cores_are_shared_evenly_and_nobody_has_more_than_one() -> None:
    """Three on two cores take half as long again; one alone is no faster for a second core."""
    clock, ends = Clock(), []
    machine = Machine(clock, 2)

    def work(seconds: float) -> Process:
        yield machine.compute(seconds)
        ends.append(clock.now)

    for _ in range(3):
        clock.start(work(1.0))
    clock.run(lambda: False)
    clock.start(work(1.0))
    clock.run(lambda: False)
    assert ends == pytest.approx([1.5, 1.5, 1.5, 2.5])
    assert machine.busy == pytest.approx(4.0)


def test_a_machine_as_busy_as_can_be_told_makes_who_comes_at_random_wait_as_the_formula_says() -> None:
    """One core that is shared: the mean time there is the work by one less the load (M/G/1, processor sharing)."""
    clock, times, chance = Clock(), [], random.Random(7)
    machine = Machine(clock, 1)

    def visit() -> Process:
        began = clock.now
        yield machine.compute(0.001)
        times.append(clock.now - began)

    def arrivals() -> Process:
        for _ in range(40_000):
            yield clock.pause(chance.expovariate(800))
            clock.start(visit())

    clock.start(arrivals())
    clock.run(lambda: False)
    assert sum(times) / len(times) == pytest.approx(0.001 / (1 - 0.8), rel=0.1)


def test_commits_that_wait_share_a_sync() -> None:
    """The first has one of its own; all that came meanwhile have the next together."""
    clock, ends = Clock(), []
    log = Log(clock, 1.0)

    def commit(after: float) -> Process:
        yield clock.pause(after)
        yield log.commit()
        ends.append(clock.now)

    for number in range(5):
        clock.start(commit(0.1 * number))
    clock.run(lambda: False)
    assert ends == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0])
    assert log.syncs == 2


def test_a_queue_is_first_come_first_served() -> None:
    """For what waits in it, and for who waits at it."""
    clock, taken = Clock(), []
    queue = Queue()

    def take() -> Process:
        while len(taken) < 4:
            taken.append((yield queue.take()))

    queue.put(1)
    queue.put(2)
    clock.start(take())
    queue.put(3)
    queue.put(4)
    assert taken == [1, 2, 3, 4]


def test_the_page_shows_what_is_computed() -> None:
    """A cost that is measured anew changes the page too: every row of its tables but those of the long simulations."""
    page = PAGE.read_text()
    for rows in (scale.costs_told, scale.checks, scale.ceilings, scale.stores, scale.needs, scale.slow):
        for row in rows():
            assert f"| {' | '.join(map(str, row))} |" in page
