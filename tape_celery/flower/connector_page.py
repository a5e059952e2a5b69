"""The page of one connector."""

from __future__ import annotations

from tornado.web import authenticated

from tape_celery.connectors import base
from tape_celery.explanation import controls
from tape_celery.explanation.controls import Standing
from tape_celery.flow import Flow
from tape_celery.flower import connector_acts
from tape_celery.flower.connector_acts import CONNECTOR_ACTS, CONNECTOR_WORDS
from tape_celery.flower.handler import NOTHING, Page, Tried
from tape_celery.flower.list_page import COUNTED
from tape_celery.flower.trouble import Refused
from tape_celery.records import Worker
from tape_celery.store import figures, flows, inspection, standing
from tape_celery.store.inspection import Count


class ConnectorPage(Page):
    """One connector: what holds it back, what it has in each state, how its calls went, who knows it."""

    @authenticated
    async def get(self, connector: str) -> None:
        """Show it."""
        await self.show_connector(connector)

    head = get

    @authenticated
    async def post(self, connector: str) -> None:
        """Pause it, limit it or set its breaker, as somebody decided."""
        form = self.form(CONNECTOR_ACTS)
        if (done := await self.act(connector, form, connector_acts.perform)).trouble:
            await self.show_connector(connector, done)
        else:
            self.go_on(done.said, self.reverse_url("tape-connector", connector))

    async def show_connector(self, connector: str, tried: Tried = NOTHING) -> None:
        """Show it as it is now, with what somebody tried in vain."""
        self.refuse_out_of_scope(connector)
        now_ms, counts, told, workers, both, standings = await self.off_loop(lambda: self._read(connector))
        if not counts and not workers and not standings and connector not in base.names():
            raise _nobody_knows(connector)
        self.show(
            "connector.html",
            connector=connector,
            counts=counts,
            figures=told,
            workers=workers,
            now_ms=now_ms,
            newest=figures.NEWEST,
            pause=flows.as_pause(both[0]) if both[0].paused else None,
            standings=standings,
            controls=controls,
            said=self.said,
            trouble=tried.trouble,
            tried=tried.act,
            reason=tried.reason,
            acts=CONNECTOR_ACTS,
            offered=[(name, CONNECTOR_WORDS[name], True) for name in connector_acts.offered(both)],
            version=0,
            versions=connector_acts.versions(both),
            values=connector_acts.filled_in(both) | {tried.act: tried.given},
            proposals=[],
            safe=str,
        )

    def refuse_out_of_scope(self, key: str) -> None:
        """Refuse a connector that is not there for whoever asks."""
        if not self.person.sees(key):
            raise _nobody_knows(key)

    def _read(
        self, connector: str
    ) -> tuple[int, list[Count], figures.Figures, list[Worker], tuple[Flow, Flow], list[Standing]]:
        database = self.tape.database
        counts = [count for count in self.tape.counts(COUNTED) if count.connector == connector]
        workers = [worker for worker in self.tape.workers() if connector in worker.connectors]
        both = connector_acts.of_connector(self.tape, connector)
        standings = standing.read(database, self.tape.engine.reach().lease_ms, connector=connector)
        told = figures.of_connector(database, connector)
        return inspection.now_ms(database), counts, told, workers, both, standings


def _nobody_knows(connector: str) -> Refused:
    return Refused(404, f"No effect and no worker knows the connector {connector}.")
