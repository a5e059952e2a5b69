"""Reading the facts: each part on its own, within a bound, and whatever goes wrong with it is told instead of it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from tape_celery import __version__, failpoints
from tape_celery.bounded import Bounded
from tape_celery.connectors import base
from tape_celery.doctor.facts import BrokerFacts, CeleryFacts, ConnectorFacts, Facts, FleetFacts
from tape_celery.errors import StoreUnavailable
from tape_celery.store import audit, fleet, health, inspection, reencryption, standing
from tape_celery.store.database import Database
from tape_celery.wiring import call_limit

if TYPE_CHECKING:
    from tape_celery.tape import Tape

STORE_SECONDS = 5.0
"""How long the store is waited for, each time it is asked."""
T = TypeVar("T")


def gather(tape: Tape) -> Facts:
    """Everything that the checks are given. Raises `ConfigurationError` where this process is set up wrongly."""
    settings = tape.settings
    tape.import_connectors()
    unseen: dict[str, str] = {}

    def part(name: str, seconds: float, read: Callable[[], T]) -> T | None:
        try:
            return Bounded(seconds, thread_name="tape-doctor").run(read)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is the answer to the question
            unseen[name] = _first_line(error)
            return None

    database = tape.database.hurried(STORE_SECONDS)
    try:
        store = part("store", 2 * STORE_SECONDS, lambda: health.look(tape.database))
        ready = store is not None and store.revision == store.head
        if not ready:
            unseen["fleet"] = unseen.get("store", "the store has not this code's schema")
        grace = tape._grace_seconds()
        return Facts(
            version=__version__,
            settings=settings,
            connectors=tuple(_connector(name) for name in base.names()),
            celery=part("celery", 5, lambda: _celery(tape)),
            broker=part("broker", 2 * settings.publish_timeout_seconds + 1, lambda: _broker(tape)),
            store=store,
            fleet=part("fleet", 2 * STORE_SECONDS, lambda: _fleet(database, grace, tape.engine.reach().lease_ms))
            if ready
            else None,
            unseen=unseen,
        )
    finally:
        database.close()


def _connector(name: str) -> ConnectorFacts:
    connector = base.get(name)
    return ConnectorFacts(
        name=name,
        total_seconds=float(getattr(connector, "total_seconds", 0) or 0),
        dispatch_queue=str(getattr(connector, "dispatch_queue", None) or ""),
    )


def _celery(tape: Tape) -> CeleryFacts:
    conf: Any = tape.app.conf
    connection = tape._publishing().connect()
    return CeleryFacts(
        celery_version=_version("celery"),
        billiard_version=_version("billiard"),
        accept_content=tuple(conf.accept_content or ()),
        event_serializer=str(conf.event_serializer),
        result_accept_content=tuple(conf.result_accept_content or conf.accept_content or ()),
        result_backend=str(conf.result_backend or "").partition(":")[0],
        always_eager=bool(conf.task_always_eager),
        acks_late=bool(conf.task_acks_late),
        reject_on_worker_lost=bool(conf.task_reject_on_worker_lost),
        prefetch_multiplier=int(conf.worker_prefetch_multiplier),
        soft_time_limit=conf.task_soft_time_limit,
        longest_task_seconds=call_limit(tape.settings),
        soft_shutdown_seconds=float(conf.worker_soft_shutdown_timeout or 0),
        stops_cold=os.environ.get("REMAP_SIGTERM") == "SIGQUIT",
        failpoints=tuple(failpoints.armed()),
        broker_kind=str(connection.transport.driver_type),
        broker_shown=_shown(connection),
        broker_host=str(connection.hostname or ""),
        broker_user=str(connection.userid or ""),
        broker_has_password=bool(connection.password),
        transport_options=dict(conf.broker_transport_options or {}),
    )


def _shown(connection: Any) -> str:
    """The broker's URL, with no word of a password, and none where there is no password."""
    if folder := connection.transport_options.get("data_folder_out"):
        return f"files in {folder}"
    url = str(connection.as_uri())
    return url if connection.password else url.replace("//:**@", "//")


def _version(distribution: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", metadata.version(distribution))[:3])


def _broker(tape: Tape) -> BrokerFacts:
    connection = tape._publishing().connect()
    try:
        began = time.monotonic()
        channel = connection.default_channel
        took = time.monotonic() - began
        if connection.transport.driver_type != "redis":
            return BrokerFacts(took_seconds=took)
        try:
            found = channel.client.config_get("maxmemory*")
        except Exception as error:  # noqa: BLE001 - a Redis of others may refuse it in words of its own
            return BrokerFacts(took_seconds=took, why_no_config=_first_line(error))
        return BrokerFacts(took_seconds=took, config={_text(name): _text(value) for name, value in found.items()})
    finally:
        connection.collapse() if hasattr(connection, "collapse") else connection.release()


def _fleet(database: Database, grace_seconds: float, lease_ms: Mapping[str, int]) -> FleetFacts:
    now, ahead = fleet.clock(database, wall_ms=lambda: time.time() * 1000)
    counts = (*inspection.count_effects(database, 1), *inspection.count_obligations(database, 1_000))
    settled = ("CONFIRMED", "FAILED", "CANCELLED", "COMPENSATED")
    still_open = tuple(sorted({count.connector for count in counts if count.status not in settled}))
    return FleetFacts(
        now_ms=now,
        ahead_ms=ahead,
        workers=tuple(fleet.list_workers(database)),
        last_sweep_ms=fleet.last_sweep_ms(database),
        open_connectors=still_open,
        keys_of_what_waits=tuple(reencryption.keys_of_what_waits(database, still_open)),
        standings=tuple(standing.read(database, lease_ms)),
        overdue=tuple(audit.overdue(database, grace_seconds=grace_seconds)),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    told = lines[0] if lines else ""
    return told if isinstance(error, StoreUnavailable) else f"{type(error).__name__}: {told}"
