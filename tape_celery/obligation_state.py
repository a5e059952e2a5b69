"""The transition table of an obligation, as one pure function: `decide(obligation, event, terms)`.

     registered ──▶ PENDING ──claimed──▶ COMPENSATING ──confirmed──▶ COMPENSATED ◀──observed, late──┐
                     ▲  ▲                  │  │                                                    │
                     │  └─definitely not───┘  ├──ambiguous, raised, lease ran out──▶ UNKNOWN ───────┤
                     │       done             │                                       │  │         │
                     └──absent and settled, or a resend under the same key is safe────┘  ▼         │
                                              └──final, attempts used up, no inverse──▶ STUCK ─────┘

An inverse is itself a call that may land twice, so it has its own lease, token, nonce and key, and the same third
outcome. `Answered.status` ``"confirmed"`` stands for a `CompensationResult` ``"compensated"``; the result of
``observe_compensation`` speaks of the inverse: ``confirmed`` means that it was done.
"""

from __future__ import annotations

from dataclasses import dataclass

from tape_celery.errors import NotAllowed, StaleView
from tape_celery.events import Answered, Claimed, Event, Lapsed, Observed, Resolved, Unobservable, Withheld
from tape_celery.policy import Terms
from tape_celery.records import Obligation, ObligationStatus, replace

