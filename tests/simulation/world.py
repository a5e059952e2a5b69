"""Virtual time, processes whose threads are greenlets, and one seed from which everything that happens follows.

Nothing runs at the same time: the hub picks, by the seed, which thread goes on until its next point. A process that is
killed is never switched to again, so that nothing of it runs, no ``finally`` either; a frozen one goes on later.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from greenlet import greenlet

from tests.simulation.faults import Faults, drawn_settings
from tests.simulation.themes import drawn_theme

START_MS = 1_800_000_000_000
NEVER = float("inf")
MOST_STEPS = 30_000
HOT_POINTS = (".claimed", ".checked", ".sending", ".answering", ".called", ".sealed", ".committed")
"""Around a call, where it matters most what dies or stops."""
LAST_POINTS = (".checked", ".sending")
"""After the last check, where a worker that stops can do the most harm; so it can at any point of an inverse."""
HOT = 5
"""How much more often it does so there."""


class SeedOver(BaseException):
    """Thrown into what is left of a world when its seed is over, so that nothing outlives it."""


class Failure(Exception):
    """Something that the contract forbids was seen."""


class Process:
    """What is killed and frozen as one: a worker, a sweeper, a producer, a person's terminal."""

    def __init__(self, name: str, wall_offset_ms: int) -> None:
        self.name = name
        self.wall_offset_ms = wall_offset_ms
        """How far its wall clock is off."""
        self.frozen_until_ms = 0
        self.doomed = 0
        """After how many points more it is killed; 0: it is not."""
        self.alive = True
        self.busy_with: tuple[str, ...] = ()
        """The keys of the calls that it may be about to send."""
        self.calls: list[Any] = []
        """What reached the upstream from the hint that it is at."""
        self.at_death: Callable[[], None] = lambda: None


class Thread:
    """One greenlet of a process."""

    def __init__(self, process: Process, body: greenlet, wakes_ms: float) -> None:
        self.process = process
        self.body = body
        self.wakes_ms = wakes_ms
        self.checked_ms = 0
        """When it last passed the last check before a call."""


