"""Pages of the list of effects, newest first: each starts at a key, so the thousandth costs what the first does."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, select, true

from tape_celery.records import Effect, EffectStatus, replace
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
    connectors: tuple[str, ...] | None = None
    """Those that may be seen at all: of no other is there anything."""

    def match(self, effect: Effect) -> bool:
        """Whether the effect is one of those."""
        return (
            self.match_listed(effect.status, effect.connector, effect.created_at_ms)
            and self.run_id in (None, effect.run_id)
            and self.business_key in (None, effect.business_key)
        )

    def match_listed(self, status: str, connector: str, created_at_ms: int) -> bool:
        """Whether an effect may be one of those, by what the index has of it."""
        since, before = self.recorded_since_ms, self.recorded_before_ms
        return (
            self.status in (None, status)
            and self.connector in (None, connector)
            and (self.connectors is None or connector in self.connectors)
            and (since is None or created_at_ms >= since)
            and (before is None or created_at_ms < before)
        )

    def condition(self) -> ColumnElement[bool]:
        """The same for the database."""
        columns, since, before = effects.c, self.recorded_since_ms, self.recorded_before_ms
        conditions = [columns[name] == value for name, value in self._equal().items() if value is not None]
        conditions += [] if since is None else [columns.created_at_ms >= since]
        conditions += [] if self.connectors is None else [columns.connector.in_(self.connectors)]
        conditions += [] if before is None else [columns.created_at_ms < before]
        return and_(true(), *conditions)

    def parts(self, connection: Connection, *, settled: bool = True) -> list[listing.Part]:
        """Conditions without a row in common, of each of which one index has the rows in the order of their keys.

        Without ``settled``: of what is not over.
        """
        aged = self.recorded_since_ms is not None or self.recorded_before_ms is not None
        scoped = self.connectors is not None and self.run_id is None and self.business_key is None
        if settled and not scoped and not (aged and not any(self._equal().values())):
            return listing.parts(connection, self.status, self.connector, self.run_id, self.business_key)
        among = self.connectors if self.connector is None else [self.connector]
        if among is not None and self.connectors is not None:
            among = [name for name in among if name in self.connectors]
        # By the index that has the time of recording, too, so that no row is read in vain for it.
        states = [state for state in EffectStatus if settled or not state.settled]
        return listing.pairs(connection, [s for s in states if self.status in (None, s)], among)

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

    Going back to what is newer ends on a whole first page. With ``recorded_before_ms`` the index is read past what is
    younger, which grows with that; nothing else does. Raises `StoreUnavailable`.
    """
    number = min(limit, MOST)
    if after:
        page = database.read(lambda connection: _read(connection, filters, number, after=after))
        if page.newer:
            return _opened(database, page)
        before = ""
    page = database.read(lambda connection: _read(connection, filters, number, before=before))
    return _opened(database, Page(page.effects, bool(before), page.older))


def _opened(database: Database, page: Page) -> Page:
    return replace(page, effects=[EFFECTS.opened(effect, database.cipher) for effect in page.effects])


def _read(connection: Connection, filters: Filters, number: int, *, before: str = "", after: str = "") -> Page:
    oldest_first = bool(after)
    keys = _keys(connection, filters, number + 1, before, after)
    more = len(keys) > number
    found = select(effects).where(effects.c.effect_key.in_(keys[:number])).order_by(effects.c.effect_key.desc())
    rows = connection.execute(found).mappings().all() if keys else []
    # One may have moved since its key was found.
    listed = [effect for row in rows if filters.match(effect := EFFECTS.read(row))]
    return Page(listed, newer=oldest_first and more, older=oldest_first or more)


def _keys(connection: Connection, filters: Filters, number: int, before: str, after: str) -> list[str]:
    """The keys of the first ``number`` that match beyond ``before`` or ``after``, in that direction."""
    key, oldest_first = effects.c.effect_key, bool(after)
    here = key > after if after else key < before if before else true()
    matches = and_(filters.condition(), here)
    since = filters.recorded_since_ms
    if since is None or filters.run_id is not None or filters.business_key is not None:
        return listing.newest(connection, filters.parts(connection), matches, number, oldest_first=oldest_first)
    # What was recorded since then is not settled, or has ended since then: neither is much, however much is kept.
    parts = filters.parts(connection, settled=False)
    found = listing.newest(connection, parts, matches, number, oldest_first=oldest_first) if parts else []
    # After those: what is settled in between is in both, and in none of them if it were the other way round.
    ended = listing.ended_since(connection, since)
    if ended is None:
        return listing.newest(connection, filters.parts(connection), matches, number, oldest_first=oldest_first)
    found += [
        row.effect_key
        for row in ended
        if EffectStatus(row.status).settled
        and filters.match_listed(row.status, row.connector, row.created_at_ms)
        and (row.effect_key > after if after else not before or row.effect_key < before)
    ]
    return sorted(set(found), reverse=not oldest_first)[:number]