PENDING, COMPENSATING, COMPENSATED, UNKNOWN, STUCK = (
    ObligationStatus.PENDING,
    ObligationStatus.COMPENSATING,
    ObligationStatus.COMPENSATED,
    ObligationStatus.UNKNOWN,
    ObligationStatus.STUCK,
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What an event makes of an obligation, and the journal entry's kind."""

    kind: str
    after: Obligation


def decide(obligation: Obligation, event: Event, terms: Terms) -> Step:
    """What ``event`` makes of ``obligation``; raises `NotAllowed` for an act that its state does not allow."""
    match event:
        case Claimed():
            step = _claimed(obligation, event)
        case Answered():
            step = _answered(obligation, event, terms)
        case Withheld():
            step = _withheld(obligation, event)
        case Observed():
            step = _observed(obligation, event, terms)
        case Unobservable():
            step = _unobservable(obligation, event, terms)
        case Lapsed():
            step = _lapsed(obligation, event, terms)
        case Resolved():
            step = _resolved(obligation, event)
        case _:
            raise TypeError(f"no transition for {event!r}")
    after = replace(step.after, version=obligation.version + 1, updated_at_ms=event.at_ms)
    if isinstance(event, Answered) and event.traceparent:
        after = replace(after, dispatch_traceparent=event.traceparent)
    return replace(step, after=after)


def must_withhold(obligation: Obligation, terms: Terms) -> bool:
    """Whether a claimed inverse must not be sent: an earlier one may have been done, and the key may be forgotten."""
    return obligation.may_have_landed and not _resend_is_safe(obligation, obligation.lease_until_ms or 0, terms)


def _resend_is_safe(obligation: Obligation, at_ms: int, terms: Terms) -> bool:
    """Whether another inverse under the same key cannot be done twice, if it is sent before ``at_ms``."""
    first = obligation.first_sent_at_ms
    return terms.compensation_idempotent and first is not None and at_ms < first + terms.window_ms


def _claimed(obligation: Obligation, event: Claimed) -> Step:
    until = event.at_ms + event.lease_ms
    leased = replace(
        obligation,
        token=obligation.token + 1,
        claim_nonce=event.nonce,
        claimed_at_ms=event.at_ms,
        lease_until_ms=until,
        sweep_at_ms=until,
    )
    if event.verb == "look":
        _allow(obligation, {UNKNOWN}, "a look")
        return Step(kind="look", after=replace(leased, looks=obligation.looks + 1))
    _allow(obligation, {PENDING}, "a compensation claim")
    first = event.at_ms if obligation.first_sent_at_ms is None else obligation.first_sent_at_ms
    after = replace(
        leased,
        status=COMPENSATING,
        attempt=obligation.attempt + 1,
        dispatch_token=leased.token,
        first_sent_at_ms=first,
        might_before=obligation.may_have_landed,
        reason="",
    )
    return Step(kind="claimed", after=after)


def _answered(obligation: Obligation, event: Answered, terms: Terms) -> Step:
    if obligation.status is COMPENSATING and obligation.token == event.token:
        return _end_call(obligation, event, terms)
    if event.status == "confirmed":
        return _late_compensated(obligation)
    is_last_call = obligation.status is UNKNOWN and event.token == obligation.dispatch_token
    if is_last_call and (event.status == "failed" or not event.sent):
        ended = _end_call(replace(obligation, may_have_landed=obligation.might_before), event, terms)
        if ended.after.status is not UNKNOWN:
            return replace(ended, kind="late")
    return Step(kind="late", after=obligation)


def _end_call(obligation: Obligation, event: Answered, terms: Terms) -> Step:
    at = event.at_ms
    settled = max(obligation.settled_at_ms or 0, at + terms.settle_ms)
    bodies = {name: text for name in ("response_json", "error_json") if (text := getattr(event, name))}
    freed = replace(_released(obligation), settled_at_ms=settled, **bodies)
    if event.status == "confirmed" or obligation.landed:
        return _compensated(freed, "compensated")
    if not event.sent:
        again = replace(freed, attempt=max(obligation.attempt - 1, 0), unsent=obligation.unsent + 1)
        if again.attempt == 0 and not again.may_have_landed:
            again = replace(again, first_sent_at_ms=None)
        return _to_pending(again, "unsent", at + event.backoff_ms)
    if event.status == "unknown":
        freed = replace(freed, may_have_landed=True)
        return _unknown(freed, "unknown", at, event.reason or "the answer to the inverse was lost")
    if event.final:
        return _stuck(freed, "failed", event.reason or "the inverse was refused for good")
    if obligation.attempt >= obligation.max_attempts:
        return _stuck(freed, "failed", f"the inverse failed {obligation.attempt} times")
    wait = event.backoff_ms if event.retry_in_ms is None else event.retry_in_ms
    return _to_pending(replace(freed, unsent=0), "retry", at + wait)


def _observed(obligation: Obligation, event: Observed, terms: Terms) -> Step:
    at = event.at_ms
    if obligation.status is not UNKNOWN or obligation.token != event.token or obligation.lease_until_ms is None:
        return _late_compensated(obligation) if event.status == "confirmed" else Step(kind="late", after=obligation)
    freed = _released(obligation)
    match event.status:
        case "confirmed":
            return _compensated(freed, "observed")
        case "duplicate":
            return _stuck(freed, "observed", "the upstream undid it more than once")
        case "failed":
            return _stuck(freed, "observed", "the upstream says that the inverse failed")
        case "absent" if (obligation.claimed_at_ms or 0) < (obligation.settled_at_ms or 0):
            due = obligation.settled_at_ms or at
            return Step(
                kind="observed", after=replace(freed, looks=obligation.looks - 1, due_at_ms=due, sweep_at_ms=due)
            )
        case "absent" if obligation.first_sent_at_ms is None:
            # It was born STUCK and a person asked for a look: nobody has said yet that it should be undone.
            return _stuck(freed, "observed", "the inverse was not done")
        case "absent" if obligation.attempt >= obligation.max_attempts:
            freed = replace(freed, may_have_landed=False)
            return _stuck(freed, "observed", f"the inverse was not done in {obligation.attempt} attempts")
        case "absent":
            return _to_pending(replace(freed, may_have_landed=False), "observed", at)
        case _ if obligation.looks >= terms.observe_attempts:
            return _stuck(freed, "observed", f"no answer after {obligation.looks} looks")
        case _:
            due = at + event.backoff_ms
            return Step(kind="observed", after=replace(freed, due_at_ms=due, sweep_at_ms=due))


def _unobservable(obligation: Obligation, event: Unobservable, terms: Terms) -> Step:
    if obligation.status is not UNKNOWN or obligation.token != event.token or obligation.lease_until_ms is None:
        return Step(kind="late", after=obligation)
    freed, due = _released(obligation), event.at_ms + event.backoff_ms
    if not _resend_is_safe(obligation, due + terms.lease_ms, terms):
        return _stuck(freed, "unobservable", "nothing can tell whether the inverse was done")
    if obligation.attempt >= obligation.max_attempts:
        return _stuck(freed, "unobservable", f"no answer to the inverse in {obligation.attempt} attempts")
    return _to_pending(freed, "unobservable", due)


def _withheld(obligation: Obligation, event: Withheld) -> Step:
    if obligation.status is not COMPENSATING or obligation.token != event.token:
        return Step(kind="late", after=obligation)
    freed = replace(_released(obligation), attempt=obligation.attempt - 1)
    if obligation.landed:
        return _compensated(freed, "withheld")
    why = "an earlier inverse may have been done, and the upstream may have forgotten the key"
    return _unknown(freed, "withheld", event.at_ms, why)


def _lapsed(obligation: Obligation, event: Lapsed, terms: Terms) -> Step:
    at = event.at_ms
    _allow(obligation, {COMPENSATING}, "the end of a lease")
    if event.lease_until_ms > at:
        raise NotAllowed(obligation.obligation_key, obligation.status, "the end of a lease", "it was renewed")
    settled = max(obligation.settled_at_ms or 0, event.lease_until_ms + terms.settle_ms)
    freed = replace(_released(obligation), settled_at_ms=settled, unsent=0, may_have_landed=True)
    if obligation.landed:
        return _compensated(freed, "lapsed")
    return _unknown(freed, "lapsed", at, "the worker was lost in the middle of the inverse")


def _late_compensated(obligation: Obligation) -> Step:
    if obligation.status is COMPENSATED:
        return Step(kind="late", after=obligation)
    if obligation.status is COMPENSATING:
        return Step(kind="late", after=replace(obligation, landed=True))
    return _compensated(_released(obligation), "late")


def _resolved(obligation: Obligation, event: Resolved) -> Step:
    """A person speaks of the inverse: it was done (or needs not be), it was not done, or look again."""
    act = f"resolve as {event.verdict}"
    if event.seen_version not in (None, obligation.version):
        raise StaleView(obligation.obligation_key, obligation.status, act, event.seen_version or 0, obligation.version)
    _allow(obligation, {UNKNOWN, STUCK}, act)
    freed = replace(_released(obligation), attempt=0, unsent=0, looks=0)
    match event.verdict:
        case "confirmed":
            step = _compensated(_released(obligation), "resolved")
        case "failed":
            undone = replace(freed, may_have_landed=False, first_sent_at_ms=None)
            step = _to_pending(undone, "resolved", event.at_ms)
        case _:
            step = _unknown(freed, "resolved", event.at_ms, "")
    return replace(step, after=replace(step.after, reason=event.reason))


def _to_pending(obligation: Obligation, kind: str, due: int) -> Step:
    return Step(kind=kind, after=replace(obligation, status=PENDING, due_at_ms=due, sweep_at_ms=due))


def _unknown(obligation: Obligation, kind: str, at: int, reason: str) -> Step:
    after = replace(obligation, status=UNKNOWN, reason=reason, looks=0, due_at_ms=at, sweep_at_ms=at)
    return Step(kind=kind, after=after)


def _compensated(obligation: Obligation, kind: str) -> Step:
    after = replace(
        obligation, status=COMPENSATED, reason="", landed=False, may_have_landed=False, due_at_ms=None, sweep_at_ms=None
    )
    return Step(kind=kind, after=after)


def _stuck(obligation: Obligation, kind: str, reason: str) -> Step:
    after = replace(obligation, status=STUCK, reason=reason, due_at_ms=None, sweep_at_ms=None)
    return Step(kind=kind, after=after)


def _released(obligation: Obligation) -> Obligation:
    return replace(obligation, lease_until_ms=None, claim_nonce="")


def _allow(obligation: Obligation, statuses: set[ObligationStatus], act: str) -> None:
    if obligation.status not in statuses:
        raise NotAllowed(obligation.obligation_key, obligation.status, act)
