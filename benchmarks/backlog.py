"""How soon an upstream sees its effect while 10,000 effects wait for another: from `.delay()` having returned.

    python -m benchmarks.backlog                      10,000 that wait, and 100 others, one every 75 ms
    python -m benchmarks.backlog --backlog 3000 --effects 30

Without a backlog first, then with one: both connectors in one queue; the second with a queue of its own that the same
worker takes turns with; and with a worker of its own as well. PostgreSQL, Redis, a dispatch worker of 2 processes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

from benchmarks.installation import Installation, installed
from benchmarks.machine import machine

MAIL = "tape.dispatch.mail"
ONE, BOTH = "tape.dispatch", f"tape.dispatch,{MAIL}"
AT_ONCE = 500
FIRST = 1_000_000
"""The number of the first effect that is measured."""


@dataclass(frozen=True)
class Setup:
    """One way to set the workers up."""

    what: str
    mail_queue: str
    workers: tuple[tuple[str, int], ...]
    """The queues of each dispatch worker, and how many processes it has."""
    waits: bool = True
    """Whether there is a backlog."""
    settings: tuple[tuple[str, int], ...] = ()


SETUPS = (
    Setup("no backlog", "", ((ONE, 2),), waits=False),
    Setup("one queue", "", ((ONE, 2),)),
    Setup("a queue of its own, the same worker", MAIL, ((BOTH, 2),)),
    Setup("the same, tape_chunk_size 5", MAIL, ((BOTH, 2),), settings=(("chunk_size", 5),)),
    Setup("a queue and a worker of its own", MAIL, ((ONE, 2), (MAIL, 1))),
)
HEAD = "| milliseconds | median | p99 | most | still waiting then | backlog, effects/s |\n" + 6 * "| --- " + "|"


def measure(setup: Setup, backlog: int, effects: int, pause: float) -> str:
    """A row of the table."""
    with installed(mail_queue=setup.mail_queue, **dict(setup.settings)) as installation:
        for queues, concurrency in setup.workers:
            installation.worker(queues, concurrency=concurrency)
        installation.worker("tape.observe,tape.compensate,tape.sweep", concurrency=1)
        installation.beat()
        _warm_up(installation)
        began = time.monotonic()
        waiting = backlog if setup.waits else 0
        for start in range(0, waiting, AT_ONCE):
            installation.tape.effect.delay_many(
                {"connector": "wire", "request": {"number": number}, "business_key": f"wire-{number}"}
                for number in range(start, min(start + AT_ONCE, waiting))
            )
        returned = {}
        for number in range(FIRST, FIRST + effects):
            time.sleep(pause)
            installation.tape.effect.delay("mail", {"number": number}, business_key=f"mail-{number}")
            returned[number] = time.monotonic()
        left = waiting + effects + _WARM - installation.confirmed()
        installation.finish(waiting + effects + _WARM)
        rate = f"{(waiting + effects) / (time.monotonic() - began):,.0f}" if waiting else "–"
        seen = installation.upstream.seen()
        spans = sorted((seen[number] - at) * 1000 for number, at in returned.items())
    p99 = spans[min(len(spans) - 1, round(len(spans) * 0.99))]
    cells = [f"{value:,.1f}" for value in (statistics.median(spans), p99, spans[-1])]
    return f"| {setup.what} | {' | '.join(cells)} | {left:,} | {rate} |"


_WARM = 50


def _warm_up(installation: Installation) -> None:
    """Every process has been used."""
    for number in range(_WARM):
        connector = ("wire", "mail")[number % 2]
        installation.tape.effect.delay(connector, {"number": -1 - number}, business_key=f"warm-{number}")
    installation.finish(_WARM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlog", type=int, default=10_000, help="effects that wait (%(default)s)")
    parser.add_argument("--effects", type=int, default=100, help="that are measured (%(default)s)")
    parser.add_argument("--pause", type=float, default=0.075, metavar="SECONDS", help="before each (%(default)s)")
    asked = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, {machine()}\n{asked.backlog:,} wait; {asked.effects} measured\n\n{HEAD}")
    for setup in SETUPS:
        print(measure(setup, asked.backlog, asked.effects, asked.pause), flush=True)


if __name__ == "__main__":
    main()
