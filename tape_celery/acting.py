"""What people decide, with who and why in the journal: resolve, cancel, release, reissue, owe, and close a run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection

from tape_celery import failpoints, intent, people, second_person
from tape_celery.errors import InvalidIntent, NeedsSecondPerson, NoSuchRun, NotAllowed
from tape_celery.events import Act, CancelAsked, OweAsked, ReissueAsked, ReleaseAsked, Resolved
from tape_celery.handle import EffectHandle
from tape_celery.intent import said
from tape_celery.part import TapePart
from tape_celery.records import Effect, EffectStatus, Obligation, Run, RunStatus
from tape_celery.runs import EffectRun
from tape_celery.store import inspection, moves, proposals, reissues, runs
from tape_celery.store.moves import Alongside
from tape_celery.store.rows import EFFECTS, OBLIGATIONS

VERDICTS = ("confirmed", "failed", "observe")
OF_ROW = "the row's `version`, which `tape show KEY` and `tape.explain(key)` tell"
OF_RUN = "the `version` of the run's record, which `tape run RUN` and `tape.run(run_id).record` tell"
"""Where a person reads what they decide on."""


class Acting(TapePart):
    """The acts of people: each takes a reason and an actor, and is journaled with them.

    An actor that begins with ``human:`` is a person, as whoever acts by the command line or in Flower is. A person's
    reason has ``tape_reason_min_characters`` or more; the reason of any other is as long as the app likes.
    Each takes ``seen_version`` too, the ``version`` of the row that was looked at: where it is another by now, nothing
    is done and `StaleView` is raised. A person has to say it (`InvalidIntent`); for any other ``None``, the default,
    asks for none. What ``tape_second_person_above`` says one person may not do alone raises `NeedsSecondPerson`, and
    nothing is done: `propose` it.
    """

    def resolve(
        self,
        key: str,
        verdict: str,
        *,
        reason: str,
        actor: str,
        external_ref: str | None = None,
        seen_version: int | None = None,
    ) -> Effect | Obligation:
        """A person decides an UNKNOWN or STUCK effect: ``"confirmed"``, ``"failed"``, or ``"observe"`` for another
        look.

        Of an obligation: its inverse was done (or needs not be), was not done and is due again, or is to be looked
        at. Returns the row after it. Raises `NoSuchEffect`, `NotAllowed` (the row is as it was), `StaleView`,
        `NeedsSecondPerson` (not for a look), `InvalidIntent` for a bad verdict, reason or actor.
        """
        event = Resolved(
            **self._told(reason, actor, seen_version),
            verdict=check_verdict(verdict),  # type: ignore[arg-type]  # checked there
            external_ref=intent.check_external_ref(external_ref or ""),
        )
        if verdict != "observe":
            self._refuse_one_alone(key, f"resolve as {verdict}")
        return self._resolve(key, event)

    def _resolve(self, key: str, event: Resolved, alongside: Alongside | None = None) -> Effect | Obligation:
        tape = self._tape
        obligation = inspection.get_obligation(tape.database, key)
        if obligation is not None:
            terms = tape._terms(obligation)
            settled = moves.act(tape.database, OBLIGATIONS, key, event, terms, alongside=alongside).after
            tape._walk_due([settled.run_id])
            return settled
        moved = self._move(key, event, alongside)
        if moved.owed:
            tape.hint("compensate", "", moved.owed)
        tape._walk_due([moved.after.run_id])
        tape._hint_next(moved)
        tape._call_back([key])
        return moved.after

    def cancel(self, effect_key: str, *, reason: str, actor: str, seen_version: int | None = None) -> Effect:
        """Ask for an effect not to happen: PENDING or HELD is CANCELLED; under way, it is noted and still followed.

        Raises `NoSuchEffect`, `NotAllowed` for an effect that is over or STUCK, `StaleView`.
        """
        moved = self._move(effect_key, CancelAsked(**self._told(reason, actor, seen_version)))
        self._tape._hint_next(moved)
        self._tape._call_back([effect_key])
        return moved.after

    def release(self, effect_key: str, *, reason: str, actor: str, seen_version: int | None = None) -> Effect:
        """A person says that a HELD effect is meant: it is PENDING, and due at once unless its eta is still to come.

        One whose expiry has passed is CANCELLED instead. Returns the row after it. Raises `NoSuchEffect`,
        `NotAllowed` for an effect that is not HELD, `StaleView`, `NeedsSecondPerson`. To turn it down, `cancel` it.
        """
        event = ReleaseAsked(**self._told(reason, actor, seen_version))
        self._refuse_one_alone(effect_key, "release")
        return self._release(effect_key, event)

    def _release(self, effect_key: str, event: ReleaseAsked, alongside: Alongside | None = None) -> Effect:
        moved = self._move(effect_key, event, alongside)
        after = moved.after
        if after.status is EffectStatus.PENDING and (after.due_at_ms or 0) <= after.updated_at_ms:
            self._tape.hint("dispatch", after.connector, [effect_key], priority=after.priority)
        self._tape._hint_next(moved)
        self._tape._call_back([effect_key])
        return after

    def reissue(self, effect_key: str, *, reason: str, actor: str, seen_version: int | None = None) -> EffectHandle:
        """Issue an effect that ended FAILED or CANCELLED again: a fresh effect with fresh keys and the same request.

        It takes the business key again, and has no expiry. Raises `AlreadyReissued`, which names the one successor
        that an effect may have, `NotAllowed` in any other state (an UNKNOWN or STUCK effect may have landed: resolve
        it first), `KeyConflict` where another live effect has the business key by now, `RunClosed`, `NoSuchEffect`,
        `StaleView`, `NeedsSecondPerson`.
        """
        event = ReissueAsked(**self._told(reason, actor, seen_version), successor=intent.new_key())
        self._refuse_one_alone(effect_key, "reissue")
        return self._reissue(effect_key, event)

    def _reissue(self, effect_key: str, event: ReissueAsked, alongside: Alongside | None = None) -> EffectHandle:
        effect = self._tape._existing(effect_key)
        reissues.reissue(self._tape.database, effect, event, self._tape._terms(effect), alongside=alongside)
        failpoints.reach("reissue.committed")
        self._tape.hint("dispatch", effect.connector, [event.successor], priority=effect.priority)
        return self._tape.handle(event.successor)

    def owe(self, effect_key: str, *, reason: str, actor: str, seen_version: int | None = None) -> Obligation:
        """One CONFIRMED effect is to be compensated; returns the obligation.

        Raises `NoSuchEffect`, `NotAllowed` for an effect that is not CONFIRMED, changed nothing, or is owed already,
        `StaleView`, `NeedsSecondPerson`.
        """
        event = OweAsked(**self._told(reason, actor, seen_version))
        self._refuse_one_alone(effect_key, "to owe its compensation")
        return self._owe(effect_key, event)

    def _owe(self, effect_key: str, event: OweAsked, alongside: Alongside | None = None) -> Obligation:
        after = self._move(effect_key, event, alongside).after
        [owed] = [o for o in self._tape.obligations(effect_key=effect_key) if o.external_ref == after.external_ref]
        self._tape.hint("compensate", after.connector, [owed.obligation_key])
        return owed

    def compensate_run(
        self,
        run_id: str,
        *,
        reason: str,
        actor: str,
        seen_version: int | None = None,
        within: Collection[str] | None = None,
    ) -> EffectRun:
        """Close a run and undo what was confirmed in it.

        From now on nothing is recorded into it (`RunClosed`) and nothing in it is sent. What is PENDING is cancelled;
        what is under way or UNKNOWN is followed to its outcome; then the confirmed effects are compensated, newest
        first by the time of recording, each when the one before is COMPENSATED. What is STUCK stops that, visibly:
        the run is STUCK, and goes on when a person has resolved it. A second call changes nothing. Returns the run
        when it was closed; the rest is the workers' and the sweep's. ``within``: names of connectors, in which ``*``
        stands for any part; where an effect of another one is in the run, nothing is done. That is looked at in the
        act's own transaction. Raises `NoSuchRun`, `InvalidIntent`, `StoreUnavailable`, `StaleView` (``seen_version``
        is that of the run's record), `NotAllowed` (``within``, or an effect was recorded into it while it was seen
        whether one person may do this), `NeedsSecondPerson`.
        """
        told = self._told(reason, actor, seen_version, OF_RUN)
        self._refuse_no_run(run_id)
        counted = self._refuse_one_alone_in(run_id)
        return self._close(run_id, RunStatus.COMPENSATING, told, within=within, counted=counted)

    def cancel_run(
        self,
        run_id: str,
        *,
        reason: str,
        actor: str,
        seen_version: int | None = None,
        within: Collection[str] | None = None,
    ) -> EffectRun:
        """Close a run and cancel what is PENDING in it; what is under way may land, and what is confirmed stays.

        It is CANCELLED when nothing of it is under way or UNKNOWN. Raises `NotAllowed` for a run that is being
        compensated, and what `compensate_run` raises but `NeedsSecondPerson`.
        """
        told = self._told(reason, actor, seen_version, OF_RUN)
        self._refuse_no_run(run_id)
        return self._close(run_id, RunStatus.CANCELLING, told, within=within)

    def _close(
        self,
        run_id: str,
        status: RunStatus,
        told: dict[str, Any],
        *,
        within: Collection[str] | None,
        counted: int | None = None,
        alongside: Alongside | None = None,
    ) -> EffectRun:
        """Close a run, unless an effect of a connector not ``within`` is in it, or more than those ``counted``."""
        check_within(within)

        def refuse(connection: Connection, run: Run) -> None:
            why = ""
            if within is not None and not all(
                people.is_within(within, name) for name in runs.read_connectors(connection, run_id)
            ):
                why = f"effects of other connectors than {', '.join(sorted(within))} are in it"
            elif counted is not None and runs.count_effects(connection, run_id) != counted:
                why = "effects were recorded into it meanwhile; look again"
            if why:
                raise NotAllowed(
                    f"run {run_id}", run.status, f"to {'cancel' if status.cancels else 'compensate'} it", why
                )

        return self._tape.close_run(run_id, status, **told, refuse=refuse, alongside=alongside)

    def _told(self, reason: str, actor: str, seen_version: int | None, where: str = OF_ROW) -> dict[str, Any]:
        """What every act says of itself, checked."""
        who = said("actor", actor)
        told = intent.reason_of(who, reason, self._tape.settings.reason_min_characters)
        return {"reason": told, "actor": who, "seen_version": intent.version_of(who, seen_version, where)}

    def _move(self, effect_key: str, event: Act, alongside: Alongside | None = None) -> moves.Moved[Effect]:
        terms = self._tape._terms(self._tape._existing(effect_key))
        return moves.act(self._tape.database, EFFECTS, effect_key, event, terms, alongside=alongside)

    def _refuse_one_alone(self, key: str, act: str) -> None:
        limits = self._tape.settings.second_person_above
        if not limits:
            return
        obligation = inspection.get_obligation(self._tape.database, key)
        effect = self._tape._existing(key if obligation is None else obligation.effect_key)
        if why := second_person.why_needed(limits, effect.connector, effect.request):
            raise NeedsSecondPerson(key, (obligation or effect).status, act, why)

    def _refuse_one_alone_in(self, run_id: str) -> int | None:
        """How many effects were looked at; ``None`` where it is nowhere said what takes two people."""
        limits, counted = self._tape.settings.second_person_above, 0
        if not limits:
            return None
        for effect in proposals.effects_in(self._tape.database, run_id):
            counted += 1
            if why := second_person.why_needed(limits, effect.connector, effect.request):
                status = runs.get(self._tape.database, run_id).status
                why = f"{effect.effect_key}: {why}"
                raise NeedsSecondPerson(f"run {run_id}", status, "to compensate it", why)
        return counted

    def _refuse_no_run(self, run_id: str) -> None:
        intent.check_run_id(run_id)
        database = self._tape.database
        if not runs.has_effects(database, run_id) and runs.get(database, run_id).status is RunStatus.OPEN:
            raise NoSuchRun(run_id)


def check_within(within: Any) -> None:
    """Raise `InvalidIntent` for what is not names of connectors; a text alone is a slip: its letters are no names."""
    names = not isinstance(within, str) and isinstance(within, Collection) and all(isinstance(n, str) for n in within)
    if within is not None and not names:
        raise InvalidIntent(f"within must be a list of names of connectors, not {within!r}")


def check_verdict(verdict: Any) -> str:
    """``verdict`` if it is one, else `InvalidIntent`."""
    if verdict not in VERDICTS:
        raise InvalidIntent(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
    return str(verdict)
