"""The whole transition table of an effect, as one pure function: `decide(effect, event, terms)`.

                          ┌──────── definitely not landed, or a resend under the same key is safe ────────┐
                          ▼                                                                               │
     recorded ──▶ PENDING ──claimed──▶ DISPATCHING ──confirmed──▶ CONFIRMED ◀──confirmed, duplicate── UNKNOWN ◀─┐
        │          ▲ │                  │   │                         ▲                               │  │      │ look
    looks like     │ cancelled,         │   └─unknown, lease ran out──┼──────────────────────────────▶┘  │      │ again
    another        │ expired            │                             │                                  ├──▶ STUCK
        ▼          │ │                  └─failed────▶ FAILED ◀────────┼───absent and settled, failed─────┘      ▲
       HELD ─released│                                  │       resolved by a person, late `confirmed`          │
        └─cancelled,─┴▶ CANCELLED ──late `confirmed`────┴───────────────── (contradiction) ─────────────────────┘
          expired

A person releases what is HELD. What ended FAILED or CANCELLED may be issued again: as a fresh effect, which is linked.

An effect with an attempt that may have landed carries the flag `may_have_landed`. It does not end FAILED or CANCELLED
unless a settled absence has cleared the flag, the upstream says that it failed, or a person does.

A result is *in time* when it carries the token of the claim that the row is under. Any other result is *late*: it can
not end a claim that is not its own, and it is never dropped (`tape_celery.state.late`).

No clock and no I/O: the instant of an event, its jitter and the terms of its connector come in as values, and all of
them are journaled, so that `replay` of an effect's journal gives its row.
"""

from __future__ import annotations

from collections.abc import Iterable

from tape_celery.events import (
    Answered,
    CancelAsked,
    Claimed,
    Event,
    Expired,
    Lapsed,
    Observed,
    OweAsked,
    ReissueAsked,
    ReleaseAsked,
    Resolved,
    Shared,
    Unobservable,
    Withheld,
    from_evidence,
)
from tape_celery.policy import Terms
from tape_celery.records import Effect, JournalEntry, Semantics, replace
from tape_celery.state import acts, calls, late, looks
from tape_celery.state.calls import must_withhold
from tape_celery.state.ends import DISPATCHING, UNKNOWN, Owed, Transition

__all__ = ["Owed", "Transition", "decide", "must_withhold", "replay"]


def decide(effect: Effect, event: Event, terms: Terms) -> Transition:
    """What ``event`` makes of ``effect``.

    Raises `NotAllowed` for an act (a claim, a cancel, a resolve, an owe, a reissue, a release, an expiry, a lapse) that
    the row's state does not allow. Results of calls and looks are always taken: in time, or as late evidence.
    """
    match event:
        case Claimed(verb="call"):
            moved = calls.claimed_for_call(effect, event)
        case Claimed():
            moved = looks.claimed_for_look(effect, event)
        case Answered():
            moved = _answered(effect, event, terms)
        case Withheld():
            moved = calls.withheld(effect, event, terms)
        case Observed():
            moved = _observed(effect, event, terms)
        case Unobservable():
            moved = looks.unobservable(effect, event, terms)
        case Lapsed():
            moved = calls.lapsed(effect, event, terms)
        case CancelAsked():
            moved = acts.cancel_asked(effect, event)
        case Expired():
            moved = acts.expired(effect, event)
        case Resolved():
            moved = acts.resolved(effect, event, terms)
        case OweAsked():
            moved = acts.owe_asked(effect, event)
        case ReleaseAsked():
            moved = acts.release_asked(effect, event)
        case ReissueAsked():
            moved = acts.reissue_asked(effect, event)
        case Shared():
            moved = acts.shared(effect)
        case _:
            raise TypeError(f"no transition for {event!r}")
    after = moved.after
    if isinstance(event, Answered) and event.traceparent:
        after = replace(after, dispatch_traceparent=event.traceparent)
    if looks.is_watched(after) and not effect.status.settled:
        after = looks.watched(after, event.at_ms, terms)
    stamped = replace(after, version=effect.version + 1, updated_at_ms=event.at_ms)
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


def _answered(effect: Effect, event: Answered, terms: Terms) -> Transition:
    if effect.status is DISPATCHING and effect.token == event.token:
        return calls.end_call(effect, event, terms)
    return late.late_answer(effect, event, terms)


def _observed(effect: Effect, event: Observed, terms: Terms) -> Transition:
    if effect.token != event.token or effect.lease_until_ms is None:
        return late.late_look(effect, event, terms)
    if effect.status is UNKNOWN:
        return looks.end_look(effect, event, terms)
    if looks.is_watched(effect):
        return looks.end_watch(effect, event, terms)
    return late.late_look(effect, event, terms)
