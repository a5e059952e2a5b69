"""The whole transition table of an effect, as one pure function: `decide(effect, event, terms)`.

                          ┌──────── definitely not landed, or a resend under the same key is safe ────────┐
                          ▼                                                                               │
     recorded ──▶ PENDING ──claimed──▶ DISPATCHING ──confirmed──▶ CONFIRMED ◀──confirmed, duplicate── UNKNOWN ◀─┐
                     │                  │   │                         ▲                               │  │      │ look
                     │                  │   └─unknown, lease ran out──┼──────────────────────────────▶┘  │      │ again
                cancelled,              │                             │                                  ├──▶ STUCK
                expired                 └─failed────▶ FAILED ◀────────┼───absent and settled, failed─────┘      ▲
                     ▼                                  │       resolved by a person, late `confirmed`          │
                 CANCELLED ─────late `confirmed`────────┴───────────────── (contradiction) ─────────────────────┘

An effect whose earlier attempt may have landed carries the flag `may_have_landed`; it never ends FAILED or
CANCELLED before a settled absence has cleared the flag.

A result is *in time* when it carries the token of the claim that the row is under. Any other result is *late*: it can
not end a claim that is not its own, and it is never dropped (`_late_answer`, `_late_look`).

No clock and no I/O: the instant of an event, its jitter and the terms of its connector come in as values, and all of
them are journaled, so that `replay` of an effect's journal gives its row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tape_celery.errors import NotAllowed
from tape_celery.events import (
    Answered,
    CancelAsked,
    Claimed,
    Event,
    Expired,
    Lapsed,
    Observed,
    OweAsked,
    Resolved,
    Unobservable,
    Withheld,
    from_evidence,
)
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, JournalEntry, ObligationStatus, Semantics

PENDING, DISPATCHING, CONFIRMED, FAILED, UNKNOWN, STUCK, CANCELLED = (
    EffectStatus.PENDING,
    EffectStatus.DISPATCHING,
    EffectStatus.CONFIRMED,
    EffectStatus.FAILED,
    EffectStatus.UNKNOWN,
    EffectStatus.STUCK,
    EffectStatus.CANCELLED,
)

CONTRADICTION = "contradiction: reported as landed after it had ended "


@dataclass(frozen=True, kw_only=True)
class Owed:
    """A compensation that a transition registers."""

    external_ref: str
    kind: str
    status: ObligationStatus = ObligationStatus.PENDING
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Transition:
    """What an event makes of an effect: the row after it, the journal entry's kind, the compensations owed."""

    kind: str
    after: Effect
    owed: tuple[Owed, ...] = ()


def decide(effect: Effect, event: Event, terms: Terms) -> Transition:
    """What ``event`` makes of ``effect``.

    Raises `NotAllowed` for an act (a claim, a cancel, a resolve, an owe, an expiry, a lapse) that the row's state
    does not allow. Results of calls and looks are always taken: in time, or as late evidence.
    """
    match event:
        case Claimed(verb="call"):
            moved = _claimed_for_call(effect, event)
        case Claimed():
            moved = _claimed_for_look(effect, event)
        case Answered():
            moved = _answered(effect, event, terms)
        case Withheld():
            moved = _withheld(effect, event, terms)
        case Observed():
            moved = _observed(effect, event, terms)
        case Unobservable():
            moved = _unobservable(effect, event, terms)
        case Lapsed():
            moved = _lapsed(effect, event, terms)
        case CancelAsked():
            moved = _cancel_asked(effect, event)
        case Expired():
            moved = _expired(effect, event)
        case Resolved():
            moved = _resolved(effect, event, terms)
        case OweAsked():
            moved = _owe_asked(effect, event)
        case _:
            raise TypeError(f"no transition for {event!r}")
    stamped = replace(moved.after, version=effect.version + 1, updated_at_ms=event.at_ms)
    owed = () if effect.semantics is Semantics.OBSERVE_ONLY else moved.owed
    return replace(moved, after=stamped, owed=owed)


