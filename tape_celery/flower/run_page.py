"""The page of one run."""

from __future__ import annotations

from tornado.web import authenticated

from tape_celery.errors import NoSuchRun
from tape_celery.flower.acts import RUN_ACTS, RUN_WORDS
from tape_celery.flower.handler import NOTHING, Page, Tried
from tape_celery.flower.list_page import ROWS
from tape_celery.flower.trouble import Refused
from tape_celery.flower.wording import with_query
from tape_celery.records import Obligation, Proposal, Run, RunStatus
from tape_celery.store import inspection, paging, runs
from tape_celery.store.paging import Filters

NOT_WHOLE = "Effects of connectors that are not yours are in this run, so nothing is done to it by you."


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
        now_ms, run, page, owed, proposals, whole = await self.off_loop(lambda: self._read(run_id, before, after))

        def address(**changed: str) -> str:
            return with_query(self.reverse_url("tape-run", run_id), changed)

        self.show(
            "run.html",
            run_id=run_id,
            run=run,
            whole=whole,
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
            offered=[(name, RUN_WORDS[name], False) for name in _run_acts(run.status) if whole],
            version=run.version,
            proposals=proposals,
            safe=str,
        )

    def _read(
        self, run_id: str, before: str, after: str
    ) -> tuple[int, Run, paging.Page, list[Obligation], list[Proposal], bool]:
        database = self.tape.database
        whole = self._is_whole(run_id)
        run = self.tape.run(run_id).record
        filters = Filters(run_id=run_id, connectors=self.seen_connectors())
        page = paging.read_page(database, filters, before=before, after=after, limit=ROWS)
        if not page.effects and not run.version and not before:
            raise NoSuchRun(run_id)
        owed = [
            debt
            for debt in inspection.list_obligations(database, run_id=run_id, limit=2 * ROWS)
            if self.person.sees(debt.connector)
        ]
        proposals = self.tape.proposals(run_id) if whole else []
        return inspection.now_ms(database), run, page, owed, proposals, whole

    def _is_whole(self, run_id: str) -> bool:
        """Whether whoever asks sees every effect in it; raises `NoSuchRun` where he sees none of them."""
        if self.person.sees_all:
            return True
        connectors = runs.connectors_in(self.tape.database, run_id)
        if not any(map(self.person.sees, connectors)):
            raise NoSuchRun(run_id)
        return self.person.sees_each(connectors)

    def refuse_out_of_scope(self, key: str) -> None:
        """Refuse a run that has effects which are not there for whoever asks: its acts are acts on all of them."""
        if not self._is_whole(key):
            raise Refused(403, NOT_WHOLE)


def _run_acts(status: RunStatus) -> list[str]:
    """The acts that its state allows: a cancelled one may still be compensated."""
    if status is RunStatus.OPEN:
        return ["compensate-run", "cancel-run"]
    return ["compensate-run"] if status.cancels else []
