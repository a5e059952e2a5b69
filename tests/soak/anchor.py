"""``python -m tests.soak.anchor [--effects 5000] [--every 5 40]``: effects while PostgreSQL is killed again and again.

It is killed with kill -9 after a random time within ``--every`` seconds, and is away for up to 2 s. None may be lost,
none may be doubled, all must be settled. Prints the seed, then the report; the exit code is 1 if that does not hold.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.servers import LocalServer, PostgresServer, RedisServer
from tests.soak.__main__ import working_directory
from tests.soak.cast import Cast
from tests.soak.load import CALLERS, Load, draw
from tests.soak.play import SETTLE_SECONDS, at_work, report_on
from tests.soak.report import Report

AWAY_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to be."""

    seed: int
    effects: int = 5000
    every: tuple[float, float] = (5.0, 40.0)
    rate: float = 20.0
    """Effects a second, while the store is there."""


def play(plan: Plan, directory: Path, *, store: PostgresServer, broker: LocalServer, broker_url: str) -> Report:
    """Do the whole run in ``directory``, which keeps the ledger and the logs."""
    began = time.monotonic()
    with Cast(directory, store=store, broker=broker, broker_url=broker_url) as cast:
        load = Load(cast.tape, plan.seed, rate=plan.rate, faults_on=lambda: False)
        kills: Counter[str] = Counter()
        all_asked, over = threading.Event(), threading.Event()
        with at_work(over, cast.keep):
            with at_work(all_asked, lambda stop: _kill_again_and_again(store, plan, stop, kills)):
                _ask_for_all(load, plan)
            settled = cast.wait_until_settled(SETTLE_SECONDS)
        low, high = plan.every
        title = f"anchor: seed {plan.seed}, {plan.effects} effects, PostgreSQL killed every {low:g} to {high:g} s"
        report = report_on(cast, load.asked, title=title, settled=settled)
        if report.verdict.effects.total() != plan.effects:
            report.errors.append(f"{plan.effects} were asked for, and {report.verdict.effects.total()} are there")
        report.errors += load.errors
        report.seconds = time.monotonic() - began
        report.faults, report.asked = kills, load.counts
        return report


def _ask_for_all(load: Load, plan: Plan) -> None:
    """Callers at the plan's rate, none of which gives up."""

    def caller(number: int) -> None:
        rng, pause = random.Random(f"{plan.seed}:caller:{number}"), threading.Event()
        for _ in range(number, plan.effects, CALLERS):
            load.ask(draw(rng, spoiled=False, plain=True))
            pause.wait(rng.expovariate(plan.rate / CALLERS))

    with at_work(threading.Event(), *(lambda _, number=number: caller(number) for number in range(CALLERS))):
        pass


def _kill_again_and_again(store: PostgresServer, plan: Plan, stop: threading.Event, kills: Counter[str]) -> None:
    rng = random.Random(f"{plan.seed}:kills")
    while not stop.wait(rng.uniform(*plan.every)):
        store.kill9()
        kills["PostgreSQL: kill -9"] += 1
        stop.wait(rng.uniform(0, AWAY_SECONDS))
        store.start()


def main() -> int:
    """Parse the command line, play, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.anchor")
    parser.add_argument("--effects", type=int, default=Plan.effects)
    parser.add_argument("--every", type=float, nargs=2, default=Plan.every, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="effects a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the ledger and the logs there")
    given = parser.parse_args()
    logging.getLogger("tape_celery").addHandler(logging.NullHandler())  # callers' warnings, by the hundred
    print(f"seed: {given.seed}", flush=True)
    with working_directory(given.keep) as directory, PostgresServer() as store, RedisServer() as broker:
        plan = Plan(seed=given.seed, effects=given.effects, every=tuple(given.every), rate=given.rate)
        report = play(plan, directory, store=store, broker=broker, broker_url=broker.url)
    print(report)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
