"""What the store says of itself, as gauges: read when somebody asks, at most every few seconds, within a bound.

It is read in a thread of its own, which nobody waits for longer than a moment: a store that does not answer is told
as ``tape_store_up`` 0, and holds up neither a worker nor Flower's loop.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping

from sqlalchemy.exc import SQLAlchemyError

from tape_celery.errors import TapeError
from tape_celery.explanation.controls import Standing
from tape_celery.flow import Breaker
from tape_celery.loggers import logger_for
from tape_celery.metering import Metric
from tape_celery.records import EffectStatus, ObligationStatus
from tape_celery.store import ages, fleet, inspection, standing
from tape_celery.store.database import Database

logger = logger_for(__name__)

AT_MOST = 10_000
"""How many rows of one state of one connector are counted."""
FRESH_SECONDS = 5.0
"""For how long a reading is given again."""
OLD_SECONDS = 60.0
"""A reading that is older is not given any more, though the store may still be at the next one."""
MOST_CONNECTORS = 100
"""Of how many connectors the effects in one state are told: anything may be asked for by a name that is none."""
PATIENCE_SECONDS = 2.0
"""How long the store is waited for, at the most."""

EFFECTS = Metric("tape_effects", ("connector", "status"), "Effects in each state, counted to 10,000")
OBLIGATIONS = Metric("tape_obligations", ("connector", "status"), "Obligations in each state, counted to 10,000")
RUNS = Metric("tape_runs", ("status",), "Closed runs that are not over, counted to 10,000")
OLDEST_EFFECT = Metric(
    "tape_oldest_effect_seconds",
    ("connector", "status"),
    "Age of the oldest effect: UNKNOWN since its first call, STUCK since it came to be so, HELD since it was recorded",
)
OLDEST_OBLIGATION = Metric(
    "tape_oldest_obligation_seconds", ("connector", "status"), "Age of the oldest unsettled obligation"
)
DUE = Metric(
    "tape_due_seconds",
    ("connector", "status"),
    "For how long the effect that is due longest is due: PENDING to be sent, UNKNOWN to be looked at",
)
SWEEP_OVERDUE = Metric(
    "tape_sweep_overdue_seconds", ("connector",), "For how long a sweep has had to act on an effect and did not"
)
SWEEP_LAG = Metric("tape_sweep_lag_seconds", (), "Since when no sweep has begun; absent where none ever did")
WORKERS = Metric("tape_workers", (), "Workers that said within 90 seconds that they are there")
CONNECTOR_WORKERS = Metric("tape_connector_workers", ("connector",), "Those of them that know the connector")
PAUSED = Metric("tape_paused", ("connector",), "1 where people have paused the connector, else 0")
RESTRAINED = Metric(
    "tape_restrained",
    ("connector", "verb"),
    "1 where a pause, a limit or an open breaker may make calls or looks wait, 0 where none does",
)
BREAKER = Metric("tape_breaker", ("connector", "verb"), "Of a breaker that is set: 0 closed, 1 half-open, 2 open")
PLACES = Metric(
    "tape_places", ("connector", "verb"), "How many may be under way at once over all workers, where that is limited"
)
IN_USE = Metric("tape_places_in_use", ("connector", "verb"), "How many are under way, where that is limited")
WAITING = Metric(
    "tape_waiting",
    ("connector", "verb"),
    "What is due and waits for its turn, of a connector that is paused, limited or has a breaker; counted to 1,000",
)
QUEUE_LIMIT = Metric(
    "tape_queue_limit", ("connector", "verb"), "How many effects may wait before no more are recorded, where limited"
)
QUEUED = Metric(
    "tape_queued", ("connector", "verb"), "How many are to be sent, now or later; counted to 1,000 above that limit"
)
UP = Metric("tape_store_up", (), "1 where the store answered when the gauges were read last, else 0")

GAUGES = (
    EFFECTS, OBLIGATIONS, RUNS, OLDEST_EFFECT, OLDEST_OBLIGATION, DUE, SWEEP_OVERDUE, SWEEP_LAG, WORKERS,
    CONNECTOR_WORKERS, PAUSED, RESTRAINED, BREAKER, PLACES, IN_USE, WAITING, QUEUE_LIMIT, QUEUED, UP,
)  # fmt: skip

_Values = dict[tuple[str, ...], float]
Leases = Mapping[str, int]
Reading = dict[Metric, _Values]


class StoreGauges:
    """The gauges of one store, for one process; whoever asks waits for the store at most ``wait_seconds``.

    ``lease_ms``: how long leases of connectors are, as far as this process knows, or looks under way are not all seen.
    """

    def __init__(
        self, database: Database, wait_seconds: float = PATIENCE_SECONDS, lease_ms: Callable[[], Leases] = dict
    ) -> None:
        self._wait_seconds = wait_seconds
        self._lease_ms = lease_ms
        self._database = database.hurried(PATIENCE_SECONDS)
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._read_at = float("-inf")
        self._reading: Reading = {}
        self._away = False

    def read(self) -> Reading:
        """The last reading, or a new one where that is old. Never raises for the store."""
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_SECONDS and (
                self._reader is None or not self._reader.is_alive()
            ):
                self._reader = threading.Thread(target=self._refresh, name="tape-gauges", daemon=True)
                self._reader.start()
            reader = self._reader
        if reader is not None:
            reader.join(self._wait_seconds)
            if reader.is_alive() and time.monotonic() - self._read_at > OLD_SECONDS:
                return {UP: {(): 0.0}}
        return self._reading

    def _refresh(self) -> None:
        with _NOBODY_FORKS:
            try:
                reading = self._ask()
                if self._away:
                    logger.info("the store tells its gauges again")
                self._away = False
            except (TapeError, SQLAlchemyError) as error:
                if not self._away:
                    logger.warning("the store does not tell its gauges: %s", error)
                self._away = True
                reading = {UP: {(): 0.0}}
            finally:
                self._database.close()
        self._reading, self._read_at = reading, time.monotonic()

    def _ask(self) -> Reading:
        old = ages.read(self._database, AT_MOST, MOST_CONNECTORS)
        owed = inspection.count_obligations(self._database, AT_MOST)
        now, open_states = old.now_ms, (ObligationStatus.PENDING, ObligationStatus.UNKNOWN, ObligationStatus.STUCK)
        alive = [worker for worker in fleet.list_workers(self._database) if worker.alive(now)]
        held = standing.read(self._database, self._lease_ms())
        paused = {one.flow.connector for one in held if one.flow.paused and one.flow.verb == "call"}
        swept_ms = fleet.last_sweep_ms(self._database)
        connectors = {state.connector for state in old.states} | {
            name for worker in alive for name in worker.connectors
        }
        # A state that nothing is in is told as 0: what was not there before is seen to come.
        none: _Values = {(name, str(status)): 0.0 for name in connectors for status in EffectStatus}
        return {
            UP: {(): 1.0},
            EFFECTS: none | {(state.connector, state.status): float(state.number) for state in old.states},
            OBLIGATIONS: {(count.connector, count.status): float(count.number) for count in owed},
            RUNS: {(status,): float(number) for status, number in ages.count_runs(self._database, AT_MOST).items()},
            OLDEST_EFFECT: {
                (state.connector, state.status): _span(state.since_ms, now)
                for state in old.states
                if state.since_ms is not None
            },
            OLDEST_OBLIGATION: {
                (count.connector, count.status): _span(count.oldest_ms, now)
                for count in owed
                if count.status in open_states
            },
            DUE: {
                (state.connector, state.status): _span(state.due_ms, now)
                for state in old.states
                if state.due_ms is not None
            },
            SWEEP_OVERDUE: {(connector,): _span(since_ms, now) for connector, since_ms in old.sweep_ms.items()},
            SWEEP_LAG: {} if swept_ms is None else {(): _span(swept_ms, now)},
            PAUSED: {(name,): float(name in paused) for name in connectors},
            **_of_flows(held),
            WORKERS: {(): float(len(alive))},
            CONNECTOR_WORKERS: {
                (name,): float(sum(name in worker.connectors for worker in alive)) for name in connectors
            },
        }


def _of_flows(held: list[Standing]) -> Reading:
    reading: Reading = {}
    for one in held:
        flow, labels = one.flow, (one.flow.connector, one.flow.verb)
        open_ = flow.breaker is not Breaker.CLOSED
        values = {RESTRAINED: bool(flow.paused or flow.at_once or flow.rate_count or open_), WAITING: one.waiting}
        if flow.trouble_percent:
            values[BREAKER] = _BREAKERS.index(flow.breaker)
        if flow.most_waiting:
            values |= {QUEUE_LIMIT: flow.most_waiting, QUEUED: one.queued}
        if flow.at_once:
            values |= {PLACES: flow.at_once, IN_USE: one.in_flight}
        for metric, value in values.items():
            reading.setdefault(metric, {})[labels] = float(value)
    return reading


_BREAKERS = (Breaker.CLOSED, Breaker.HALF_OPEN, Breaker.OPEN)


def _span(since_ms: int, now_ms: int) -> float:
    return max(0, now_ms - since_ms) / 1000


_NOBODY_FORKS = threading.Lock()
"""Held while the store is read. A child that is forked in the middle of that would inherit the locks of the database's
library as they are, for ever; and SQLite would take its parent's file for its own."""


def _before_fork() -> None:
    # Bounded: a worker must be able to replace a child, whatever becomes of a read.
    _forking.held = _NOBODY_FORKS.acquire(timeout=2 * PATIENCE_SECONDS)


def _after_fork_in_parent() -> None:
    if _forking.held:
        _NOBODY_FORKS.release()


def _after_fork_in_child() -> None:
    global _NOBODY_FORKS
    _NOBODY_FORKS = threading.Lock()


class _Forking(threading.local):
    held = False


_forking = _Forking()
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
