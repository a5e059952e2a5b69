"""Acts of two people: one proposes what ``tape_second_person_above`` lets nobody do alone, another one confirms it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection

from tape_celery import failpoints, intent, obligation_state, people, state
from tape_celery.acting import OF_ROW, OF_RUN, Acting, check_verdict, check_within
from tape_celery.errors import InvalidIntent, NeedsSecondPerson, NotAllowed, StaleView
from tape_celery.events import Act, OweAsked, ReissueAsked, ReleaseAsked, Resolved
from tape_celery.handle import EffectHandle
from tape_celery.intent import said
from tape_celery.records import Effect, JournalEntry, Obligation, Proposal, ProposalStatus, RunStatus
from tape_celery.runs import EffectRun
from tape_celery.store import inspection, proposals, runs

ACTS = ("resolve", "release", "reissue", "owe", "compensate_run")
"""What can be proposed."""
_TRIES = 5
_IN_VAIN = ("look", "observed")


class Proposing(Acting):
    """Acts that one person proposes and a second one confirms."""

    def propose(
        self,
        act: str,
        key: str,
        *,
        reason: str,
        actor: str,
        seen_version: int | None = None,
        **arguments: Any,
    ) -> Proposal:
        """Record that ``actor`` wants an act done that a second person has to confirm; nothing else is done.

        ``act`` is ``"resolve"`` (with ``verdict=`` and ``external_ref=``, as of `resolve`), ``"release"``,
        ``"reissue"``, ``"owe"`` or ``"compensate_run"``; ``key`` that of the effect, the obligation or the run. It may
        be proposed whether it needs a second person or not. The same once more finds the proposal that is open.
        A person says ``seen_version``, as for the act itself.
        Raises `NotAllowed` where the act is not allowed as the row is now, or another proposal for it is open;
        `StaleView`, `NoSuchEffect`, `NoSuchRun`, `InvalidIntent`.
        """
        if act not in ACTS:
            raise InvalidIntent(f"what can be proposed is one of {', '.join(ACTS)}, not {act!r}")
        told = self._told(reason, actor, seen_version, OF_RUN if act == "compensate_run" else OF_ROW)
        checked = _arguments(act, arguments)
        version = self._allowed(act, key, told, checked)
        asked = Proposal(
            proposal_key=intent.new_key(),
            subject_key=key,
            act=act,
            arguments=checked,
            reason=told["reason"],
            actor=told["actor"],
            seen_version=version,
        )
        return proposals.propose(self._tape.database, asked)

    def confirm(
        self, proposal_key: str, *, actor: str, within: Collection[str] | None = None
    ) -> Effect | Obligation | EffectHandle | EffectRun:
        """Do what another person proposed; returns what the act returns.

        The act and the end of the proposal are one transaction, so it is done once whoever confirms it twice, at once,
        or dies meanwhile. The journal's entry has both: the actor is who confirmed it, ``proposed_by`` in the evidence
        who proposed it. Raises `NeedsSecondPerson` for the person who proposed it; `StaleView` where the row has moved
        since it was proposed, but for looks that brought nothing; `NotAllowed` where the act is not allowed, the
        proposal is not open any more, or it is about a connector that is not ``within`` (as of `compensate_run`);
        `NoSuchProposal`. Nothing is done then, and an open proposal stays open.
        """
        actor = said("actor", actor)
        check_within(within)
        proposal = proposals.get(self._tape.database, proposal_key)
        if proposal.status is not ProposalStatus.OPEN:
            raise proposals.not_open(proposal, "to confirm it")
        if people.is_same_person(actor, proposal.actor):
            why = f"{proposal.actor} proposed it, and somebody else has to confirm it"
            raise NeedsSecondPerson(f"proposal {proposal_key}", proposal.status, "to confirm it", why)

        def alongside(connection: Connection) -> None:
            proposals.end(connection, self._tape.database, proposal_key, ProposalStatus.CONFIRMED, actor)
            failpoints.reach("proposal.confirmed")

        for _ in range(_TRIES - 1):
            try:
                return self._carry_out(proposal, actor, within, alongside)
            except StaleView:
                # A look may have come between the read and the write; `_version_now` says whether it is no more.
                continue
        return self._carry_out(proposal, actor, within, alongside)

    def withdraw(self, proposal_key: str, *, actor: str) -> Proposal:
        """Take a proposal back, or turn it down: it is WITHDRAWN, and another act may be proposed.

        Raises `NotAllowed` for one that is not open any more, `NoSuchProposal`, `InvalidIntent`.
        """
        return proposals.withdraw(self._tape.database, proposal_key, said("actor", actor))

    def proposals(self, key: str | None = None) -> list[Proposal]:
        """The open proposals, of one effect, obligation or run, or of all; oldest first."""
        return proposals.of(self._tape.database, key)

    def _allowed(self, act: str, key: str, told: dict[str, Any], arguments: dict[str, Any]) -> int:
        """The version of the row on which the act is allowed; raises why it is not."""
        tape = self._tape
        if act == "compensate_run":
            self._refuse_no_run(key)
            run = runs.get(tape.database, key)
            if told["seen_version"] not in (None, run.version):
                raise StaleView(f"run {key}", run.status, "to compensate it", told["seen_version"], run.version)
            return run.version
        event = _event(act, told, arguments, at_ms=inspection.now_ms(tape.database))
        obligation = inspection.get_obligation(tape.database, key) if act == "resolve" else None
        if obligation is not None:
            obligation_state.decide(obligation, event, tape._terms(obligation))
            return obligation.version
        effect = tape._existing(key)
        state.decide(effect, event, tape._terms(effect))
        return effect.version

    def _carry_out(
        self,
        proposal: Proposal,
        actor: str,
        within: Collection[str] | None,
        alongside: Callable[[Connection], None],
    ) -> Effect | Obligation | EffectHandle | EffectRun:
        key = proposal.subject_key
        told: dict[str, Any] = {"reason": proposal.reason, "actor": actor}
        if proposal.act == "compensate_run":
            told["reason"] += f" (proposed by {proposal.actor}, confirmed by {actor})"
            told["seen_version"] = proposal.seen_version
            return self._close(key, RunStatus.COMPENSATING, told, within=within, alongside=alongside)
        subject = inspection.get_obligation(self._tape.database, key) or self._tape._existing(key)
        if within is not None and not people.is_within(within, subject.connector):
            why = f"it is of another connector than {', '.join(sorted(within))}"
            raise NotAllowed(key, subject.status, f"to {proposal.act} it", why)
        told |= {
            "seen_version": self._version_now(proposal),
            "proposed_by": proposal.actor,
            "proposal": proposal.proposal_key,
        }
        event = _event(proposal.act, told, proposal.arguments)
        match event:
            case Resolved():
                return self._resolve(key, event, alongside)
            case ReleaseAsked():
                return self._release(key, event, alongside)
            case ReissueAsked():
                return self._reissue(key, event, alongside)
            case OweAsked():
                return self._owe(key, event, alongside)
        raise InvalidIntent(f"proposal {proposal.proposal_key} is of an act that this code does not know")

    def _version_now(self, proposal: Proposal) -> int:
        """The version that the subject has come to by looks that brought nothing; raises `StaleView` for more."""
        since = proposals.entries_since(self._tape.database, proposal.subject_key, proposal.seen_version)
        if not since:
            return proposal.seen_version
        if not all(map(_brought_nothing, since)):
            last = since[-1]
            raise StaleView(proposal.subject_key, last.status, proposal.act, proposal.seen_version, last.seq)
        return since[-1].seq


def _arguments(act: str, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a proposed act, checked."""
    if act != "resolve":
        if given:
            raise InvalidIntent(f"{act} has no argument {next(iter(given))!r}")
        return {}
    strange = sorted(set(given) - {"verdict", "external_ref"})
    if strange:
        raise InvalidIntent(f"resolve has no argument {strange[0]!r}")
    return {
        "verdict": check_verdict(given.get("verdict")),
        "external_ref": intent.check_external_ref(given.get("external_ref") or ""),
    }


def _event(act: str, told: dict[str, Any], arguments: dict[str, Any], at_ms: int = 0) -> Act:
    match act:
        case "resolve":
            return Resolved(**told, **arguments, at_ms=at_ms)
        case "release":
            return ReleaseAsked(**told, at_ms=at_ms)
        case "owe":
            return OweAsked(**told, at_ms=at_ms)
        case _:
            return ReissueAsked(**told, at_ms=at_ms, successor=intent.new_key())


def _brought_nothing(entry: JournalEntry) -> bool:
    """Whether it is a look, or the end of one, that told nobody anything: the row is what it was but for that."""
    if entry.kind not in _IN_VAIN or entry.from_status != entry.status:
        return False
    return entry.kind == "look" or entry.evidence.get("status") == "stuck"
