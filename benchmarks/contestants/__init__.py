"""Who is measured: one module each, with a `contestant` in it.

A contestant says how its workers are started. Its other half runs in the producer process: it prepares what is there
before anybody works (tables), submits, and counts what has ended.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tape_celery.errors import MissingExtra

NAMES = (
    "raw_client",
    "raw_connector",
    "plain_celery",
    "tape_one_by_one",
    "tape_threads",
    "tape_bulk",
    "tape_embedded",
    "dbos_queue",
    "procrastinate_jobs",
)
PEERS = {"dbos_queue": "dbos", "procrastinate_jobs": "procrastinate"}
"""Contestants that are another library's, and its package."""


@dataclass(frozen=True)
class Place:
    """What one run has to itself."""

    upstream: str
    postgres: str
    redis: str
    directory: Path

    def environment(self) -> dict[str, str]:
        """How its processes are told."""
        return {
            "BENCH_UPSTREAM": self.upstream,
            "BENCH_POSTGRES": self.postgres,
            "BENCH_REDIS": self.redis,
            "BENCH_DIRECTORY": str(self.directory),
        }


@dataclass(frozen=True)
class Worker:
    """One process that works."""

    arguments: Sequence[str]
    """Of this Python."""
    ready: str
    """What it prints when it takes work."""


class Contestant:
    """One way to get a POST made for each of some numbers."""

    title = ""
    setup = ""
    """How it is set up, for whoever reads the figures."""

    def workers(self) -> Sequence[Worker]:
        """What runs beside the producer."""
        return ()

    def environment(self, place: Place) -> Mapping[str, str]:
        """Variables of its own, for the producer and the workers."""
        return {}

    def prepare(self) -> None:
        """In the producer: make what must be there before a worker starts."""

    def submit(self, numbers: Sequence[int]) -> None:
        """In the producer: ask for one POST a number."""
        raise NotImplementedError

    def finished(self) -> int | None:
        """In the producer: how many have ended well; ``None`` where nothing is kept of that but the upstream's book."""
        return None


def find(name: str) -> Contestant:
    """The contestant of that module; raises `MissingExtra` where what it measures is not installed."""
    if name in PEERS:
        brought_by_bench(PEERS[name])
    found: Contestant = importlib.import_module(f"benchmarks.contestants.{name}").contestant
    return found


def brought_by_bench(package: str) -> None:
    """Raise `MissingExtra` where this package of the extra ``bench`` is not installed."""
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as missing:
        raise MissingExtra(f"A benchmark that uses {package}", "bench") from missing


def told(name: str) -> str:
    """A variable of `Place.environment`; empty where this process is none of a run's."""
    return os.environ.get(f"BENCH_{name}", "")
