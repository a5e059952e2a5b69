"""The faults: so many seconds on, with some at once, so many off, drawn from the seed.

A fault is a function of the cast, a random source, and `hold`, which returns when the fault is to be over; then
everything is as it was. Faults of one phase never have the same target.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from tests.servers import LocalServer, RedisServer
from tests.soak.cast import Cast, Part, Site

Hold = Callable[[], None]
FEWEST_AT_ONCE, MOST_AT_ONCE = 3, 8


@dataclass(frozen=True)
class Fault:
    """One fault that can be injected."""

    name: str
    target: str
    inject: Callable[[random.Random, Hold], None]


class Nemesis:
    """Draws faults and injects them; `on` says whether it is a time of faults."""

    def __init__(self, cast: Cast, seed: int, *, on_seconds: float = 5.0, off_seconds: float = 5.0) -> None:
        self.counts: Counter[str] = Counter()
        self.on = False
        self._random = random.Random(f"{seed}:nemesis")
        self._on_seconds, self._off_seconds = on_seconds, off_seconds
        self._kinds = faults_of(cast)
        self._decks: list[list[Fault]] = [[] for _ in self._kinds]
        self.counts.update({fault.name: 0 for kind in self._kinds for fault in kind})

    def run(self, seconds: float, stop: threading.Event) -> None:
        """Phases, until ``seconds`` are over or ``stop``; returns when the last fault is over."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up and not stop.is_set():
            self.on = True
            self._phase(stop)
            self.on = False
            stop.wait(min(self._off_seconds, max(0.0, give_up - time.monotonic())))

    def _phase(self, stop: threading.Event) -> None:
        chosen = self._draw()
        ends = time.monotonic() + self._on_seconds
        with ThreadPoolExecutor(len(chosen), thread_name_prefix="fault") as threads:
            injected: list[Future[None]] = []
            for fault in chosen:
                rng = random.Random(self._random.getrandbits(64))
                injected.append(threads.submit(self._inject, fault, rng, ends, stop))
            stop.wait(max(0.0, ends - time.monotonic()))
        for each in injected:
            each.result()

    def _draw(self) -> list[Fault]:
        chosen: dict[str, Fault] = {}
        for _ in range(self._random.randint(FEWEST_AT_ONCE, MOST_AT_ONCE)):
            fault = self._deal(self._random.randrange(len(self._kinds)))
            chosen.setdefault(fault.target, fault)
        return list(chosen.values())

    def _deal(self, number: int) -> Fault:
        """The next fault of that kind: each comes up once before any does twice."""
        deck = self._decks[number]
        if not deck:
            deck += self._random.sample(self._kinds[number], len(self._kinds[number]))
        return deck.pop()

    def _inject(self, fault: Fault, rng: random.Random, ends: float, stop: threading.Event) -> None:
        left = ends - time.monotonic()
        stop.wait(rng.uniform(0, 0.6 * left))
        over = rng.uniform(time.monotonic() + 0.2, max(ends, time.monotonic() + 0.2))
        self.counts[fault.name] += 1
        fault.inject(rng, lambda: stop.wait(max(0.0, over - time.monotonic())))


def faults_of(cast: Cast) -> list[list[Fault]]:
    """All faults, by what they befall: servers, links, processes."""
    servers = [*_of_server("PostgreSQL", cast.store), *_of_server("the broker", cast.broker)]
    if isinstance(cast.broker, RedisServer):
        servers.append(Fault("the broker loses all messages", "the broker", lambda rng, hold: cast.broker.flush()))
    links = [fault for site in cast.sites for to in site.links for fault in _of_link(site, to)]
    return [servers, links, _of_processes(cast)]


def _of_server(name: str, server: LocalServer) -> list[Fault]:
    def killed(rng: random.Random, hold: Hold) -> None:
        server.kill9()
        hold()
        server.start()

    def paused(rng: random.Random, hold: Hold) -> None:
        server.pause()
        hold()
        server.resume()

    def restarted(rng: random.Random, hold: Hold) -> None:
        server.restart()

    acts = {"kill -9": killed, "SIGSTOP": paused, "restart": restarted}
    return [Fault(f"{name}: {what}", name, act) for what, act in acts.items()]


_MESSAGES = {
    "store": (b"COMMIT", b"WITH claimed AS"),
    "broker": (b"PUSH", b"basic.publish"),
    "bank": (b"POST ", b"GET "),
}


def _of_link(site: Site, to: str) -> list[Fault]:
    link = site.links[to]

    def in_mode(mode: str) -> Callable[[random.Random, Hold], None]:
        def inject(rng: random.Random, hold: Hold) -> None:
            link.delay_seconds = rng.uniform(0.05, 0.7)
            link.mode = mode
            hold()
            link.mode = "pass"

        return inject

    def cut(after: bool) -> Callable[[random.Random, Hold], None]:
        def inject(rng: random.Random, hold: Hold) -> None:
            arm = link.cut_after if after else link.cut_before
            how = {"then": rng.choice(["close", "reset"]), "times": rng.randint(1, 5), "skip": rng.randint(0, 3)}
            cuts = [arm(message, **how) for message in _MESSAGES[to]]
            hold()
            for each in cuts:
                each.disarm()

        return inject

    def dropped(rng: random.Random, hold: Hold) -> None:
        link.drop_connections()

    acts = {mode: in_mode(mode) for mode in ("refuse", "blackhole", "reset", "delay")}
    acts |= {"lost answers": cut(after=True), "lost requests": cut(after=False), "connections dropped": dropped}
    return [Fault(f"link to the {to}: {what}", f"{site.name} link to the {to}", act) for what, act in acts.items()]


def _of_processes(cast: Cast) -> list[Fault]:
    found: list[Fault] = []
    for part in (*cast.victims, cast.parts["bank"]):
        kind = "beat" if "beat" in part.name else "bank" if part.name == "bank" else "worker"

        def killed(rng: random.Random, hold: Hold, part: Part = part) -> None:
            part.kill()

        def host_lost(rng: random.Random, hold: Hold, part: Part = part) -> None:
            part.kill(group=True)

        def told_to_end(rng: random.Random, hold: Hold, part: Part = part) -> None:
            part.kill(signal.SIGTERM)

        def paused(rng: random.Random, hold: Hold, part: Part = part) -> None:
            process = part.process
            process.killpg(signal.SIGSTOP)
            hold()
            process.killpg(signal.SIGCONT)

        acts = {"kill -9": killed, "SIGSTOP": paused}
        if kind == "worker":
            acts |= {"kill -9 of its group": host_lost, "SIGTERM": told_to_end}
        found += [Fault(f"{kind}: {what}", part.name, act) for what, act in acts.items()]

    prefork = cast.parts["south worker"]

    def child_killed(rng: random.Random, hold: Hold) -> None:
        _signal_one(rng, prefork, signal.SIGKILL)

    def child_paused(rng: random.Random, hold: Hold) -> None:
        if child := _signal_one(rng, prefork, signal.SIGSTOP):
            hold()
            _signal(child, signal.SIGCONT)

    found.append(Fault("prefork child: kill -9", "south worker", child_killed))
    found.append(Fault("prefork child: SIGSTOP", "south worker", child_paused))
    return found


def _signal_one(rng: random.Random, part: Part, sig: int) -> psutil.Process | None:
    """Signal one child; none where it has none now."""
    children = part.children()
    return _signal(rng.choice(children), sig) if children else None


def _signal(process: psutil.Process, sig: int) -> psutil.Process | None:
    try:
        process.send_signal(sig)
    except psutil.NoSuchProcess:
        return None
    return process
