"""Who acts: producers, workers, sweepers and people, each by the product's own public ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tape_celery import tasks
from tape_celery.errors import (
    IntentUncertain,
    InvalidIntent,
    NoSuchEffect,
    NoSuchRun,
    NotAllowed,
    QueueFull,
    StoreUnavailable,
)
from tests.simulation.operator import Operator
from tests.simulation.stage import Hint, Stage, links
from tests.simulation.themes import Theme
from tests.simulation.world import Process

RUN = "run-1"
"""The one that a person may close."""


@dataclass
class Order:
    """One thing that a producer wants, and what it was told."""

    connector: str
    request: dict[str, Any]
    keywords: dict[str, Any]
    when: dict[str, float]
    at_ms: int
    returned: str = ""
    """The key that `.delay` returned."""
    refused: bool = False
    """`.delay` raised: nothing may have been recorded."""
    done: bool = False


def drawn_orders(rng: Random, theme: Theme, connectors: list[str], start_ms: int) -> list[Order]:
    """What producers will want, some of it twice, some of it about the same business."""
    orders = []
    for number in range(rng.choice(theme.orders)):
        about = rng.choice(theme.about)
        keywords: dict[str, Any] = {
            "semantics": rng.choice(theme.semantics),
            "idempotency_key": f"order-{number if rng.random() < 0.9 else 0}",
            "allow_unsafe": True,
        }
        if about:
            keywords["business_key"] = about
        if rng.random() < theme.ordered:
            keywords["ordering_key"] = rng.choice(("line-1", "line-1", "line-2"))
        if rng.random() < theme.linked:
            keywords |= links()
        if rng.random() < theme.in_run:
            keywords["run_id"] = RUN
        when = {}
        if rng.random() < 0.2:
            when["countdown"] = rng.random() * 30
        if rng.random() < 0.2:
            when["expires"] = rng.random() * 60
        request = {"about": about or number}
        orders.append(
            Order(
                rng.choice(connectors),
                request,
                keywords,
                when,
                start_ms + int(rng.random() * rng.random() * theme.within_ms),
            )
        )
    return orders


@dataclass
class Cast:
    """The processes of one world, which come back after they were killed."""

    stage: Stage
    orders: list[Order] = field(default_factory=list)

    def enter(self) -> None:
        """Start everybody."""
        rng = self.stage.world.rng
        for number in range(rng.choice(self.stage.world.theme.workers)):
            self._start(f"w{number + 1}", self._work)
        for number in range(rng.choice((1, 1, 2))):
            self._start(f"s{number + 1}", self._sweep)
        self._start("p1", self._produce)
        self._start("human", self._decide)
        operator = Operator(self.stage)
        if operator.comes:
            self._start("operator", lambda process: operator.operate())

    def _start(self, name: str, body: Callable[[Process], None], generation: int = 1) -> None:
        world = self.stage.world
        hours = world.rng.choice((0, 0, -5, 7, 24))
        process = Process(f"{name}.{generation}", hours * 3_600_000)
        process.at_death = lambda: self._come_back(name, body, generation)
        world.spawn(process, lambda: body(process))

    def _come_back(self, name: str, body: Callable[[Process], None], generation: int) -> None:
        world = self.stage.world
        after = int(world.rng.random() * 8_000)
        world.at(world.now_ms + after, lambda: self._start(name, body, generation=generation + 1))

    def come_to_help(self) -> None:
        """One more worker, for a world whose others may be frozen for hours."""
        self._start("w9", self._work)

    # --- workers and sweepers ---

    def _work(self, process: Process) -> None:
        stage = self.stage
        while True:
            hint = stage.take()
            if hint is None:
                stage.wait_for_hints()
                continue
            self._pass(process, hint)

    def _pass(self, process: Process, hint: Hint) -> None:
        process.busy_with = hint.keys if hint.verb != "observe" else ()
        process.calls.clear()
        tasks._pass(self.stage.tape, hint.verb, list(hint.keys), hint.hops)
        process.busy_with = ()

    def _sweep(self, process: Process) -> None:
        stage = self.stage
        while not stage.world.healed:
            stage.world.pause(stage.settings.sweep_seconds * 1000 * (0.2 + stage.world.rng.random()))
            due = stage.next_due_ms()  # a sweep that finds nothing only costs the simulation time
            if due is not None and due <= stage.world.database_ms and not stage.world.healed:
                sweep_once(stage)

    # --- producers ---

    def _produce(self, process: Process) -> None:
        world = self.stage.world
        for order in self.orders:
            if order.done:
                continue
            world.pause(max(0, order.at_ms - world.now_ms))
            self._submit(order)

    def _submit(self, order: Order) -> None:
        """Submit until it is known what became of it; a producer that dies comes back to the same order."""
        world = self.stage.world
        while not order.done:
            try:
                handle = self.stage.tape.effect.apply_async(
                    (order.connector, order.request), dict(order.keywords), **order.when
                )
            except StoreUnavailable:
                order.refused = True
                if world.rng.random() < 0.3 and not world.healed:
                    order.done = True
            except IntentUncertain:
                world.note("uncertain")
            except InvalidIntent as error:
                world.note("refused", type(error).__name__)
                order.done = True
            except QueueFull:
                self.stage.is_not_recorded(order.keywords["idempotency_key"])
                order.refused = True
                order.done = world.healed or world.rng.random() < 0.1
            else:
                order.returned = str(handle.id)
                order.refused = False
                order.done = True
            if not order.done:
                world.pause(1000)

    # --- a person ---

    def _decide(self, process: Process) -> None:
        world, rng = self.stage.world, self.stage.world.rng
        for _ in range(rng.choice(self.stage.world.theme.person)):
            world.pause(rng.random() * self.stage.world.theme.every_ms)
            if world.healed:
                return
            self._act()

    def _act(self) -> None:
        """Cancel, owe, resolve or reissue something, or close the run; only what the upstream's book bears out."""
        stage = self.stage
        tape, rng, theme = stage.tape, stage.world.rng, stage.world.theme
        rows = stage.tables.rows("SELECT effect_key, status FROM tape_effects ORDER BY 1")
        owed = [row[0] for row in stage.tables.rows("SELECT obligation_key FROM tape_obligations ORDER BY 1")]
        if not rows:
            return
        odd = [row for row in rows if row["status"] not in ("CONFIRMED", "FAILED", "CANCELLED")]
        key, status = rng.choice(odd if odd and rng.random() < 0.6 else rows)
        try:
            if rng.random() < theme.closes * (0.2 + sum(row["status"] == "CONFIRMED" for row in rows)):
                close = rng.choice((tape.compensate_run, tape.compensate_run, tape.cancel_run))
                close(RUN, reason="not wanted", actor="person")
            elif status in ("FAILED", "CANCELLED") and rng.random() < theme.reissues:
                stage.reissue(key)
            elif owed and rng.random() < 0.3:
                stage.resolve_obligation(rng.choice(owed))
            elif status == "CONFIRMED" and rng.random() < theme.owes:
                tape.owe(key, reason="wrong amount", actor="person")
            elif status != "STUCK" and rng.random() < theme.cancels:
                tape.cancel(key, reason="not wanted", actor="person")
            elif rng.random() < 0.4:
                tape.resolve(key, "observe", reason="look again", actor="person")
            else:
                stage.resolve(key)
        except (NotAllowed, NoSuchEffect, NoSuchRun, InvalidIntent, StoreUnavailable) as error:
            stage.world.note("not allowed", type(error).__name__)


def sweep_once(stage: Stage) -> None:
    """One sweep, as the task makes it."""
    try:
        stage.tape.sweep()
    except StoreUnavailable:
        stage.world.note("not swept")
