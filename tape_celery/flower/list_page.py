"""The list of effects, with its filters and counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tornado.web import authenticated

from tape_celery.flow import Breaker, Flow
from tape_celery.flower.handler import Page
from tape_celery.flower.trouble import Refused
from tape_celery.flower.wording import with_query
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, Proposal
from tape_celery.store import inspection, paging, runs
from tape_celery.store.paging import Filters
from tape_celery.store.rows import EFFECTS, OBLIGATIONS

ROWS = 50
"""How many effects a page of the list has."""
COUNTED = 1_000
"""How many of a state are counted."""
AGES = {
    "younger-3600": "in the last hour",
    "younger-86400": "in the last day",
    "older-300": "over 5 minutes ago",
    "older-3600": "over an hour ago",
    "older-86400": "over a day ago",
    "older-604800": "over a week ago",
}
"""What the list offers of ages: when an effect was recorded, in seconds before now."""


class EffectsPage(Page):
    """The list, with filters, and how many effects each connector has in each state."""

    @authenticated
    async def get(self) -> None:
        """Show a page of it."""
        asked = {name: self.get_query_argument(name, "", strip=False) for name in FILTERS}
        before, after = (self.get_query_argument(name, "", strip=False) for name in ("before", "after"))
        listed = await self.off_loop(lambda: self._read(asked, before, after))
        given = {name: value for name, value in asked.items() if value}

        def address(**changed: str) -> str:
            return with_query(self.reverse_url("tape-effects"), given | changed)

        self.show(
            "effects.html",
            **listed,
            asked=asked,
            filtered=bool(given),
            paged=bool(before or after),
            ages=AGES,
            statuses=list(EffectStatus),
            owed_statuses=list(ObligationStatus),
            connectors=sorted({count.connector for count in listed["counts"]}),
            address=address,
        )

    head = get

    def _read(self, asked: dict[str, str], before: str, after: str) -> dict[str, Any]:
        now_ms, sees = inspection.now_ms(self.tape.database), self.person.sees
        wanted = replace(filters(asked, now_ms), connectors=self.seen_connectors())
        return {
            "now_ms": now_ms,
            "page": paging.read_page(self.tape.database, wanted, before=before, after=after, limit=ROWS),
            "counts": [count for count in self.tape.counts(COUNTED) if sees(count.connector)],
            "owed": [count for count in self.tape.obligation_counts(COUNTED) if sees(count.connector)],
            "proposals": self._seen(self.tape.proposals()),
            "held": _held([one for one in self.tape.flows() if sees(one.connector)]),
        }

    def _seen(self, proposals: list[Proposal]) -> list[Proposal]:
        """Those on what is there, wholly, for whoever asks."""
        if self.person.sees_all:
            return proposals
        database, keys = self.tape.database, [proposal.subject_key for proposal in proposals]
        rows: dict[str, Effect | Obligation] = {
            **inspection.get_many(database, EFFECTS, keys),
            **inspection.get_many(database, OBLIGATIONS, keys),
        }

        def connectors(proposal: Proposal) -> list[str]:
            row = None if proposal.act == "compensate_run" else rows.get(proposal.subject_key)
            return runs.connectors_in(database, proposal.subject_key) if row is None else [row.connector]

        return [one for one in proposals if (of := connectors(one)) and self.person.sees_each(of)]


def _held(flows: list[Flow]) -> dict[str, list[str]]:
    """Of each connector that is held back, by what."""
    held: dict[str, list[str]] = {}
    for one in flows:
        of = "" if one.verb == "call" else "looks "
        facts = {"paused": one.paused, "breaker open": one.breaker is not Breaker.CLOSED}
        held.setdefault(one.connector, []).extend(f"{of}{word}" for word, holds in facts.items() if holds)
    return held


FILTERS = ("status", "connector", "run", "business_key", "age")


def filters(asked: dict[str, str], now_ms: int) -> Filters:
    """What a query asks for; raises `Refused` for a state or an age that there is not."""
    status, age = asked["status"], asked["age"]
    if status and status not in list(EffectStatus):
        raise Refused(400, f"No effect is ever {status}.")
    if age and age not in AGES:
        raise Refused(400, f"There is no age {age} to choose.")
    how, _, seconds = age.partition("-")
    at_ms = now_ms - int(seconds or 0) * 1000
    return Filters(
        status=EffectStatus(status) if status else None,
        connector=asked["connector"] or None,
        run_id=asked["run"] or None,
        business_key=asked["business_key"] or None,
        recorded_since_ms=at_ms if how == "younger" else None,
        recorded_before_ms=at_ms if how == "older" else None,
    )
