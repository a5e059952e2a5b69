"""Metrics in Prometheus' format: what a Meter has counted, what the store says; served by a worker, or by Flower.

A worker's main process serves them from a thread; its children tell it what they count (`metering`). Of
prometheus_client only the format and the server are used: its own way for many processes must be chosen before it is
imported, and Celery's command imports it with Flower before any app is read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tape_celery.errors import MissingExtra
from tape_celery.gauges import GAUGES, PATIENCE_SECONDS, Leases, StoreGauges
from tape_celery.loggers import logger_for
from tape_celery.metering import METRICS, Meter, Metric, Totals
from tape_celery.settings import metrics_host_and_port

if TYPE_CHECKING:
    from tape_celery.store.database import Database

logger = logger_for(__name__)


class Collector:
    """Gives prometheus_client what there is to tell; it is registered with one of its registries.

    With ``workers``, which says what each worker has counted, counts have a label ``worker``: empty for this process.
    """

    def __init__(
        self,
        meter: Meter,
        database: Database,
        *,
        wait_seconds: float = PATIENCE_SECONDS,
        lease_ms: Callable[[], Leases] = dict,
        workers: Callable[[], Mapping[str, Totals]] | None = None,
    ) -> None:
        self._meter, self._workers = meter, workers
        self._gauges = StoreGauges(database, wait_seconds, lease_ms)

    def describe(self) -> list[Any]:
        """Nothing: so that registering it asks the store for nothing."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics as they stand now."""
        self._meter.receive()
        totals = self._meter.totals()
        if self._workers is not None:
            totals = _by_worker({"": totals, **self._workers()})
        for metric, sums in totals.items():
            yield _histogram(metric, sums) if metric.bounds else _counter(metric, sums)
        reading = self._gauges.read()
        for gauge in GAUGES:
            yield _gauge(gauge, reading.get(gauge, {}))


class Served:
    """The metrics of one worker, as long as it runs. Raises `MissingExtra`, and `OSError` where nothing can listen."""

    def __init__(self, meter: Meter, database: Database, address: str, lease_ms: Callable[[], Leases] = dict) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            raise MissingExtra("tape_metrics_address", "otel") from None
        host, port = metrics_host_and_port(address)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collector(meter, database, lease_ms=lease_ms))
        self._server, self._thread = start_http_server(port, host, registry)
        self._meter, self._pid = meter, os.getpid()
        self._ended = threading.Event()
        self._receiver = threading.Thread(target=self._receive, name="tape-metrics", daemon=True)
        self._receiver.start()
        os.register_at_fork(after_in_child=self._after_fork)
        self.port: int = self._server.server_port
        logger.info(
            "metrics are at http://%s/metrics", f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        )

    def _receive(self) -> None:
        while not self._ended.is_set():
            self._meter.receive(wait_seconds=0.5)

    def _after_fork(self) -> None:
        # A child that outlives its parent for a moment must not keep the port from the parent's successor.
        if not self._ended.is_set():
            self._ended.set()
            self._server.socket.close()

    def close(self) -> None:
        """At the end of the worker: listen no more."""
        if self._pid != os.getpid() or self._ended.is_set():
            return
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._receiver.join()
        self._meter.close()


def _by_worker(known: Mapping[str, Totals]) -> Totals:
    found: Totals = {}
    for metric in METRICS:
        told = replace(metric, labels=(*metric.labels, "worker"))
        found[told] = {
            (*labels, worker): sums for worker, totals in known.items() for labels, sums in totals[metric].items()
        }
    return found


def _counter(metric: Metric, sums: dict[tuple[str, ...], list[float]]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, (total,) in sorted(sums.items()):
        family.add_metric(labels, total)
    return family


def _histogram(metric: Metric, sums: dict[tuple[str, ...], list[float]]) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    bounds = [*map(str, map(float, metric.bounds)), "+Inf"]
    for labels, values in sorted(sums.items()):
        *numbers, total = values
        buckets, below = list[tuple[str, float]](), 0.0
        for bound, number in zip(bounds, numbers, strict=True):
            below += number
            buckets.append((bound, below))
        family.add_metric(labels, buckets=buckets, sum_value=total)
    return family


def _gauge(metric: Metric, values: dict[tuple[str, ...], float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family
