"""The page of one connector."""

from __future__ import annotations

from tornado.web import authenticated

from tape_celery.connectors import base
from tape_celery.flower.handler import Page
from tape_celery.flower.list_page import COUNTED
from tape_celery.flower.trouble import Refused
from tape_celery.records import Pause, Worker
from tape_celery.store import figures, inspection


class ConnectorPage(Page):
    """One connector: what it has in each state, how its calls went, who knows it, whether it is paused."""

    @authenticated
    async def get(self, connector: str) -> None:
        """Show it."""
        now_ms, counts, told, workers, pauses = await self.off_loop(lambda: self._read(connector))
        if not counts and not workers and connector not in base.names():
            raise Refused(404, f"No effect and no worker knows the connector {connector}.")
        self.show(
            "connector.html",
            connector=connector,
            counts=counts,
            figures=told,
            workers=workers,
            pause=next((pause for pause in pauses if pause.connector == connector), None),
            now_ms=now_ms,
            newest=figures.NEWEST,
        )

    head = get

    def _read(self, connector: str) -> tuple[int, list[inspection.Count], figures.Figures, list[Worker], list[Pause]]:
        database = self.tape.database
        counts = [count for count in self.tape.counts(COUNTED) if count.connector == connector]
        workers = [worker for worker in self.tape.workers() if connector in worker.connectors]
        told = figures.of_connector(database, connector)
        return inspection.now_ms(database), counts, told, workers, self.tape.pauses()