def replay(recorded: Effect, entries: Iterable[JournalEntry]) -> Effect:
    """The row that the journal of ``recorded`` gives: every entry after the first, through `decide`.

    Bodies (responses, errors) and the moving marks of sweeps and renewals are not in the journal, so they are not in
    the replayed row either.
    """
    effect = recorded
    for entry in entries:
        event, terms = from_evidence(entry.evidence, at_ms=entry.at_ms, actor=entry.actor)
        effect = decide(effect, event, terms).after
    return effect


def resend_is_safe(effect: Effect, at_ms: int, terms: Terms) -> bool:
    """Whether another call under the same key cannot land twice, if it is made before ``at_ms``."""
    if effect.semantics is Semantics.OBSERVE_ONLY:
        return True
    if effect.semantics is Semantics.NON_IDEMPOTENT:
        return False
    return effect.first_sent_at_ms is None or at_ms < effect.first_sent_at_ms + terms.window_ms


def must_withhold(effect: Effect, terms: Terms) -> bool:
    """Whether a claimed call must not be sent: an earlier one may have landed, and a resend is no longer safe."""
    return effect.may_have_landed and not resend_is_safe(effect, effect.lease_until_ms or 0, terms)


# --- claims ---


def _claimed_for_call(effect: Effect, event: Claimed) -> Transition:
    _allow(effect, {PENDING}, "a dispatch claim")
    after = replace(
        _leased(effect, event),
        status=DISPATCHING,
        attempt=effect.attempt + 1,
        dispatch_token=effect.token + 1,
        might_before=effect.may_have_landed,
        first_sent_at_ms=event.at_ms if effect.first_sent_at_ms is None else effect.first_sent_at_ms,
        reason="",
    )
    return Transition(kind="claimed", after=after)


def _claimed_for_look(effect: Effect, event: Claimed) -> Transition:
    if effect.status is FAILED and effect.absent:
        return Transition(kind="look", after=replace(_leased(effect, event), watches=effect.watches + 1))
    _allow(effect, {UNKNOWN}, "a look")
    return Transition(kind="look", after=replace(_leased(effect, event), looks=effect.looks + 1))


def _leased(effect: Effect, event: Claimed) -> Effect:
    until = event.at_ms + event.lease_ms
    return replace(
        effect,
        token=effect.token + 1,
        claim_nonce=event.nonce,
        claimed_at_ms=event.at_ms,
        lease_until_ms=until,
        sweep_at_ms=until,
    )


# --- the end of a call ---


def _answered(effect: Effect, event: Answered, terms: Terms) -> Transition:
    if effect.status is DISPATCHING and effect.token == event.token:
        return _end_call(effect, event, terms)
    return _late_answer(effect, event, terms)


def _end_call(effect: Effect, event: Answered, terms: Terms) -> Transition:
    at = event.at_ms
    freed = replace(_settling(_released(effect), at + terms.settle_ms), **_bodies(event))
    attempts_left = effect.attempt < effect.max_attempts
    if effect.landed:
        return _end_landed(freed, event, terms)
    if event.status == "confirmed":
        return _confirmed(freed, "confirmed", event.external_ref, at, terms)
    if not event.sent:
        unsent = replace(freed, attempt=effect.attempt - 1, unsent=effect.unsent + 1)
        if unsent.attempt == 0:
            unsent = replace(unsent, first_sent_at_ms=None)
        return _to_pending(unsent, "unsent", at, at + event.backoff_ms)
    if event.status == "failed" and event.may_have_landed:
        flagged = replace(freed, may_have_landed=True, unsent=0)
        if attempts_left and resend_is_safe(effect, at, terms):
            return _to_pending(flagged, "retry", at, at + _wait(event))
        return _unknown(flagged, "unknown", at, event.reason)
    if event.status == "failed":
        if event.retry_in_ms is not None and attempts_left:
            return _to_pending(replace(freed, unsent=0), "retry", at, at + event.retry_in_ms)
        if freed.may_have_landed:
            return _unknown(freed, "unknown", at, "the last attempt failed, but an earlier one may have landed")
        return _failed(freed, "failed", event.reason or "refused by the upstream", at)
    return _unknown(replace(freed, may_have_landed=True, unsent=0), "unknown", at, event.reason)


