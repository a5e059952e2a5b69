"""The page of one run."""

from __future__ import annotations

from tornado.web import authenticated

from tape_celery.errors import NoSuchRun
from tape_celery.flower.acts import RUN_ACTS, RUN_WORDS
from tape_celery.flower.handler import NOTHING, Page, Tried
from tape_celery.flower.list_page import ROWS
from tape_celery.flower.wording import with_query
from tape_celery.records import Obligation, Proposal, Run, RunStatus
from tape_celery.store import inspection, paging
from tape_celery.store.paging import Filters


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
        now_ms, run, page, owed, proposals = await self.off_loop(lambda: self._read(run_id, before, after))

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
            proposals=proposals,
            safe=str,
        )

    def _read(
        self, run_id: str, before: str, after: str
    ) -> tuple[int, Run, paging.Page, list[Obligation], list[Proposal]]:
        database = self.tape.database
        run = self.tape.run(run_id).record
        page = paging.read_page(database, Filters(run_id=run_id), before=before, after=after, limit=ROWS)
        if not page.effects and not run.version and not before:
            raise NoSuchRun(run_id)
        owed = inspection.list_obligations(database, run_id=run_id, limit=2 * ROWS)
        return inspection.now_ms(database), run, page, owed, self.tape.proposals(run_id)


def _run_acts(status: RunStatus) -> list[str]:
    """The acts that its state allows: a cancelled one may still be compensated."""
    if status is RunStatus.OPEN:
        return ["compensate-run", "cancel-run"]
    return ["compensate-run"] if status.cancels else []
