"""One seed, from its first order to rest: a time in which things go wrong, then healing, then judgement."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

from tape_celery import connectors
from tests.simulation import oracle, world
from tests.simulation.actors import Cast, drawn_orders, sweep_once
from tests.simulation.faults import Faults
from tests.simulation.stage import Stage, tables, tape
from tests.simulation.world import Failure, Process, World

ROUNDS = 400
"""How many sweeps may be needed after everything is healed."""


@dataclass
class Played:
    """What one seed came to."""

    seed: int
    failures: list[str]
    log: list[tuple[Any, ...]]
    stage: Stage

    @property
    def digest(self) -> str:
        """The same for the same events."""
        return hashlib.sha256("\n".join(map(repr, self.log)).encode()).hexdigest()


def play(seed: int, *, faults: Faults | None = None) -> Played:
    """Play ``seed``; the seams must be installed."""
    _prepare()
    now = World(seed)
    if faults is not None:
        now.faults = faults
    world.enter(now)
    stage = Stage(now)
    try:
        orders = drawn_orders(now.rng, now.theme, connectors.names(), now.now_ms)
        cast = Cast(stage, orders)
        cast.enter()
        _go_wrong(stage)
        if not now.failures:
            _heal(stage, cast)
        if not now.failures:
            now.failures.extend(oracle.at_rest(stage, orders))
    except Failure as failure:
        now.fail(str(failure))
    finally:
        now.close()
        connectors.clear()
    return Played(seed, now.failures, now.log, stage)


@functools.cache
def _prepare() -> None:
    """Make what all seeds of a process share in a world of its own, so that the first seed is as any other."""
    world.enter(World(0))
    tables()
    tape()


def _go_wrong(stage: Stage) -> None:
    now, rng = stage.world, stage.world.rng
    begin, length = now.now_ms, rng.choice((20_000, 60_000, 60_000, 150_000))
    if rng.random() < now.faults.clock_jump:
        now.at(begin + rng.random() * length, lambda: _jump(now))
    for _ in range(rng.choice((0, 1, 2))):
        now.run(until_ms=begin + rng.random() * length)
        now.failures.extend(oracle.at_any_time(stage))
    now.run(until_ms=begin + length)


def _jump(now: World) -> None:
    ms = now.rng.choice((-4_000, 4_000, 30_000, 200_000))
    now.note("clock jumps", ms)
    now.jumped = True
    now.shift_ms += ms


def _heal(stage: Stage, cast: Cast) -> None:
    """No more faults; sweeps until nothing is due and nobody is at work, however long that takes in virtual time."""
    now = stage.world
    now.note("healed")
    now.healed = True
    now.store_away_until_ms = 0
    cast.come_to_help()
    for _ in range(20):
        healer = Process("healer", 0)
        now.spawn(healer, lambda: _sweep_until_quiet(stage))
        now.run()
        if stage.next_due_ms() is None:
            now.spawn(healer, lambda: sweep_once(stage))  # what waits for a person is not overdue
            now.run()
            return
    raise Failure("there is always something left to do")


def _sweep_until_quiet(stage: Stage) -> None:
    for _ in range(ROUNDS):
        if stage.operated:  # whoever was frozen in the middle of an act may do it only now
            stage.let_go()
        sweep_once(stage)
        due = stage.next_due_ms()
        if due is None:
            return
        stage.world.pause(max(1000, due - stage.world.database_ms + 1))
    raise Failure(f"{ROUNDS} sweeps, and something is still due")
