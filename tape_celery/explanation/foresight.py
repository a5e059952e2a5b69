"""What the deciding functions would make of a row: asked of them, and never worked out here."""

from __future__ import annotations

from tape_celery import obligation_state, state
from tape_celery.errors import NotAllowed
from tape_celery.events import (
    CancelAsked,
    Claimed,
    Event,
    Lapsed,
    Observed,
    OweAsked,
    ReissueAsked,
    ReleaseAsked,
    Resolved,
    Unobservable,
)
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, Obligation, replace

ACTS: dict[str, Event] = {
    "release": ReleaseAsked(reason="asked"),
    "observe": Resolved(verdict="observe", reason="asked"),
    "resolve-confirmed": Resolved(verdict="confirmed", reason="asked"),
    "resolve-failed": Resolved(verdict="failed", reason="asked"),
    "cancel": CancelAsked(reason="asked"),
    "reissue": ReissueAsked(reason="asked", successor="its successor"),
    "owe": OweAsked(reason="asked"),
}
"""Every act of a person on one row, by its name, in the order in which they are shown."""


def after_act(row: Effect | Obligation, act: str, now_ms: int, terms: Terms) -> Effect | Obligation | None:
    """The row after ``act``; ``None`` where its state does not allow that."""
    return _after(row, replace(ACTS[act], at_ms=now_ms), terms)


def states_for(act: str) -> list[EffectStatus]:
    """The states in which ``act`` may be allowed on an effect."""
    return [state for state in EffectStatus if after_act(_effect(state), act, 0, Terms()) is not None]


def _effect(state: EffectStatus) -> Effect:
    """An effect in that state, with nothing else about it."""
    return Effect(
        effect_key="key", connector="any", status=state, idempotency_key="key", run_id="key", request_json="{}",
        request_digest="",
    )  # fmt: skip


def after_lapse(row: Effect | Obligation, terms: Terms) -> Effect | Obligation | None:
    """The row when its lease ends without an answer; ``None`` where no call is under way."""
    until = row.lease_until_ms
    return None if until is None else _after(row, Lapsed(at_ms=until, lease_until_ms=until), terms)


def after_absence(row: Effect | Obligation, at_ms: int, terms: Terms) -> Effect | Obligation | None:
    """The row when its next look, which begins then at the earliest, says that the upstream does not have it."""
    looked = _in_look(row, at_ms, terms)
    return looked and _after(looked, Observed(at_ms=at_ms, token=looked.token, status="absent"), terms)


def after_blindness(row: Effect | Obligation, at_ms: int, terms: Terms) -> Effect | Obligation | None:
    """The row when its next look finds that nothing can look."""
    looked = _in_look(row, at_ms, terms)
    return looked and _after(looked, Unobservable(at_ms=at_ms, token=looked.token), terms)


def _in_look(row: Effect | Obligation, at_ms: int, terms: Terms) -> Effect | Obligation | None:
    if row.lease_until_ms is not None:
        return row
    return _after(row, Claimed(at_ms=at_ms, verb="look", lease_ms=terms.lease_ms), terms)


def _after(row: Effect | Obligation, event: Event, terms: Terms) -> Effect | Obligation | None:
    try:
        if isinstance(row, Obligation):
            return obligation_state.decide(row, event, terms).after
        return state.decide(row, event, terms).after
    except (NotAllowed, TypeError):
        # A TypeError: an obligation knows no such event.
        return None
