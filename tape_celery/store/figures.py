"""How a connector does: of its last effects, how long the calls took and how many lost their answer.

It reads the newest effects by index, and their journals by key, so that it costs the same however much is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, true

from tape_celery.records import EffectStatus
from tape_celery.schema import journal
from tape_celery.store import listing
from tape_celery.store.database import Database

NEWEST = 500
"""Of how many effects, the newest of a connector, its figures are."""
KEYS = 100
"""Of how many effects one statement reads the journals."""
LOST = ("unknown", "lapsed")
"""The kinds of journal entries by which a call ends whose outcome nobody knows."""


@dataclass(frozen=True)
class Figures:
    """Of the calls of a connector's newest effects. Times are milliseconds from the claim of a call to its end."""

    effects: int
    calls: int
    lost: int
    """Calls whose answer was lost, or whose worker was."""
    median_ms: int | None
    p95_ms: int | None
    slowest_ms: int | None
    since_ms: int | None
    """When the first of these calls began."""

    @property
    def lost_share(self) -> float:
        """Of these calls, the part that ended UNKNOWN: 0 to 1; 0 where there was none."""
        return self.lost / self.calls if self.calls else 0.0


def of_connector(database: Database, connector: str, *, newest: int = NEWEST) -> Figures:
    """The figures of a connector over its ``newest`` effects; raises `StoreUnavailable`."""
    keys, entries = database.read(lambda connection: _read(connection, connector, newest))
    return _figures(len(keys), entries)


def _read(connection: Connection, connector: str, newest: int) -> tuple[list[str], list[Any]]:
    parts = listing.parts(connection, None, connector, None, None)
    keys, entries = listing.newest(connection, parts, true(), newest), list[Any]()
    columns = (journal.c.key, journal.c.at_ms, journal.c.kind, journal.c.from_status, journal.c.status)
    for start in range(0, len(keys), KEYS):
        some = journal.c.key.in_(keys[start : start + KEYS])
        entries += connection.execute(select(*columns).where(some).order_by(journal.c.key, journal.c.seq)).all()
    return keys, entries


def _figures(number: int, entries: Iterable[Any]) -> Figures:
    began: dict[str, int] = {}
    first: int | None = None
    took, lost = list[int](), 0
    for entry in entries:
        calling = entry.status == EffectStatus.DISPATCHING
        if calling and entry.from_status != EffectStatus.DISPATCHING:
            began[entry.key] = entry.at_ms
            first = entry.at_ms if first is None else min(first, entry.at_ms)
        elif not calling and entry.from_status == EffectStatus.DISPATCHING and entry.key in began:
            took.append(max(0, entry.at_ms - began.pop(entry.key)))
            lost += entry.kind in LOST
    took.sort()
    median_ms, p95_ms, slowest_ms = (_quantile(took, share) for share in (0.5, 0.95, 1.0))
    return Figures(number, len(took), lost, median_ms, p95_ms, slowest_ms, first)


def _quantile(ordered: Sequence[int], share: float) -> int | None:
    return ordered[round(share * (len(ordered) - 1))] if ordered else None
