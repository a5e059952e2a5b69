"""Who operates the connectors: pauses them, limits them, sets breakers, and takes all of it back, while others work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from tape_celery import connectors
from tape_celery.errors import StoreUnavailable
from tests.simulation.stage import Stage

PAUSES = 0.15
"""In how many of the seeds about other things connectors are paused."""
_RATES = ("1/4 seconds", "2/10 seconds", "3/15 seconds", "20/10 seconds")


class Operator:
    """Has whims of its own, so that the other seeds stay what they are."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._world = stage.world
        self._limits = stage.world.theme.limited
        self._whims = Random(f"{'acts' if self._limits else 'pauses'} of {stage.world.seed}")
        self.comes = self._limits or self._whims.random() < PAUSES
        stage.operated = self.comes
        stage.lifts = not self._limits or self._whims.random() < 0.5

    def operate(self) -> None:
        """What it does until the world is healed; one who dies in the middle leaves things as they are."""
        if self._limits:
            self._limit()
        else:
            self._pause()

    def _pause(self) -> None:
        world, rng = self._world, self._whims
        for _ in range(rng.choice((1, 2, 4))):
            world.pause(rng.random() * 15_000)
            if world.healed:
                return
            connector = rng.choice(connectors.names())
            if self._said(partial(self._stage.pause, connector)):
                world.pause(rng.random() * 40_000)
            while not self._said(partial(self._stage.resume, connector)):
                world.pause(2_000)

    def _limit(self) -> None:
        world, rng = self._world, self._whims
        world.pause(rng.random() * 500)
        for connector in connectors.names():
            self._said(partial(self._stage.limit, connector, at_once=rng.choice((1, 1, 2))))
            if rng.random() < 0.6:
                self._said(self._breaker(connector, looks=False))
            if rng.random() < 0.3:
                self._said(partial(self._stage.limit, connector, looks=True, at_once=1))
        for _ in range(rng.choice((2, 4, 6))):
            world.pause(rng.random() * 6_000)
            if world.healed:
                return
            self._said(self._drawn_act(rng.choice(connectors.names()), looks=rng.random() < 0.3))

    def _drawn_act(self, connector: str, *, looks: bool) -> Callable[[], None]:
        stage, rng = self._stage, self._whims
        what = rng.choice(("at_once", "rate", "rate", "breaker", "breaker", "pause", "waiting"))
        if what == "pause":
            return partial(rng.choice((stage.pause, stage.resume)), connector, looks=looks)
        if what == "breaker":
            return self._breaker(connector, looks=looks)
        if what == "rate":
            return partial(stage.limit, connector, looks=looks, rate=rng.choice(("", *_RATES)))
        if what == "waiting":
            return partial(stage.limit, connector, waiting=rng.choice((0, 1, 2, 4)))
        return partial(stage.limit, connector, looks=looks, at_once=rng.choice((0, 1, 1, 2)))

    def _breaker(self, connector: str, *, looks: bool) -> Callable[[], None]:
        rng = self._whims
        return partial(
            self._stage.set_breaker,
            connector,
            looks=looks,
            share=rng.choice((0, 0.3, 0.5, 0.5, 1.0)),
            least=rng.choice((1, 1, 2)),
            window_seconds=rng.choice((10, 60)),
            open_seconds=rng.choice((2, 5, 15)),
        )

    def _said(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except StoreUnavailable:
            self._world.note("not said")
            return False
        return True
