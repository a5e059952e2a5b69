"""The page of one connector."""

from __future__ import annotations

from tornado.web import authenticated

from tape_celery.connectors import base
from tape_celery.flower.acts import CONNECTOR_ACTS, CONNECTOR_WORDS
from tape_celery.flower.handler import NOTHING, Page, Tried
from tape_celery.flower.list_page import COUNTED
from tape_celery.flower.trouble import Refused
from tape_celery.records import Pause, Worker
from tape_celery.store import figures, inspection


class ConnectorPage(Page):
    """One connector: what it has in each state, how its calls went, who knows it."""

    @authenticated
    async def get(self, connector: str) -> None:
        """Show it."""
        await self.show_connector(connector)

    head = get

    @authenticated
    async def post(self, connector: str) -> None:
        """Pause or resume it, as somebody decided."""
        form = self.form(CONNECTOR_ACTS)
        if (done := await self.act(connector, form)).trouble:
            await self.show_connector(connector, done)
        else:
            self.go_on(done.said, self.reverse_url("tape-connector", connector))

    async def show_connector(self, connector: str, tried: Tried = NOTHING) -> None:
        """Show it as it is now, with what somebody tried in vain."""
        now_ms, counts, told, workers, pause = await self.off_loop(lambda: self._read(connector))
        if not counts and not workers and not pause and connector not in base.names():
            raise Refused(404, f"No effect and no worker knows the connector {connector}.")
        self.show(
            "connector.html",
            connector=connector,
            counts=counts,
            figures=told,
            workers=workers,
            now_ms=now_ms,
            newest=figures.NEWEST,
            pause=pause,
            said=self.said,
            trouble=tried.trouble,
            tried=tried.act,
            reason=tried.reason,
            acts=CONNECTOR_ACTS,
            offered=[
                (name, CONNECTOR_WORDS[name], True) for name in CONNECTOR_ACTS if (name == "pause") != bool(pause)
            ],
            version=0,
            proposals=[],
            safe=str,
        )

    def _read(self, connector: str) -> tuple[int, list[inspection.Count], figures.Figures, list[Worker], Pause | None]:
        database = self.tape.database
        counts = [count for count in self.tape.counts(COUNTED) if count.connector == connector]
        workers = [worker for worker in self.tape.workers() if connector in worker.connectors]
        pause = next((pause for pause in self.tape.pauses() if pause.connector == connector), None)
        return inspection.now_ms(database), counts, figures.of_connector(database, connector), workers, pause
