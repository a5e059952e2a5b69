"""One pass over what is due and nobody holds: it makes "never" harmless.

Hints of PENDING, UNKNOWN and owed rows are published again; leases that are over are ended; effects whose expiry has
passed are stopped. It calls no upstream. Any number may run at once: each row's write is guarded, and each hint is
taken by one of them. Rows of connectors that this process does not know are left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

from tape_celery import failpoints, hints, metering
from tape_celery.engine import Engine, tell_breaker
from tape_celery.errors import StoreUnavailable
from tape_celery.events import Event, Expired, Lapsed
from tape_celery.flow import Breaker, Flow, Verb
from tape_celery.lease import monotonic
from tape_celery.loggers import logger_for
from tape_celery.records import EffectStatus, ObligationStatus
from tape_celery.settings import Settings
from tape_celery.store import due, fleet, flows, inspection, moves, retention, runs, waiting
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind

logger = logger_for(__name__)

BATCH = 500
"""The most rows of one connector that one pass acts on; the next pass goes on."""
PARKED_MS = 600_000
"""How long an effect that waits for its turn is left alone, unless it is woken."""
ASLEEP_AT_MOST = 50_000
"""The most rows of a connector that is paused or limited that one pass puts to sleep."""
NEXT_AT_MOST = 5_000
"""The most rows of a connector with a rate that one pass hints."""
PRUNED_AT_MOST = 1000
"""The most effects that one pass prunes."""


@dataclass
class SweepReport:
    """What one pass did, in rows."""

    dispatch_hints: int = 0
    observe_hints: int = 0
    compensate_hints: int = 0
    lapsed: int = 0
    expired: int = 0
    callbacks: int = 0
    """Callbacks that were sent."""
    runs: int = 0
    """Closed runs that were walked."""
    waiting: int = 0
    """Effects that wait for an earlier one of their ordering key."""
    paused: int = 0
    """Effects and obligations that wait because their connector is paused, and are left alone for some minutes."""
    limited: int = 0
    """The same, for a connector with a limit or a breaker; as many as may go are hinted beside."""
    pruned: int = 0
    """Effects that ended longer ago than ``tape_retention_days``."""
    lost_races: int = 0
    """Rows that somebody else moved first."""

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


Publish = Callable[[str, str, Sequence[str], int, float], None]
"""``publish(verb, connector, keys, priority, delay_seconds)``; verb is ``dispatch``, ``observe`` or ``compensate``."""
_Held = Mapping[Verb, Flow]
"""Of one connector: what does not pass freely."""


def hint_next(
    database: Database, settings: Settings, engine: Engine, publish: Publish, connector: str, verb: Verb, *, most: int
) -> dict[str, int]:
    """Hint the next rows of a connector with a limit, as many as may go until the next sweep, each when it may.

    Returns how many, by the verb of the hint.
    """
    reach = engine.reach()
    found = waiting.next_up(
        database,
        connector,
        verb,
        effect_names=reach.effect_names,
        lease_ms=reach.lease_ms.get(connector, 0),
        relay_ms=reach.relay_ms,
        span_ms=round(1000 * min(settings.sweep_seconds, settings.relay_seconds / 2)),
        most=most,
    )
    failpoints.reach("sweep.marked")
    for (wait_ms, hint_verb), rows in groupby(found, key=lambda row: (row.wait_ms, row.hinted_as)):
        wanted = [hints.Wanted(row.key, connector, row.priority) for row in rows]
        for hint in hints.grouped(wanted, settings.chunk_size):
            publish(hint_verb, connector, hint.keys, hint.priority, wait_ms / 1000)
    return Counter(row.hinted_as for row in found)


class Sweep:
    """One sweep after another over one store; ``publish`` sends the hints."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        engine: Engine,
        *,
        publish: Publish,
        actor: str,
        walk_runs: Callable[[Sequence[str]], None],
        send_callbacks: Callable[[], int],
    ) -> None:
        self._database = database
        self._settings = settings
        self._engine = engine
        self._publish = publish
        self._actor = actor
        self._walk_runs = walk_runs
        self._send_callbacks = send_callbacks

    def run(self) -> SweepReport:
        """One pass.

        A connector whose rows cannot be swept does not keep the others waiting; raises the last such error.
        """
        fleet.mark_swept(self._database, every_ms=round(self._settings.sweep_seconds * 500))
        report, began = SweepReport(), monotonic()
        try:
            return self._pass(report)
        finally:
            self._count(report, monotonic() - began)

    def _count(self, report: SweepReport, seconds: float) -> None:
        if (meter := self._database.meter) is not None:
            meter.span(metering.SWEEPS, seconds)
            meter.count(metering.LOST_RACES, "sweep", by=report.lost_races)
            for what, number in vars(report).items():
                if what != "lost_races":
                    meter.count(metering.SWEPT, what, by=number)
            meter.send()

    def _pass(self, report: SweepReport) -> SweepReport:
        trouble: StoreUnavailable | None = None
        known = sorted(self._engine.reach().lease_ms)
        held = flows.held_ones(self._database)
        for connector in known:
            try:
                mine = {verb: one for (name, verb), one in held.items() if name == connector}
                self._sweep_effects(connector, report, mine)
                self._sweep_obligations(connector, report, mine)
                self._hint_limited(connector, report, mine)
            except StoreUnavailable as error:
                logger.warning("the rows of %s were not swept: %s", connector, error)
                trouble = error
        if trouble is not None:
            raise trouble
        closed = runs.due(self._database, limit=BATCH)
        self._walk_runs(closed)
        report.runs += len(closed)
        report.callbacks += self._send_callbacks()
        self._prune(report)
        return report

    def _prune(self, report: SweepReport) -> None:
        if self._settings.retention_days:
            age_ms = round(self._settings.retention_days * 86_400_000)
            chunks = retention.chunks(self._database, age_ms=age_ms, limit=PRUNED_AT_MOST)
            report.pruned = sum(chunk.effects for chunk in chunks)

    def _sweep_effects(self, connector: str, report: SweepReport, held: _Held) -> None:
        runs.wake_those_of(self._database, self._put_to_sleep(EFFECTS, connector, report, held)[:BATCH])
        rows = self._due(EFFECTS, connector)
        failpoints.reach("sweep.selected")
        over = [row.key for row in rows if row.status == EffectStatus.DISPATCHING]
        report.lapsed += self._end(EFFECTS, over, Lapsed(actor=self._actor), report)
        unsent = (EffectStatus.PENDING, EffectStatus.HELD)
        expired = [row.key for row in rows if row.status in unsent and row.expired]
        report.expired += self._end(EFFECTS, expired, Expired(actor=self._actor), report)
        # What lapsed or expired is UNKNOWN or PENDING now, and due at once.
        again = self._due(EFFECTS, connector) if over or expired else rows
        pending = [row for row in again if row.status == EffectStatus.PENDING and not row.expired]
        runs.wake_those_of(self._database, [row.key for row in pending])
        held_up = [row for row in pending if row.waits]
        due.park(self._database, held_up, span_ms=PARKED_MS)
        report.waiting += len(held_up)
        for_dispatch = [] if "call" in held else [row for row in pending if not row.waits]
        report.dispatch_hints += self._relay(EFFECTS, "dispatch", connector, for_dispatch)
        for_look = [] if "look" in held else [row for row in again if row.status in EFFECTS.looking]
        report.observe_hints += self._relay(EFFECTS, "observe", connector, for_look)

    def _put_to_sleep(self, kind: Kind[Any], connector: str, report: SweepReport, held: _Held) -> list[str]:
        """Those that wait for a call."""
        relay_ms, asleep = round(self._settings.relay_seconds * 1000), list[str]()
        for verb, one in held.items():
            keys = waiting.put_to_sleep(
                self._database, kind, connector, verb, relay_ms=relay_ms, at_most=ASLEEP_AT_MOST
            )
            report.paused += len(keys) if one.paused else 0
            report.limited += 0 if one.paused else len(keys)
            asleep += keys if verb == "call" else []
        return asleep

    def _hint_limited(self, connector: str, report: SweepReport, held: _Held) -> None:
        for verb, one in held.items():
            if one.paused or not one.controlled:
                continue
            if one.breaker is Breaker.HALF_OPEN:
                turned = flows.look_after_probe(self._database, connector, verb)
                tell_breaker(*turned or (), meter=self._database.meter)
            most = NEXT_AT_MOST if one.rate_count else BATCH
            hinted = hint_next(self._database, self._settings, self._engine, self._publish, connector, verb, most=most)
            report.dispatch_hints += hinted.get("dispatch", 0)
            report.observe_hints += hinted.get("observe", 0)
            report.compensate_hints += hinted.get("compensate", 0)

    def _sweep_obligations(self, connector: str, report: SweepReport, held: _Held) -> None:
        self._put_to_sleep(OBLIGATIONS, connector, report, held)
        rows = self._due(OBLIGATIONS, connector)
        over = [row.key for row in rows if row.status == OBLIGATIONS.calling]
        report.lapsed += self._end(OBLIGATIONS, over, Lapsed(actor=self._actor), report)
        again = self._due(OBLIGATIONS, connector) if over else rows
        wanted: tuple[str, ...] = () if "call" in held else (ObligationStatus.PENDING,)
        wanted += () if "look" in held else OBLIGATIONS.looking
        hinted = [row for row in again if row.status in wanted]
        report.compensate_hints += self._relay(OBLIGATIONS, "compensate", connector, hinted)

    def _due(self, kind: Kind[Any], connector: str) -> list[due.Due]:
        return due.due(self._database, kind, connector=connector, reach=self._engine.reach(), limit=BATCH)

    def _end(self, kind: Kind[Any], keys: Sequence[str], event: Event, report: SweepReport) -> int:
        if not keys:
            return 0
        records = inspection.get_many(self._database, kind, list(keys))
        batch = [moves.Move(key, event, self._engine.terms(record)) for key, record in records.items()]
        results = moves.move(self._database, kind, batch)
        ended = sum(isinstance(result, moves.Moved) for result in results.values())
        report.lost_races += len(results) - ended
        return ended

    def _relay(self, kind: Kind[Any], verb: str, connector: str, rows: Sequence[due.Due]) -> int:
        relay_ms = round(self._settings.relay_seconds * 1000)
        taken = set(due.mark_relayed(self._database, kind, [row.key for row in rows], relay_ms=relay_ms))
        failpoints.reach("sweep.marked")
        wanted = [hints.Wanted(row.key, connector, row.priority) for row in rows if row.key in taken]
        for hint in hints.grouped(wanted, self._settings.chunk_size):
            self._publish(verb, connector, hint.keys, hint.priority, 0.0)
        return len(taken)
