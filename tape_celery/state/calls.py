"""A call: its claim, and what its answer, or the lack of one, makes of an effect."""

from __future__ import annotations

from tape_celery.errors import NotAllowed
from tape_celery.events import Answered, Claimed, Lapsed, Withheld
from tape_celery.policy import Terms
from tape_celery.records import Effect, replace
from tape_celery.state.ends import (
    DISPATCHING,
    PENDING,
    Transition,
    allow,
    bodies,
    confirmed,
    failed,
    leased,
    may_resend,
    released,
    resend_is_safe,
    second_landing,
    settling,
    to_pending,
    unknown,
)


def must_withhold(effect: Effect, terms: Terms) -> bool:
    """Whether a claimed call must not be sent: an earlier one may have landed, and a resend is no longer safe."""
    return effect.may_have_landed and not resend_is_safe(effect, effect.lease_until_ms or 0, terms)


def claimed_for_call(effect: Effect, event: Claimed) -> Transition:
    allow(effect, {PENDING}, "a dispatch claim")
    after = replace(
        leased(effect, event),
        status=DISPATCHING,
        attempt=effect.attempt + 1,
        dispatch_token=effect.token + 1,
        might_before=effect.may_have_landed,
        first_sent_at_ms=event.at_ms if effect.first_sent_at_ms is None else effect.first_sent_at_ms,
        reason="",
    )
    return Transition(kind="claimed", after=after)


def end_call(effect: Effect, event: Answered, terms: Terms) -> Transition:
    at = event.at_ms
    freed = replace(settling(released(effect), at + terms.settle_ms), **bodies(event))
    attempts_left = effect.attempt < effect.max_attempts
    if effect.landed:
        return _end_landed(freed, event, terms)
    if event.status == "confirmed":
        return confirmed(freed, "confirmed", event.external_ref, at, terms)
    if not event.sent:
        unsent = replace(freed, attempt=effect.attempt - 1, unsent=effect.unsent + 1)
        if unsent.attempt == 0:
            unsent = replace(unsent, first_sent_at_ms=None)
        return to_pending(unsent, "unsent", at, at + event.backoff_ms)
    if event.status == "failed" and event.may_have_landed:
        flagged = replace(freed, may_have_landed=True, unsent=0)
        if attempts_left and may_resend(effect, at + _wait(event), terms):
            return to_pending(flagged, "retry", at, at + _wait(event))
        return unknown(flagged, "unknown", at, event.reason)
    if event.status == "failed":
        if event.retry_in_ms is not None and attempts_left:
            return to_pending(replace(freed, unsent=0), "retry", at, at + event.retry_in_ms)
        if freed.may_have_landed:
            return unknown(freed, "unknown", at, "the last attempt failed, but an earlier one may have landed")
        return failed(freed, "failed", event.reason or "refused by the upstream", at)
    return unknown(replace(freed, may_have_landed=True, unsent=0), "unknown", at, event.reason)


def _end_landed(effect: Effect, event: Answered, terms: Terms) -> Transition:
    """The end of a claim while late evidence says that an earlier call landed: it can only be CONFIRMED."""
    if event.status != "confirmed" or event.external_ref in ("", effect.landed_ref):
        return confirmed(effect, "confirmed", effect.landed_ref, event.at_ms, terms)
    second = second_landing(effect.landed_ref) if effect.landed_ref else ()
    return confirmed(effect, "confirmed", event.external_ref, event.at_ms, terms, second)


def withheld(effect: Effect, event: Withheld, terms: Terms) -> Transition:
    if effect.status is not DISPATCHING or effect.token != event.token:
        return Transition(kind="late", after=effect)
    freed = replace(released(effect), attempt=effect.attempt - 1)
    if effect.landed:
        return confirmed(freed, "confirmed", effect.landed_ref, event.at_ms, terms)
    why = "an earlier attempt may have landed, and the upstream may have forgotten the key"
    return unknown(freed, "withheld", event.at_ms, why)


def lapsed(effect: Effect, event: Lapsed, terms: Terms) -> Transition:
    allow(effect, {DISPATCHING}, "the end of a lease")
    at = event.at_ms
    if event.lease_until_ms > at:
        raise NotAllowed(effect.effect_key, effect.status, "the end of a lease", "it was renewed")
    freed = replace(
        settling(released(effect), event.lease_until_ms + terms.settle_ms),
        may_have_landed=True,
        unsent=0,
    )
    if effect.landed:
        return confirmed(freed, "lapsed", effect.landed_ref, at, terms)
    if effect.attempt < effect.max_attempts and may_resend(effect, at, terms):
        return to_pending(freed, "lapsed", at, at)
    return unknown(freed, "lapsed", at, "the worker was lost in mid-call")


def _wait(event: Answered) -> int:
    return event.backoff_ms if event.retry_in_ms is None else event.retry_in_ms