class World:
    """One seed: its clocks, its processes, its chances and the log of all that happened."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.ids = Random(~seed)
        """For what the product draws itself: keys, nonces, jitter."""
        self.theme = drawn_theme(seed, self.rng)
        self.faults = Faults.drawn(self.rng, self.theme)
        self.now_ms = START_MS
        self.shift_ms = 0
        """How far the database's clock is off."""
        self.jumped = False
        """Whether the database's clock ever jumped."""
        self.run_closed_ms: int | None = None
        """When somebody first knew that the run was closed, by the database's clock."""
        self.store_away_until_ms = 0
        self.alone = self.rng.random() < 0.25
        """The store is SQLite: a unit of work is alone. Else it is a server in READ COMMITTED."""
        self.settings = drawn_settings(self.rng, self.theme)
        self.healed = False
        self.undisturbed = False
        self.over = False
        self.failures: list[str] = []
        self.log: list[tuple[Any, ...]] = []
        self.here: Thread | None = None
        self._hub = greenlet.getcurrent()
        self.processes: list[Process] = []
        self._threads: list[Thread] = []
        self._buried: list[Thread] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()

    # --- clocks ---

    @property
    def database_ms(self) -> int:
        """Now, on the database's clock."""
        return self.now_ms + self.shift_ms

    @property
    def wall_ms(self) -> int:
        """Now, on the wall clock of the process that runs."""
        return self.now_ms + (self.here.process.wall_offset_ms if self.here else 0)

    # --- what threads do ---

    def point(self, name: str) -> None:
        """A named point: here the thread may be killed, frozen, or others may go on before it."""
        here = self.here
        if self.over:
            raise SeedOver
        if here is None or self.undisturbed:
            return
        self.note(name)
        drawn = self.rng.random()
        if here.process.doomed:
            here.process.doomed -= 1
            if not here.process.doomed:
                self.die()
        if not self.healed:
            faults = self.faults
            danger = HOT if name.endswith(HOT_POINTS) else 1
            if drawn < faults.kill * danger:
                self.die()
            if name.endswith(LAST_POINTS) or name.startswith("compensate."):
                danger *= 3
            if drawn < (faults.kill + faults.freeze) * danger:
                self.freeze(here.process)
                self.pause()
                return
        if drawn > 0.95:
            self.pause(self.rng.random() * 40)
        elif drawn > 0.6:
            self.pause()

    def pause(self, ms: float = 0) -> None:
        """Let others go on, for ``ms`` at least."""
        if self.over:
            raise SeedOver
        if self.here is None or self.undisturbed:
            return
        self.here.wakes_ms = self.now_ms + ms
        self._hub.switch()

    def die(self) -> None:
        """The process of the running thread is killed: this never returns."""
        assert self.here is not None
        self.kill(self.here.process)
        self._hub.switch()
        raise SeedOver

    def chance(self, rate: float) -> bool:
        """Whether a fault of that ``rate`` happens now; never once the world is healed."""
        if rate <= 0 or self.healed or self.undisturbed or self.here is None:
            return False
        return self.rng.random() < rate

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """What goes on inside is one step: nothing comes in between, and nothing goes wrong."""
        self.undisturbed = True
        try:
            yield
        finally:
            self.undisturbed = False

    # --- what is done to processes ---

    def spawn(self, process: Process, work: Callable[[], None], *, after_ms: float = 0) -> Thread:
        """Another thread of ``process``."""
        if process not in self.processes:
            self.processes.append(process)

        def run() -> None:
            try:
                work()
            except SeedOver:
                pass
            except Exception as error:  # noqa: BLE001 - whatever a process dies of that is not ours is a finding
                if not self.over:
                    self.fail(f"{process.name} raised {type(error).__name__}: {error}")
            except BaseException as error:  # noqa: BLE001 - what a connector raises to end its process
                self.note("exits", type(error).__name__)
                process.alive = False

        thread = Thread(process, greenlet(run, self._hub), self.now_ms + after_ms)
        self._threads.append(thread)
        return thread

    def kill(self, process: Process) -> None:
        """End ``process`` where it stands."""
        self.note("killed", process.name)
        process.alive = False
        gone = [thread for thread in self._threads if thread.process is process]
        self._threads = [thread for thread in self._threads if thread.process is not process]
        self._buried.extend(gone)
        process.at_death()

    def freeze(self, process: Process) -> None:
        """Stop ``process`` for a time."""
        ms = self.faults.freeze_ms(self.rng, self.settings)
        self.note("frozen", process.name, ms)
        process.frozen_until_ms = self.now_ms + ms
        if self.rng.random() < 0.4:
            process.doomed = self.rng.choice((1, 2, 3, 4, 5, 8))

    def at(self, ms: float, work: Callable[[], None]) -> None:
        """Have ``work`` done at an instant, whatever becomes of the processes."""
        heapq.heappush(self._timers, (ms, next(self.numbers), work))

    # --- the hub ---

    def run(self, *, until_ms: float = NEVER) -> None:
        """Let threads go on until ``until_ms``, or until all of them wait for ever."""
        rng = self.rng
        for _ in range(MOST_STEPS):
            if self._timers and self._timers[0][0] <= self.now_ms:
                heapq.heappop(self._timers)[2]()
                continue
            now = self.now_ms
            ready = [t for t in self._threads if t.wakes_ms <= now and t.process.frozen_until_ms <= now]
            if ready:
                self._switch(ready[int(rng.random() * len(ready))])
                continue
            comes = min(
                (max(t.wakes_ms, t.process.frozen_until_ms) for t in self._threads),
                default=NEVER,
            )
            if self._timers:
                comes = min(comes, self._timers[0][0])
            if comes > until_ms or comes == NEVER:
                self.now_ms = max(self.now_ms, int(until_ms)) if until_ms != NEVER else self.now_ms
                return
            self.now_ms = int(-(-comes // 1))
        raise Failure(f"the world does not come to rest in {MOST_STEPS} steps")

    def _switch(self, thread: Thread) -> None:
        self.here = thread
        thread.body.switch()
        self.here = None
        if thread.body.dead:
            self._threads = [t for t in self._threads if t is not thread]
            if not thread.process.alive:
                self.kill(thread.process)  # a connector ended it: its other threads end too

    def close(self) -> None:
        """End whatever is left, in a world in which nothing can be done any more."""
        self.over = True
        for thread in (*self._threads, *self._buried):
            if thread.body and not thread.body.dead:
                thread.body.throw(SeedOver)
        self._threads, self._buried = [], []

    # --- what is told afterwards ---

    def note(self, what: str, *details: Any) -> None:
        """One line of the log."""
        self.log.append((self.now_ms - START_MS, self.here.process.name if self.here else "-", what, *details))

    def fail(self, what: str) -> None:
        """Something that the contract forbids was seen."""
        self.note("FAILURE", what)
        self.failures.append(what)


def running() -> World:
    """The world of the seed that runs."""
    assert _running is not None
    return _running


def enter(world: World | None) -> None:
    """Make ``world`` the one that runs."""
    global _running
    _running = world


_running: World | None = None
