"""Contestants side by side: each in every round, in an order that is reversed every round."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from benchmarks.contestants import NAMES
from benchmarks.machine import machine
from benchmarks.upstream import ceiling
from tests.servers import PostgresServer, RedisServer

T = TypeVar("T")


@dataclass(frozen=True)
class Rounds(Generic[T]):
    """What was asked for on the command line, and what came of it."""

    told: str
    """When and where."""
    upstream: float
    """Requests a second that the upstream answers to a client that does next to nothing."""
    names: list[str]
    effects: int
    number: int
    found: list[T]
    """One of each contestant in each round."""
    out: Path
    """The directory where the results go; it exists."""


def play(
    told: str,
    measure: Callable[[str, int, int, PostgresServer, RedisServer], T],
    figure: Callable[[T], str],
    *,
    effects: int,
    names: Sequence[str],
) -> Rounds[T]:
    """Measure by the command line, telling each ``figure`` as it comes; ``effects`` and ``names`` are its defaults.

    ``measure`` is given the contestant, the number of the round and that of the effects.
    """
    asked = _asked(told, effects, names)
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        most = ceiling(Path(directory))
    where = f"{time.strftime('%Y-%m-%d')}, {machine()}, PostgreSQL with fsync {'on' if asked.fsync else 'off'}"
    print(f"{where}\nthe upstream answers {most:,.0f} requests/s to a client that does next to nothing\n", flush=True)
    found: list[T] = []
    with PostgresServer(durable=asked.fsync) as postgres, RedisServer() as redis:
        for number in range(1, asked.rounds + 1):
            for name in asked.only if number % 2 else reversed(asked.only):
                found.append(measure(name, number, asked.effects, postgres, redis))
                print(f"round {number}: {name:<20}{figure(found[-1])}", flush=True)
    return Rounds(where, most, asked.only, asked.effects, asked.rounds, found, asked.out)


def _asked(told: str, effects: int, names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effects", type=int, default=effects, help="of each contestant in each round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(names), metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--fsync", action="store_true", help="have PostgreSQL wait for the disk at each commit")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="where the results go (%(default)s)")
    return parser.parse_args()
