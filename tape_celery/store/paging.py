"""Pages of the list of effects, newest first: each starts at a key, so the thousandth costs what the first does."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, select, true

from tape_celery.records import Effect, EffectStatus
from tape_celery.schema import effects
from tape_celery.store import listing
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS

MOST = 500
"""The most rows of one page."""
FIRST = " "
"""The key to start after, to have the oldest ones: it comes before every key."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What an effect on a page has in common with the others; ``None`` is anything."""

    status: EffectStatus | None = None
    connector: str | None = None
    run_id: str | None = None
    business_key: str | None = None
    recorded_since_ms: int | None = None
    recorded_before_ms: int | None = None

    def match(self, effect: Effect) -> bool:
        """Whether the effect is one of those."""
        since, before = self.recorded_since_ms, self.recorded_before_ms
        return (
            all(value is None or getattr(effect, name) == value for name, value in self._equal().items())
            and (since is None or effect.created_at_ms >= since)
            and (before is None or effect.created_at_ms < before)
        )

    def condition(self) -> ColumnElement[bool]:
        """The same for the database."""
        columns, since, before = effects.c, self.recorded_since_ms, self.recorded_before_ms
        conditions = [columns[name] == value for name, value in self._equal().items() if value is not None]
        conditions += [] if since is None else [columns.created_at_ms >= since]
        conditions += [] if before is None else [columns.created_at_ms < before]
        return and_(true(), *conditions)

    def parts(self, connection: Connection) -> list[listing.Part]:
        """Conditions without a row in common, of each of which one index has the rows in the order of their keys."""
        aged = self.recorded_since_ms is not None or self.recorded_before_ms is not None
        if aged and not any(self._equal().values()):
            # The index that has the time of recording, too, so that no row is read in vain for it.
            return listing.pairs(connection)
        return listing.parts(connection, self.status, self.connector, self.run_id, self.business_key)

    def _equal(self) -> dict[str, str | None]:
        return {
            "status": self.status,
            "connector": self.connector,
            "run_id": self.run_id,
            "business_key": self.business_key,
        }


@dataclass(frozen=True)
class Page:
    """Some effects, newest first, and whether there are more on either side."""

    effects: list[Effect]
    newer: bool
    older: bool


def read_page(database: Database, filters: Filters, *, before: str = "", after: str = "", limit: int = 50) -> Page:
    """Up to ``limit`` effects that match: the newest, or those that come next to the key ``before`` or ``after``.

    Going back to what is newer ends on a whole first page. With an age the index is read past what is younger or older,
    which grows with what is kept; nothing else does. Raises `StoreUnavailable`.
    """
    number = min(limit, MOST)
    if after:
        page = database.read(lambda connection: _read(connection, filters, effects.c.effect_key > after, number, True))
        if page.newer:
            return page
        before = ""
    here = effects.c.effect_key < before if before else true()
    page = database.read(lambda connection: _read(connection, filters, here, number, False))
    return Page(page.effects, bool(before), page.older)


def _read(connection: Connection, filters: Filters, here: ColumnElement[bool], number: int, oldest_first: bool) -> Page:
    matches = and_(filters.condition(), here)
    parts = filters.parts(connection)
    keys = listing.newest(connection, parts, matches, number + 1, oldest_first=oldest_first)
    more = len(keys) > number
    found = select(effects).where(effects.c.effect_key.in_(keys[:number])).order_by(effects.c.effect_key.desc())
    rows = connection.execute(found).mappings().all() if keys else []
    # One may have moved since its key was found.
    listed = [effect for row in rows if filters.match(effect := EFFECTS.read(row))]
    return Page(listed, newer=oldest_first and more, older=oldest_first or more)