def _end_landed(effect: Effect, event: Answered, terms: Terms) -> Transition:
    """The end of a claim while late evidence says that an earlier call landed: it can only be CONFIRMED."""
    if event.status != "confirmed" or event.external_ref in ("", effect.landed_ref):
        return _confirmed(effect, "confirmed", effect.landed_ref, event.at_ms, terms)
    second = _second_landing(effect.landed_ref) if effect.landed_ref else ()
    return _confirmed(effect, "confirmed", event.external_ref, event.at_ms, terms, second)


def _withheld(effect: Effect, event: Withheld, terms: Terms) -> Transition:
    if effect.status is not DISPATCHING or effect.token != event.token:
        return Transition(kind="late", after=effect)
    freed = replace(_released(effect), attempt=effect.attempt - 1)
    if effect.landed:
        return _confirmed(freed, "confirmed", effect.landed_ref, event.at_ms, terms)
    why = "an earlier attempt may have landed, and the upstream may have forgotten the key"
    return _unknown(freed, "withheld", event.at_ms, why)


def _lapsed(effect: Effect, event: Lapsed, terms: Terms) -> Transition:
    _allow(effect, {DISPATCHING}, "the end of a lease")
    at = event.at_ms
    if (effect.lease_until_ms or 0) > at:
        raise NotAllowed(effect.effect_key, effect.status, "the end of a lease", "it was renewed")
    freed = replace(
        _settling(_released(effect), (effect.lease_until_ms or at) + terms.settle_ms),
        may_have_landed=True,
        unsent=0,
    )
    if effect.landed:
        return _confirmed(freed, "lapsed", effect.landed_ref, at, terms)
    if effect.attempt < effect.max_attempts and resend_is_safe(effect, at, terms):
        return _to_pending(freed, "lapsed", at, at)
    return _unknown(freed, "lapsed", at, "the worker was lost in mid-call")


# --- the end of a look ---


def _observed(effect: Effect, event: Observed, terms: Terms) -> Transition:
    if effect.token != event.token or effect.lease_until_ms is None:
        return _late_look(effect, event, terms)
    if effect.status is UNKNOWN:
        return _end_look(effect, event, terms)
    if effect.status is FAILED and effect.absent:
        return _end_watch(effect, event, terms)
    return _late_look(effect, event, terms)


def _end_look(effect: Effect, event: Observed, terms: Terms) -> Transition:
    at = event.at_ms
    freed = replace(_released(effect), **_bodies(event))
    if event.status == "confirmed":
        return _confirmed(freed, "observed", event.external_ref, at, terms)
    if event.status == "duplicate":
        stays, extras = _read_duplicate(effect, event)
        return _confirmed(freed, "observed", stays, at, terms, extras)
    if event.status == "failed":
        return _failed(freed, "observed", "the upstream says that it failed", at)
    if event.status == "absent":
        return _absent(freed, at, terms)
    if effect.looks >= terms.observe_attempts:
        return _stuck(freed, "observed", f"no answer after {effect.looks} looks", at)
    return _look_at(freed, "observed", at + event.backoff_ms)


def _absent(effect: Effect, at: int, terms: Terms) -> Transition:
    """An absence is believed when the look *began* after everything that was sent has settled."""
    settled_at = effect.settled_at_ms or 0
    if (effect.claimed_at_ms or 0) < settled_at:
        return _look_at(replace(effect, looks=effect.looks - 1), "observed", settled_at)
    cleared = replace(effect, may_have_landed=False)
    if effect.attempt < effect.max_attempts and resend_is_safe(effect, at, terms):
        return _to_pending(cleared, "observed", at, at)
    failed = _failed(cleared, "observed", "absent", at)
    return replace(failed, after=_watched(replace(failed.after, absent=True, watches=0), at, terms))


