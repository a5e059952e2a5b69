"""The pages: the list of effects, one effect or obligation, a run, a connector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tornado.web import authenticated

from tape_celery.connectors import base
from tape_celery.errors import NoSuchEffect, NoSuchRun
from tape_celery.explanation import Explanation
from tape_celery.flower import wording
from tape_celery.flower.acts import ACTS, RUN_ACTS, RUN_WORDS
from tape_celery.flower.handler import NOTHING, Page, Refused, Tried
from tape_celery.records import Effect, EffectStatus, JournalEntry, Obligation, ObligationStatus, RunStatus, Worker
from tape_celery.redaction import cut_out
from tape_celery.store import figures, inspection, paging
from tape_celery.store.paging import Filters

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
        now_ms, page, counts, owed = await self.off_loop(lambda: self._read(asked, before, after))
        given = {name: value for name, value in asked.items() if value}

        def address(**changed: str) -> str:
            return with_query(self.reverse_url("tape-effects"), given | changed)

        self.show(
            "effects.html",
            page=page,
            asked=asked,
            filtered=bool(given),
            paged=bool(before or after),
            counts=counts,
            owed=owed,
            now_ms=now_ms,
            ages=AGES,
            statuses=list(EffectStatus),
            owed_statuses=list(ObligationStatus),
            connectors=sorted({count.connector for count in counts}),
            address=address,
        )

    head = get

    def _read(self, asked: dict[str, str], before: str, after: str) -> tuple[int, paging.Page, Any, Any]:
        database = self.tape.database
        now_ms = inspection.now_ms(database)
        page = paging.read_page(database, filters(asked, now_ms), before=before, after=after, limit=ROWS)
        return now_ms, page, self.tape.counts(COUNTED), self.tape.obligation_counts(COUNTED)


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


def with_query(address: str, asked: dict[str, str]) -> str:
    """An address with what is asked, but for what is empty."""
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{address}?{query}" if query else address


@dataclass(frozen=True)
class Attempt:
    """One call, as the journal has it."""

    number: int
    worker: str
    began_ms: int
    ended_ms: int | None
    outcome: str
    status: str


def attempts(journal: list[JournalEntry]) -> list[Attempt]:
    """The calls of an effect or obligation, oldest first."""
    calling = ("DISPATCHING", "COMPENSATING")
    found: list[Attempt] = []
    for entry in journal:
        if entry.status in calling and entry.from_status not in calling:
            found.append(Attempt(len(found) + 1, entry.actor, entry.at_ms, None, "under way", entry.status))
        elif entry.from_status in calling and entry.status not in calling and found:
            began = found[-1]
            found[-1] = Attempt(began.number, began.worker, began.began_ms, entry.at_ms, entry.kind, entry.status)
    return found


@dataclass(frozen=True)
class Looked:
    """Everything that the page of one effect or obligation shows."""

    now_ms: int
    record: Effect | Obligation
    pruned: bool
    journal: list[JournalEntry]
    obligations: list[Obligation]
    explanation: Explanation


class EffectPage(Page):
    """One effect or obligation: what it is, what happened, what will, and what a person may do."""

    @authenticated
    async def get(self, key: str) -> None:
        """Show it."""
        await self.show_effect(key)

    head = get

    @authenticated
    async def post(self, key: str) -> None:
        """Do what somebody decided."""
        form = self.form(ACTS)
        if (done := await self.act(key, form)).trouble:
            await self.show_effect(key, done)
        else:
            self.go_on(done.said, self.reverse_url("tape-effect", key))

    async def show_effect(self, key: str, tried: Tried = NOTHING) -> None:
        """Show it as it is now, with what somebody tried in vain."""
        looked = await self.off_loop(lambda: self._look(key))
        record = looked.record
        redaction = self.shared.redaction
        bodies = {
            "Request" if isinstance(record, Effect) else "Payload": _body(record),
            "Response": record.response,
            "Error": record.error,
        }
        secrets = self.secrets(record)
        self.show(
            "effect.html",
            key=key,
            looked=looked,
            record=record,
            is_effect=isinstance(record, Effect),
            attempts=attempts(looked.journal),
            bodies={name: redaction.mask(body) for name, body in bodies.items() if body},
            said=self.said,
            trouble=tried.trouble,
            tried=tried.act,
            reason=tried.reason,
            acts=ACTS,
            offered=[(act.name, act.when, act.safe) for act in looked.explanation.acts if act.name in ACTS],
            version=looked.explanation.version,
            safe=lambda text: cut_out(secrets, text),
            facts=facts,
        )

    def _look(self, key: str) -> Looked:
        database = self.tape.database
        record: Effect | Obligation | None = self.tape.get(key) or inspection.get_obligation(database, key)
        pruned = None if record else self.tape.pruned(key)
        found = record or pruned
        if found is None:
            raise NoSuchEffect(key)
        owed = self.tape.obligations(effect_key=key) if isinstance(found, Effect) else []
        # First, so that its version, which an act is given, is no younger than what is shown.
        told = self.tape.explain(key)
        return Looked(inspection.now_ms(database), found, pruned is not None, self.tape.journal(key), owed, told)


def _body(record: Effect | Obligation) -> dict[str, Any]:
    return record.request if isinstance(record, Effect) else record.payload


_TOLD_ELSEWHERE = frozenset({"event", "nonce", "token", "terms", "request_digest", "backoff_ms"})


def facts(entry: JournalEntry) -> list[tuple[str, str]]:
    """What a journal entry says beyond what its line shows, as names and values."""
    told = {name: value for name, value in entry.evidence.items() if name not in _TOLD_ELSEWHERE}
    return [_fact(name, value) for name, value in told.items() if value not in (None, "", False, [])]


def _fact(name: str, value: Any) -> tuple[str, str]:
    if name.endswith("_ms") and isinstance(value, int):
        at = name.endswith(("_at_ms", "_until_ms"))
        return name.removesuffix("_ms").replace("_", " "), wording.exact(value) if at else wording.span(value)
    return name.replace("_", " "), "yes" if value is True else str(value)


class RunPage(Page):
    """One run: its effects, what it owes, and how it is closed."""

    @authenticated
    async def get(self, run_id: str) -> None:
        """Show it."""
        await self.show_run(run_id)

    head = get

    @authenticated
    async def post(self, run_id: str) -> None:
        """Close it, as somebody decided."""
        form = self.form(RUN_ACTS)
        if (done := await self.act(run_id, form)).trouble:
            await self.show_run(run_id, done)
        else:
            self.go_on(done.said, self.reverse_url("tape-run", run_id))

    async def show_run(self, run_id: str, tried: Tried = NOTHING) -> None:
        """Show it as it is now, with what somebody tried in vain."""
        before, after = (self.get_query_argument(name, "", strip=False) for name in ("before", "after"))
        now_ms, run, page, owed = await self.off_loop(lambda: self._read(run_id, before, after))

        def address(**changed: str) -> str:
            return with_query(self.reverse_url("tape-run", run_id), changed)

        self.show(
            "run.html",
            run_id=run_id,
            run=run,
            page=page,
            owed=owed,
            now_ms=now_ms,
            paged=bool(before or after),
            address=address,
            said=self.said,
            trouble=tried.trouble,
            tried=tried.act,
            reason=tried.reason,
            acts=RUN_ACTS,
            offered=[(name, RUN_WORDS[name], False) for name in _run_acts(run.status)],
            version=run.version,
            safe=str,
        )

    def _read(self, run_id: str, before: str, after: str) -> tuple[int, Any, paging.Page, list[Obligation]]:
        database = self.tape.database
        run = self.tape.run(run_id).record
        page = paging.read_page(database, Filters(run_id=run_id), before=before, after=after, limit=ROWS)
        if not page.effects and not run.version and not before:
            raise NoSuchRun(run_id)
        owed = inspection.list_obligations(database, run_id=run_id, limit=2 * ROWS)
        return inspection.now_ms(database), run, page, owed


def _run_acts(status: RunStatus) -> list[str]:
    """The acts that its state allows: a cancelled one may still be compensated."""
    if status is RunStatus.OPEN:
        return ["compensate-run", "cancel-run"]
    return ["compensate-run"] if status.cancels else []


class ConnectorPage(Page):
    """One connector: what it has in each state, how its calls went, who knows it."""

    @authenticated
    async def get(self, connector: str) -> None:
        """Show it."""
        now_ms, counts, told, workers = await self.off_loop(lambda: self._read(connector))
        if not counts and not workers and connector not in base.names():
            raise Refused(404, f"No effect and no worker knows the connector {connector}.")
        self.show(
            "connector.html",
            connector=connector,
            counts=counts,
            figures=told,
            workers=workers,
            now_ms=now_ms,
            newest=figures.NEWEST,
        )

    head = get

    def _read(self, connector: str) -> tuple[int, list[inspection.Count], figures.Figures, list[Worker]]:
        database = self.tape.database
        counts = [count for count in self.tape.counts(COUNTED) if count.connector == connector]
        workers = [worker for worker in self.tape.workers() if connector in worker.connectors]
        return inspection.now_ms(database), counts, figures.of_connector(database, connector), workers
