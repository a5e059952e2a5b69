"""What the checks are given: plain values, read once in `tape_celery.doctor.gathering`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tape_celery.explanation.controls import Standing
from tape_celery.records import Violation, Worker
from tape_celery.settings import Settings
from tape_celery.store.health import Health


@dataclass(frozen=True, kw_only=True)
class ConnectorFacts:
    """One connector of this process."""

    name: str
    total_seconds: float = 0.0
    """The longest call, as it says itself; 0 where it does not say."""
    dispatch_queue: str = ""
    """The queue that it has to itself."""


@dataclass(frozen=True, kw_only=True)
class CeleryFacts:
    """How Celery is configured here, and what is installed."""

    celery_version: tuple[int, ...] = ()
    billiard_version: tuple[int, ...] = ()
    accept_content: tuple[str, ...] = ("json",)
    event_serializer: str = "json"
    result_accept_content: tuple[str, ...] = ("json",)
    result_backend: str = ""
    """Its kind alone; empty where there is none."""
    always_eager: bool = False
    acks_late: bool = False
    reject_on_worker_lost: bool = False
    prefetch_multiplier: int = 1
    soft_time_limit: float | None = None
    longest_task_seconds: float = 0.0
    """The hard limit of the tasks that call upstreams."""
    soft_shutdown_seconds: float = 0.0
    stops_cold: bool = False
    """Whether SIGTERM is remapped to SIGQUIT here."""
    failpoints: tuple[str, ...] = ()
    broker_kind: str = ""
    """What the transport speaks: ``redis``, ``amqp``, ``filesystem``, ``memory``, …"""
    broker_shown: str = ""
    """Its URL without a password."""
    broker_host: str = ""
    broker_user: str = ""
    broker_has_password: bool = False
    transport_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BrokerFacts:
    """What the broker answered."""

    took_seconds: float
    config: Mapping[str, str] = field(default_factory=dict)
    """Redis: ``maxmemory`` and ``maxmemory-policy``."""
    why_no_config: str = ""


@dataclass(frozen=True, kw_only=True)
class FleetFacts:
    """What the store tells of workers and of the work."""

    now_ms: int
    ahead_ms: int = 0
    """How far the wall clock of this process is ahead of the database's."""
    workers: tuple[Worker, ...] = ()
    last_sweep_ms: int | None = None
    open_connectors: tuple[str, ...] = ()
    """Those with an effect or obligation that is not over."""
    overdue: tuple[Violation, ...] = ()
    standings: tuple[Standing, ...] = ()
    """Of what is paused, limited or under a breaker."""
    keys_of_what_waits: tuple[str, ...] = ()
    """The ids of encryption keys."""

    @property
    def living(self) -> tuple[Worker, ...]:
        """The workers that were seen lately."""
        return tuple(worker for worker in self.workers if worker.alive(self.now_ms))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything. A part that could not be read is ``None``, and ``unseen`` says why."""

    version: str
    settings: Settings
    connectors: tuple[ConnectorFacts, ...] = ()
    celery: CeleryFacts | None = None
    broker: BrokerFacts | None = None
    store: Health | None = None
    fleet: FleetFacts | None = None
    unseen: Mapping[str, str] = field(default_factory=dict)