def _end_watch(effect: Effect, event: Observed, terms: Terms) -> Transition:
    freed = _released(effect)
    if event.status == "duplicate" or (event.status == "confirmed" and not event.superseded):
        return _contradiction(freed, "watched", event.at_ms)
    return Transition(kind="watched", after=_watched(freed, event.at_ms, terms))


def _watched(effect: Effect, at: int, terms: Terms) -> Effect:
    """``effect`` with the next look at its absence; the spans count from the moment when it ended."""
    if effect.watches >= len(terms.watch_ms):
        return replace(effect, due_at_ms=None, sweep_at_ms=None)
    due = max(at, (effect.ended_at_ms or at) + terms.watch_ms[effect.watches])
    return replace(effect, due_at_ms=due, sweep_at_ms=due)


def _unobservable(effect: Effect, event: Unobservable, terms: Terms) -> Transition:
    at = event.at_ms
    if effect.token != event.token or effect.lease_until_ms is None:
        return Transition(kind="late", after=effect)
    freed = _released(effect)
    if effect.status is FAILED:
        return Transition(kind="unobservable", after=replace(freed, due_at_ms=None, sweep_at_ms=None))
    stopped = _must_stop(effect, at)
    if stopped or not resend_is_safe(effect, at, terms):
        return _stuck(freed, "unobservable", "nothing can observe it", at)
    if effect.attempt >= effect.max_attempts:
        return _stuck(freed, "unobservable", "nothing can observe it, and its attempts are used up", at)
    return _to_pending(freed, "unobservable", at, at)


def _read_duplicate(effect: Effect, event: Observed) -> tuple[str, tuple[Owed, ...]]:
    """The record that stays, and what is owed for the extra ones."""
    stays, extras = effect.external_ref, event.duplicates or ()
    if event.duplicates is None:
        extras = (event.external_ref,)
    elif effect.status is not CONFIRMED:
        stays = event.external_ref or stays
    return stays, tuple(_duplicate(ref, stays) for ref in dict.fromkeys(extras))


def _duplicate(ref: str, stays: str) -> Owed:
    if ref and ref != stays:
        return Owed(external_ref=ref, kind="duplicate")
    why = "the extra record is the one that stays" if ref else "the extra record has no reference"
    return Owed(external_ref=ref, kind="duplicate", status=ObligationStatus.STUCK, reason=why)


# --- late evidence ---


def _late_answer(effect: Effect, event: Answered, terms: Terms) -> Transition:
    if event.status == "confirmed":
        return _late_confirmed(effect, event.external_ref, event.at_ms, terms)
    proves_nothing_landed = event.status == "failed" or not event.sent
    is_last_call = effect.status is UNKNOWN and event.token == effect.dispatch_token and effect.ended_at_ms is None
    if proves_nothing_landed and is_last_call:
        ended = _end_call(replace(effect, may_have_landed=effect.might_before), event, terms)
        if ended.after.status is not UNKNOWN:
            return replace(ended, kind="late")
    return Transition(kind="late", after=effect)


def _late_look(effect: Effect, event: Observed, terms: Terms) -> Transition:
    at = event.at_ms
    if event.status == "confirmed":
        if effect.status is FAILED and event.superseded:
            return Transition(kind="late", after=effect)
        return _late_confirmed(effect, event.external_ref, at, terms)
    if event.status == "duplicate":
        stays, extras = _read_duplicate(effect, event)
        if effect.status is CONFIRMED:
            return Transition(kind="late", after=effect, owed=extras)
        seen = _late_confirmed(effect, stays, at, terms)
        return replace(seen, owed=seen.owed + extras) if seen.after.status in (CONFIRMED, DISPATCHING) else seen
    return Transition(kind="late", after=effect)


