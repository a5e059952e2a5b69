"""What people decide, with who and why in the journal: resolve, cancel, release, reissue, owe, and close a run."""

from __future__ import annotations

import json

from tape_celery import failpoints, intent
from tape_celery.errors import InvalidIntent, NoSuchRun
from tape_celery.events import CancelAsked, OweAsked, ReissueAsked, ReleaseAsked, Resolved
from tape_celery.handle import EffectHandle
from tape_celery.part import TapePart
from tape_celery.records import Effect, EffectStatus, Obligation, RunStatus
from tape_celery.runs import EffectRun
from tape_celery.store import inspection, moves, reissues, runs
from tape_celery.store.rows import EFFECTS, OBLIGATIONS

VERDICTS = ("confirmed", "failed", "observe")
MOST_SAID = 4096
"""The longest reason that a person may give, in bytes of ASCII JSON: half of what one journal entry holds."""


class Acting(TapePart):
    """The acts of people: each takes a reason and an actor, and is journaled with them."""

    def resolve(
        self, key: str, verdict: str, *, reason: str, actor: str, external_ref: str | None = None
    ) -> Effect | Obligation:
        """A person decides an UNKNOWN or STUCK effect: ``"confirmed"``, ``"failed"``, or ``"observe"`` for another
        look.

        Of an obligation: its inverse was done (or needs not be), was not done and is due again, or is to be looked
        at. Returns the row after it. Raises `NoSuchEffect`, `NotAllowed` (the row is as it was), `InvalidIntent` for
        a bad verdict, reason or actor.
        """
        if verdict not in VERDICTS:
            raise InvalidIntent(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
        event = Resolved(
            actor=_said("actor", actor),
            reason=_said("reason", reason),
            verdict=verdict,  # type: ignore[arg-type]  # checked above
            external_ref=intent.check_external_ref(external_ref or ""),
        )
        obligation = inspection.get_obligation(self._tape.database, key)
        if obligation is not None:
            settled = moves.act(self._tape.database, OBLIGATIONS, key, event, self._tape._terms(obligation)).after
            self._tape._walk_due([settled.run_id])
            return settled
        moved = moves.act(self._tape.database, EFFECTS, key, event, self._tape._terms(self._tape._existing(key)))
        if moved.owed:
            self._tape.hint("compensate", "", moved.owed)
        self._tape._walk_due([moved.after.run_id])
        self._tape._hint_next(moved)
        self._tape._call_back([key])
        return moved.after

    def cancel(self, effect_key: str, *, reason: str, actor: str) -> Effect:
        """Ask for an effect not to happen: PENDING or HELD is CANCELLED; under way, it is noted and still followed.

        Raises `NoSuchEffect`, and `NotAllowed` for an effect that is over or STUCK.
        """
        event = CancelAsked(actor=_said("actor", actor), reason=_said("reason", reason))
        moved = moves.act(
            self._tape.database, EFFECTS, effect_key, event, self._tape._terms(self._tape._existing(effect_key))
        )
        self._tape._hint_next(moved)
        self._tape._call_back([effect_key])
        return moved.after

    def release(self, effect_key: str, *, reason: str, actor: str) -> Effect:
        """A person says that a HELD effect is meant: it is PENDING, and due at once unless its eta is still to come.

        One whose expiry has passed is CANCELLED instead. Returns the row after it. Raises `NoSuchEffect`, and
        `NotAllowed` for an effect that is not HELD. To turn it down, `cancel` it.
        """
        event = ReleaseAsked(actor=_said("actor", actor), reason=_said("reason", reason))
        moved = moves.act(
            self._tape.database, EFFECTS, effect_key, event, self._tape._terms(self._tape._existing(effect_key))
        )
        after = moved.after
        if after.status is EffectStatus.PENDING and (after.due_at_ms or 0) <= after.updated_at_ms:
            self._tape.hint("dispatch", after.connector, [effect_key], priority=after.priority)
        self._tape._hint_next(moved)
        self._tape._call_back([effect_key])
        return after

    def reissue(self, effect_key: str, *, reason: str, actor: str) -> EffectHandle:
        """Issue an effect that ended FAILED or CANCELLED again: a fresh effect with fresh keys and the same request.

        It takes the business key again, and has no expiry. Raises `AlreadyReissued`, which names the one successor
        that an effect may have, `NotAllowed` in any other state (an UNKNOWN or STUCK effect may have landed: resolve
        it first), `KeyConflict` where another live effect has the business key by now, `RunClosed`, `NoSuchEffect`.
        """
        event = ReissueAsked(actor=_said("actor", actor), reason=_said("reason", reason), successor=intent.new_key())
        effect = self._tape._existing(effect_key)
        reissues.reissue(self._tape.database, effect, event, self._tape._terms(effect))
        failpoints.reach("reissue.committed")
        self._tape.hint("dispatch", effect.connector, [event.successor], priority=effect.priority)
        return self._tape.handle(event.successor)

    def owe(self, effect_key: str, *, reason: str, actor: str) -> Obligation:
        """One CONFIRMED effect is to be compensated; returns the obligation.

        Raises `NoSuchEffect`, and `NotAllowed` for an effect that is not CONFIRMED, changed nothing, or is owed
        already.
        """
        event = OweAsked(actor=_said("actor", actor), reason=_said("reason", reason))
        effect = self._tape._existing(effect_key)
        after = moves.act(self._tape.database, EFFECTS, effect_key, event, self._tape._terms(effect)).after
        [owed] = [o for o in self._tape.obligations(effect_key=effect_key) if o.external_ref == after.external_ref]
        self._tape.hint("compensate", effect.connector, [owed.obligation_key])
        return owed

    def compensate_run(self, run_id: str, *, reason: str, actor: str) -> EffectRun:
        """Close a run and undo what was confirmed in it.

        From now on nothing is recorded into it (`RunClosed`) and nothing in it is sent. What is PENDING is cancelled;
        what is under way or UNKNOWN is followed to its outcome; then the confirmed effects are compensated, newest
        first by the time of recording, each when the one before is COMPENSATED. What is STUCK stops that, visibly:
        the run is STUCK, and goes on when a person has resolved it. A second call changes nothing. Returns the run
        when it was closed; the rest is the workers' and the sweep's. Raises `NoSuchRun`, `InvalidIntent`,
        `StoreUnavailable`.
        """
        self._refuse_no_run(run_id)
        return self._tape.close_run(
            run_id, RunStatus.COMPENSATING, reason=_said("reason", reason), actor=_said("actor", actor)
        )

    def cancel_run(self, run_id: str, *, reason: str, actor: str) -> EffectRun:
        """Close a run and cancel what is PENDING in it; what is under way may land, and what is confirmed stays.

        It is CANCELLED when nothing of it is under way or UNKNOWN. Raises `NotAllowed` for a run that is being
        compensated, and what `compensate_run` raises.
        """
        self._refuse_no_run(run_id)
        return self._tape.close_run(
            run_id, RunStatus.CANCELLING, reason=_said("reason", reason), actor=_said("actor", actor)
        )

    def _refuse_no_run(self, run_id: str) -> None:
        intent.check_run_id(run_id)
        if (
            not runs.has_effects(self._tape.database, run_id)
            and runs.get(self._tape.database, run_id).status is RunStatus.OPEN
        ):
            raise NoSuchRun(run_id)


def _said(what: str, text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InvalidIntent(f"{what} must say who or why, not {text!r}")
    said = intent.canonical_text(what, text.strip())
    if len(json.dumps(said)) > MOST_SAID:
        raise InvalidIntent(f"{what} is too long for the journal: {len(said)} characters; say it in {MOST_SAID} bytes")
    return said
