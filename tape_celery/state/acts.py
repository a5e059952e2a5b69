"""What people and the app ask for, and the expiry that they set."""

from __future__ import annotations

from tape_celery.errors import AlreadyReissued, NotAllowed
from tape_celery.events import CancelAsked, Expired, OweAsked, ReissueAsked, ReleaseAsked, Resolved
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, ObligationStatus, Semantics, replace
from tape_celery.state.ends import (
    CANCELLED,
    CONFIRMED,
    DISPATCHING,
    FAILED,
    HELD,
    PENDING,
    STUCK,
    UNKNOWN,
    Owed,
    Transition,
    allow,
    confirmed,
    ended,
    failed,
    refuse_stale,
    released,
    to_pending,
    unknown,
)


def cancel_asked(effect: Effect, event: CancelAsked) -> Transition:
    refuse_stale(effect, event, "cancel")
    allow(effect, {HELD, PENDING} if event.before_call else {HELD, PENDING, DISPATCHING, UNKNOWN}, "cancel")
    asked = replace(effect, cancel_requested=True)
    if effect.status in (HELD, PENDING):
        return _stop_pending(asked, "cancelled", event.reason, event.at_ms)
    return Transition(kind="cancel requested", after=asked)


def expired(effect: Effect, event: Expired) -> Transition:
    allow(effect, {HELD, PENDING}, "expiry")
    if effect.expires_at_ms is None or effect.expires_at_ms > event.at_ms:
        raise NotAllowed(effect.effect_key, effect.status, "expiry", "it is not due")
    return _stop_pending(effect, "expired", "expired", event.at_ms)


def _stop_pending(effect: Effect, kind: str, reason: str, at: int) -> Transition:
    if effect.may_have_landed:
        return unknown(effect, kind, at, f"{reason}; an earlier attempt may have landed")
    return Transition(kind=kind, after=ended(replace(effect, status=CANCELLED, reason=reason), at))


def resolved(effect: Effect, event: Resolved, terms: Terms) -> Transition:
    refuse_stale(effect, event, f"resolve as {event.verdict}")
    allow(effect, {UNKNOWN, STUCK}, f"resolve as {event.verdict}")
    if event.verdict == "observe":
        asked = effect if effect.status is UNKNOWN else replace(released(effect), status=UNKNOWN)
        # A look that is under way keeps its lease; the next one is due when it is over.
        sweep_at = event.at_ms if asked.lease_until_ms is None else asked.lease_until_ms
        return Transition(
            kind="resolved",
            after=replace(asked, looks=0, reason=event.reason, due_at_ms=event.at_ms, sweep_at_ms=sweep_at),
        )
    freed = released(effect)
    if event.verdict == "confirmed":
        done = confirmed(freed, "resolved", event.external_ref, event.at_ms, terms)
    else:
        done = failed(freed, "resolved", event.reason, event.at_ms)
    return replace(done, after=replace(done.after, reason=event.reason))


def owe_asked(effect: Effect, event: OweAsked) -> Transition:
    refuse_stale(effect, event, "to owe its compensation")
    allow(effect, {CONFIRMED}, "to owe its compensation")
    if effect.semantics is Semantics.OBSERVE_ONLY:
        raise NotAllowed(effect.effect_key, effect.status, "to owe its compensation", "it changed nothing upstream")
    owed = Owed(external_ref=effect.external_ref, kind=event.kind, reason=event.reason)
    if event.kind == "run" and effect.shared:
        owed = replace(owed, status=ObligationStatus.STUCK, reason="shared")
    return Transition(kind="owed", after=effect, owed=(owed,))


def release_asked(effect: Effect, event: ReleaseAsked) -> Transition:
    refuse_stale(effect, event, "release")
    allow(effect, {HELD}, "release")
    due = max(event.at_ms, effect.due_at_ms or 0)
    return to_pending(replace(effect, reason=""), "released", event.at_ms, due)


def shared(effect: Effect) -> Transition:
    return Transition(kind="shared", after=replace(effect, shared=True))


_NOT_REISSUED = {
    EffectStatus.HELD: "it is still to be sent; release or cancel it",
    EffectStatus.CONFIRMED: "it landed",
    EffectStatus.PENDING: "it is still to be sent",
    EffectStatus.DISPATCHING: "it is under way",
    EffectStatus.UNKNOWN: "it may have landed; wait for the look, or resolve it first",
    EffectStatus.STUCK: "it may have landed; resolve it first",
}


def reissue_asked(effect: Effect, event: ReissueAsked) -> Transition:
    if effect.reissued_as:
        raise AlreadyReissued(effect.effect_key, effect.status, effect.reissued_as)
    refuse_stale(effect, event, "reissue")
    allow(effect, {FAILED, CANCELLED}, "reissue", _NOT_REISSUED.get(effect.status, ""))
    return Transition(kind="reissued", after=replace(effect, reissued_as=event.successor))
