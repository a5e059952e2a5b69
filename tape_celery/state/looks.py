"""A look: its claim, and what the upstream's word makes of an effect whose answer was lost."""

from __future__ import annotations

from tape_celery.events import Claimed, Observed, Unobservable
from tape_celery.policy import Terms
from tape_celery.records import Effect, ObligationStatus, replace
from tape_celery.state.ends import (
    CANCELLED,
    CONFIRMED,
    FAILED,
    UNKNOWN,
    Owed,
    Transition,
    allow,
    bodies,
    confirmed,
    contradiction,
    failed,
    leased,
    look_at,
    may_resend,
    must_stop,
    released,
    resend_is_safe,
    stuck,
    to_pending,
)


def claimed_for_look(effect: Effect, event: Claimed) -> Transition:
    if is_watched(effect):
        return Transition(kind="look", after=leased(effect, event))
    allow(effect, {UNKNOWN}, "a look")
    return Transition(kind="look", after=replace(leased(effect, event), looks=effect.looks + 1))


def end_look(effect: Effect, event: Observed, terms: Terms) -> Transition:
    at = event.at_ms
    freed = replace(released(effect), **bodies(event))
    if event.status == "confirmed":
        return confirmed(freed, "observed", event.external_ref, at, terms)
    if event.status == "duplicate":
        named, extras = read_duplicate(effect, event)
        return confirmed(freed, "observed", named, at, terms, extras)
    if event.status == "failed":
        return failed(freed, "observed", "the upstream says that it failed", at)
    if event.status == "absent":
        return _absent(freed, at, terms)
    if effect.looks >= terms.observe_attempts:
        return stuck(freed, "observed", f"no answer after {effect.looks} looks", at)
    return look_at(freed, "observed", at + event.backoff_ms)


def _absent(effect: Effect, at: int, terms: Terms) -> Transition:
    """An absence is believed when the look *began* after everything that was sent has settled."""
    settled_at = effect.settled_at_ms or 0
    if (effect.claimed_at_ms or 0) < settled_at:
        return look_at(replace(effect, looks=effect.looks - 1), "observed", settled_at)
    cleared = replace(effect, may_have_landed=False, absent=True, watches=0)
    again = effect.ended_at_ms is None and effect.attempt < effect.max_attempts
    if again and resend_is_safe(effect, at, terms):
        return to_pending(cleared, "observed", at, at)
    return failed(cleared, "observed", "absent", at)


def is_watched(effect: Effect) -> bool:
    """Whether it ended without a landing, and that rests on an absence: what was sent may still land."""
    return effect.absent and effect.status in (FAILED, CANCELLED)


def end_watch(effect: Effect, event: Observed, terms: Terms) -> Transition:
    # Counted at its end: a look whose worker was lost is taken again, and uses up no span.
    freed = replace(released(effect), watches=effect.watches + 1)
    if event.status == "duplicate" or (event.status == "confirmed" and not event.superseded):
        return contradiction(freed, "watched", event.at_ms)
    return Transition(kind="watched", after=watched(freed, event.at_ms, terms))


def watched(effect: Effect, at: int, terms: Terms) -> Effect:
    """``effect`` with the next look at its absence; the spans count from the moment when it ended."""
    if effect.watches >= len(terms.watch_ms):
        return replace(effect, due_at_ms=None, sweep_at_ms=None)
    due = max(at, (effect.ended_at_ms or at) + terms.watch_ms[effect.watches])
    return replace(effect, due_at_ms=due, sweep_at_ms=due)


def unobservable(effect: Effect, event: Unobservable, terms: Terms) -> Transition:
    at = event.at_ms
    if effect.token != event.token or effect.lease_until_ms is None:
        return Transition(kind="late", after=effect)
    freed = released(effect)
    if effect.status in (FAILED, CANCELLED):
        return Transition(kind="unobservable", after=replace(freed, due_at_ms=None, sweep_at_ms=None))
    stopped, due = must_stop(effect, at), at + event.backoff_ms
    if stopped or not may_resend(effect, due, terms):
        return stuck(freed, "unobservable", "nothing can observe it", at)
    if effect.attempt >= effect.max_attempts:
        return stuck(freed, "unobservable", "nothing can observe it, and its attempts are used up", at)
    return to_pending(freed, "unobservable", at, due)


def read_duplicate(effect: Effect, event: Observed) -> tuple[str, tuple[Owed, ...]]:
    """The record that stays by the upstream's word, empty where it names none, and what is owed for the extra ones."""
    named = event.external_ref if event.duplicates is not None else ""
    stays = effect.external_ref if effect.status is CONFIRMED else named or effect.external_ref
    return named, tuple(_duplicate(ref, stays, event) for ref in dict.fromkeys(event.extras))


def _duplicate(ref: str, stays: str, event: Observed) -> Owed:
    """What is owed for the record ``ref``: its inverse, or the word of a person where it may be needed after all."""
    why = ""
    if not ref:
        why = "the extra record has no reference"
    elif ref == stays:
        why = "the extra record is the one that stays"
    elif ref in event.others:
        why = "another effect with the same business key was CONFIRMED with this record"
    elif event.superseded:
        why = "it may be the record of the effect that has the business key now"
    if why:
        return Owed(external_ref=ref, kind="duplicate", status=ObligationStatus.STUCK, reason=why)
    return Owed(external_ref=ref, kind="duplicate")
