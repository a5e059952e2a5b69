"""``python -m tests.soak [--seconds 600] [--seed N] [--rate R] [--broker redis|rabbitmq] [--keep DIR]``.

Prints the seed, then the report; the exit code is 1 if the verdict does not hold.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import LocalServer, PostgresServer, RabbitMQServer, RedisServer
from tests.soak.play import Plan, play


def main() -> int:
    """Parse the command line, play, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long there are load and faults")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--rate", type=float, default=Plan.rate, help="effects a second")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the ledger and the logs there")
    given = parser.parse_args()
    logging.getLogger("tape_celery").addHandler(logging.NullHandler())  # callers' warnings, by the hundred
    print(f"seed: {given.seed}", flush=True)
    with working_directory(given.keep) as directory, PostgresServer() as store, broker_of(given.broker) as broker:
        broker_url = broker.fresh_vhost() if isinstance(broker, RabbitMQServer) else broker.url
        plan = Plan(seconds=given.seconds, seed=given.seed, rate=given.rate)
        report = play(plan, directory, store=store, broker=broker, broker_url=broker_url)
    print(report)
    return 0 if report.holds else 1


def broker_of(name: str) -> LocalServer:
    """A broker of that kind, to be entered."""
    return RabbitMQServer() if name == "rabbitmq" else RedisServer()


@contextmanager
def working_directory(keep: Path | None) -> Iterator[Path]:
    """``keep``, made if need be, or a directory that is gone afterwards."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="tape-soak-") as directory:
        yield Path(directory)


if __name__ == "__main__":
    sys.exit(main())