def _late_confirmed(effect: Effect, ref: str, at: int, terms: Terms) -> Transition:
    match effect.status:
        case EffectStatus.DISPATCHING:
            if effect.landed:
                second = _second_landing(ref) if ref and effect.landed_ref not in ("", ref) else ()
                return Transition(kind="late", after=replace(effect, landed_ref=effect.landed_ref or ref), owed=second)
            return Transition(kind="late", after=replace(effect, landed=True, landed_ref=ref))
        case EffectStatus.CONFIRMED:
            # One call lands once: where only one was made and its record was not named, this is that record.
            same = ref in ("", effect.external_ref) or (effect.external_ref == "" and effect.attempt == 1)
            return Transition(kind="late", after=effect, owed=() if same else _second_landing(ref))
        case EffectStatus.FAILED | EffectStatus.CANCELLED:
            return _contradiction(_released(effect), "late", at)
        case EffectStatus.STUCK if effect.ended_at_ms is not None:
            # It is STUCK because of a contradiction: the same evidence once more does not decide it.
            return Transition(kind="late", after=effect)
        case _:
            return _confirmed(_released(effect), "late", ref, at, terms)


def _second_landing(ref: str) -> tuple[Owed, ...]:
    why = "late evidence names another record than the effect's"
    return (Owed(external_ref=ref, kind="late", status=ObligationStatus.STUCK, reason=why),)


# --- what people and the app ask for ---


def _cancel_asked(effect: Effect, event: CancelAsked) -> Transition:
    _allow(effect, {PENDING, DISPATCHING, UNKNOWN}, "cancel")
    asked = replace(effect, cancel_requested=True)
    if effect.status is PENDING:
        return _stop_pending(asked, "cancelled", event.reason, event.at_ms)
    return Transition(kind="cancel requested", after=asked)


def _expired(effect: Effect, event: Expired) -> Transition:
    _allow(effect, {PENDING}, "expiry")
    if effect.expires_at_ms is None or effect.expires_at_ms > event.at_ms:
        raise NotAllowed(effect.effect_key, effect.status, "expiry", "it is not due")
    return _stop_pending(effect, "expired", "expired", event.at_ms)


def _stop_pending(effect: Effect, kind: str, reason: str, at: int) -> Transition:
    if effect.may_have_landed:
        return _unknown(effect, kind, at, f"{reason}; an earlier attempt may have landed")
    return Transition(kind=kind, after=_ended(replace(effect, status=CANCELLED, reason=reason), at))


def _resolved(effect: Effect, event: Resolved, terms: Terms) -> Transition:
    _allow(effect, {UNKNOWN, STUCK}, f"resolve as {event.verdict}")
    if event.verdict == "observe":
        asked = effect if effect.status is UNKNOWN else replace(_released(effect), status=UNKNOWN)
        # A look that is under way keeps its lease; the next one is due when it is over.
        sweep_at = event.at_ms if asked.lease_until_ms is None else asked.lease_until_ms
        return Transition(
            kind="resolved",
            after=replace(asked, looks=0, reason=event.reason, due_at_ms=event.at_ms, sweep_at_ms=sweep_at),
        )
    freed = _released(effect)
    if event.verdict == "confirmed":
        done = _confirmed(freed, "resolved", event.external_ref, event.at_ms, terms)
    else:
        done = _failed(freed, "resolved", event.reason, event.at_ms)
    return replace(done, after=replace(done.after, reason=event.reason))


def _owe_asked(effect: Effect, event: OweAsked) -> Transition:
    _allow(effect, {CONFIRMED}, "to owe its compensation")
    if effect.semantics is Semantics.OBSERVE_ONLY:
        raise NotAllowed(effect.effect_key, effect.status, "to owe its compensation", "it changed nothing upstream")
    owed = Owed(external_ref=effect.external_ref, kind="owed", reason=event.reason)
    return Transition(kind="owed", after=effect, owed=(owed,))


# --- the states that transitions lead to ---


