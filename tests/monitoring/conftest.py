"""Real workers of `tests.celery_wiring` that serve metrics, and a way to read what they serve."""

from __future__ import annotations

import re
from urllib.request import urlopen

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.celery_wiring.conftest import _own_registry, make_shop  # noqa: F401 - fixtures
from tests.servers import Process

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
ADDRESS = {"metrics_address": "127.0.0.1:0"}


def port_of(worker: Process) -> int:
    """Where the worker serves its metrics, as it says."""
    said = worker.wait_for(re.compile(r"metrics are at http://127\.0\.0\.1:(\d+)/metrics"))
    return int(said[1])


def families(worker: Process) -> list[Metric]:
    """What the worker serves now."""
    return _families(port_of(worker))


def _families(port: int) -> list[Metric]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def samples(worker: Process) -> Samples:
    """Each series that the worker serves now, and its value."""
    return read(port_of(worker))


def read(port: int) -> Samples:
    """Each series that is served at the port now, and its value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in _families(port)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """The value of one series; 0 where it is not served. A label ``from_`` is ``from``."""
    wanted = frozenset((label.rstrip("_"), text) for label, text in labels.items())
    return found.get((name, wanted), 0.0)
