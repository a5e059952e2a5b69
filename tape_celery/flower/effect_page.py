"""The page of one effect or obligation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tornado.web import authenticated

from tape_celery.errors import NoSuchEffect
from tape_celery.explanation import Explanation
from tape_celery.flower.acts import ACTS
from tape_celery.flower.handler import NOTHING, Page, Tried
from tape_celery.flower.history import attempts, facts
from tape_celery.records import Effect, JournalEntry, Obligation, Proposal, shown
from tape_celery.redaction import cut_out
from tape_celery.store import inspection


@dataclass(frozen=True)
class Looked:
    """Everything that the page of one effect or obligation shows."""

    now_ms: int
    record: Effect | Obligation
    pruned: bool
    journal: list[JournalEntry]
    obligations: list[Obligation]
    explanation: Explanation
    proposals: list[Proposal]


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
            "Response": shown(record, "response_json"),
            "Error": shown(record, "error_json"),
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
            now_ms=looked.now_ms,
            proposals=looked.proposals,
            safe=lambda text: cut_out(secrets, text),
            facts=facts,
        )

    def refuse_out_of_scope(self, key: str) -> None:
        """Raise `NoSuchEffect` for what is not there for whoever asks."""
        self._find(key)

    def _find(self, key: str) -> tuple[Effect | Obligation, bool]:
        """The row, and whether it was pruned."""
        record: Effect | Obligation | None = self.tape.get(key) or inspection.get_obligation(self.tape.database, key)
        found = record or self.tape.pruned(key)
        if found is None or not self.person.sees(found.connector):
            raise NoSuchEffect(key)
        return found, record is None

    def _look(self, key: str) -> Looked:
        database = self.tape.database
        found, pruned = self._find(key)
        owed = self.tape.obligations(effect_key=key) if isinstance(found, Effect) else []
        # First, so that its version, which an act is given, is no younger than what is shown.
        told = self.tape.explain(key)
        return Looked(
            now_ms=inspection.now_ms(database),
            record=found,
            pruned=pruned,
            journal=self.tape.journal(key),
            obligations=owed,
            explanation=told,
            proposals=self.tape.proposals(key),
        )


def _body(record: Effect | Obligation) -> dict[str, Any]:
    return shown(record, "request_json" if isinstance(record, Effect) else "payload_json")