def _to_pending(effect: Effect, kind: str, at: int, due: int) -> Transition:
    """Every edge to PENDING. Where the effect must not be sent any more it leads elsewhere."""
    if not _must_stop(effect, at):
        due_or_expiry = due if effect.expires_at_ms is None else min(due, effect.expires_at_ms)
        return Transition(kind=kind, after=replace(effect, status=PENDING, due_at_ms=due, sweep_at_ms=due_or_expiry))
    if effect.may_have_landed:
        return _unknown(effect, kind, at, "it is to stop, but an earlier attempt may have landed")
    if effect.ended_at_ms is not None:
        return _failed(effect, kind, "absent", at)
    reason = "cancelled" if effect.cancel_requested else "expired"
    return Transition(kind=kind, after=_ended(replace(effect, status=CANCELLED, reason=reason), at))


def _must_stop(effect: Effect, at: int) -> bool:
    """Whether the effect must not be sent again: cancelled, expired, or told to the app as ended before."""
    expired = effect.expires_at_ms is not None and effect.expires_at_ms <= at
    return effect.cancel_requested or expired or effect.ended_at_ms is not None


def _unknown(effect: Effect, kind: str, at: int, reason: str) -> Transition:
    """UNKNOWN, with its first look due at once."""
    why = reason or "the answer was lost"
    after = replace(effect, status=UNKNOWN, reason=why, looks=0, due_at_ms=at, sweep_at_ms=at)
    return Transition(kind=kind, after=after)


def _look_at(effect: Effect, kind: str, due: int) -> Transition:
    return Transition(kind=kind, after=replace(effect, due_at_ms=due, sweep_at_ms=due))


def _confirmed(effect: Effect, kind: str, ref: str, at: int, terms: Terms, owed: tuple[Owed, ...] = ()) -> Transition:
    stays = ref or effect.external_ref
    if effect.cancel_requested and terms.can_compensate:
        owed = (*owed, Owed(external_ref=stays, kind="cancelled", reason="cancelled while it was under way"))
    after = replace(effect, status=CONFIRMED, external_ref=stays, reason="", landed=False, landed_ref="")
    return Transition(kind=kind, after=_ended(after, at), owed=owed)


def _failed(effect: Effect, kind: str, reason: str, at: int) -> Transition:
    return Transition(kind=kind, after=_ended(replace(effect, status=FAILED, reason=reason), at))


def _stuck(effect: Effect, kind: str, reason: str, at: int) -> Transition:
    return Transition(kind=kind, after=replace(effect, status=STUCK, reason=reason, due_at_ms=None, sweep_at_ms=None))


def _contradiction(effect: Effect, kind: str, at: int) -> Transition:
    return _stuck(replace(effect, absent=False), kind, CONTRADICTION + effect.status, at)


def _ended(effect: Effect, at: int) -> Effect:
    """Over: nothing is due. FAILED and CANCELLED let go of the business key, for good."""
    return replace(
        effect,
        due_at_ms=None,
        sweep_at_ms=None,
        ended_at_ms=at if effect.ended_at_ms is None else effect.ended_at_ms,
        holds_business_key=effect.holds_business_key and effect.status is CONFIRMED,
    )


def _released(effect: Effect) -> Effect:
    return replace(effect, lease_until_ms=None, claim_nonce="")


def _settling(effect: Effect, settled_at: int) -> Effect:
    return replace(effect, settled_at_ms=max(effect.settled_at_ms or 0, settled_at))


def _bodies(event: Answered | Observed) -> dict[str, Any]:
    """What the row keeps of the texts; a look that brought none leaves what the call brought."""
    found = {"response_json": event.response_json, "error_json": event.error_json}
    return {name: text for name, text in found.items() if text}


def _wait(event: Answered) -> int:
    return event.backoff_ms if event.retry_in_ms is None else event.retry_in_ms


def _allow(effect: Effect, statuses: set[EffectStatus], act: str) -> None:
    if effect.status not in statuses:
        raise NotAllowed(effect.effect_key, effect.status, act)
