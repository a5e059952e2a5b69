"""Late evidence: results not of the claim that the row is under. They never end that claim, and are never lost."""

from __future__ import annotations

from tape_celery.events import Answered, Observed
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, ObligationStatus, replace
from tape_celery.state.calls import end_call
from tape_celery.state.ends import (
    CANCELLED,
    CONFIRMED,
    DISPATCHING,
    FAILED,
    UNKNOWN,
    Transition,
    bodies,
    confirmed,
    contradiction,
    released,
    second_landing,
)
from tape_celery.state.looks import read_duplicate


def late_answer(effect: Effect, event: Answered, terms: Terms) -> Transition:
    if event.status == "confirmed":
        return _late_confirmed(effect, event, event.external_ref, terms)
    proves_nothing_landed = event.status == "failed" or not event.sent
    is_last_call = effect.status is UNKNOWN and event.token == effect.dispatch_token and effect.ended_at_ms is None
    if proves_nothing_landed and is_last_call:
        ended = end_call(replace(effect, may_have_landed=effect.might_before), event, terms)
        if ended.after.status is not UNKNOWN:
            return replace(ended, kind="late")
    return Transition(kind="late", after=effect)


def late_look(effect: Effect, event: Observed, terms: Terms) -> Transition:
    if event.status == "confirmed":
        if effect.status in (FAILED, CANCELLED) and event.superseded:
            return Transition(kind="late", after=effect)
        return _late_confirmed(effect, event, event.external_ref, terms)
    if event.status == "duplicate":
        named, extras = read_duplicate(effect, event)
        seen = _late_confirmed(effect, event, named, terms)
        if seen.after.status is DISPATCHING:
            # The newer call's answer may name one of these as the record that stays.
            why = "seen while a newer call was at work"
            extras = tuple(replace(debt, status=ObligationStatus.STUCK, reason=why) for debt in extras)
        return replace(seen, owed=seen.owed + extras) if seen.after.status in (CONFIRMED, DISPATCHING) else seen
    return Transition(kind="late", after=effect)


def _late_confirmed(effect: Effect, event: Answered | Observed, ref: str, terms: Terms) -> Transition:
    at = event.at_ms
    match effect.status:
        case EffectStatus.DISPATCHING:
            if effect.landed:
                second = second_landing(ref) if ref and effect.landed_ref not in ("", ref) else ()
                return Transition(kind="late", after=replace(effect, landed_ref=effect.landed_ref or ref), owed=second)
            return Transition(kind="late", after=replace(effect, landed=True, landed_ref=ref))
        case EffectStatus.CONFIRMED:
            # One call lands once: where only one was made and its record was not named, this is that record.
            same = ref in ("", effect.external_ref) or (effect.external_ref == "" and effect.attempt == 1)
            return Transition(kind="late", after=effect, owed=() if same else second_landing(ref))
        case EffectStatus.FAILED | EffectStatus.CANCELLED:
            return contradiction(released(effect), "late", at)
        case EffectStatus.STUCK if effect.ended_at_ms is not None:
            # It is STUCK because of a contradiction: the same evidence once more does not decide it.
            return Transition(kind="late", after=effect)
        case _:
            return confirmed(replace(released(effect), **bodies(event)), "late", ref, at, terms)
