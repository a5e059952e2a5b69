"""The states that transitions lead to: what is true of a row when it gets there. Every edge to a state passes here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tape_celery.errors import NotAllowed, StaleView
from tape_celery.events import Act, Answered, Claimed, Observed
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, ObligationStatus, Semantics, replace

PENDING, DISPATCHING, CONFIRMED, FAILED, UNKNOWN, STUCK, CANCELLED, HELD = (
    EffectStatus.PENDING,
    EffectStatus.DISPATCHING,
    EffectStatus.CONFIRMED,
    EffectStatus.FAILED,
    EffectStatus.UNKNOWN,
    EffectStatus.STUCK,
    EffectStatus.CANCELLED,
    EffectStatus.HELD,
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


def to_pending(effect: Effect, kind: str, at: int, due: int) -> Transition:
    """Every edge to PENDING. Where the effect must not be sent any more it leads elsewhere."""
    if not must_stop(effect, at):
        due_or_expiry = due if effect.expires_at_ms is None else min(due, effect.expires_at_ms)
        return Transition(kind=kind, after=replace(effect, status=PENDING, due_at_ms=due, sweep_at_ms=due_or_expiry))
    if effect.may_have_landed:
        return unknown(effect, kind, at, "it is to stop, but an earlier attempt may have landed")
    reason = "cancelled" if effect.cancel_requested else "expired"
    return Transition(kind=kind, after=ended(replace(effect, status=CANCELLED, reason=reason), at))


def must_stop(effect: Effect, at: int) -> bool:
    """Whether the effect must not be sent again: cancelled, expired, or told to the app as ended before."""
    expired = effect.expires_at_ms is not None and effect.expires_at_ms <= at
    return effect.cancel_requested or expired or effect.ended_at_ms is not None


def unknown(effect: Effect, kind: str, at: int, reason: str) -> Transition:
    """UNKNOWN, with its first look due at once."""
    why = reason or "the answer was lost"
    after = replace(effect, status=UNKNOWN, reason=why, looks=0, due_at_ms=at, sweep_at_ms=at)
    return Transition(kind=kind, after=after)


def look_at(effect: Effect, kind: str, due: int) -> Transition:
    return Transition(kind=kind, after=replace(effect, due_at_ms=due, sweep_at_ms=due))


def confirmed(effect: Effect, kind: str, ref: str, at: int, terms: Terms, owed: tuple[Owed, ...] = ()) -> Transition:
    stays = ref or effect.external_ref
    if effect.cancel_requested and terms.can_compensate:
        owed = (*owed, Owed(external_ref=stays, kind="cancelled", reason="cancelled while it was under way"))
    after = replace(effect, status=CONFIRMED, external_ref=stays, reason="", absent=False, landed=False, landed_ref="")
    return Transition(kind=kind, after=ended(after, at), owed=owed)


def failed(effect: Effect, kind: str, reason: str, at: int) -> Transition:
    return Transition(kind=kind, after=ended(replace(effect, status=FAILED, reason=reason), at))


def stuck(effect: Effect, kind: str, reason: str, at: int) -> Transition:
    return Transition(kind=kind, after=replace(effect, status=STUCK, reason=reason, due_at_ms=None, sweep_at_ms=None))


def contradiction(effect: Effect, kind: str, at: int) -> Transition:
    return stuck(replace(effect, absent=False), kind, CONTRADICTION + effect.status, at)


def ended(effect: Effect, at: int) -> Effect:
    """Over: nothing is due. FAILED and CANCELLED let go of the business key, for good."""
    return replace(
        effect,
        due_at_ms=None,
        sweep_at_ms=None,
        ended_at_ms=at if effect.ended_at_ms is None else effect.ended_at_ms,
        holds_business_key=effect.holds_business_key and effect.status is CONFIRMED,
    )


def released(effect: Effect) -> Effect:
    return replace(effect, lease_until_ms=None, claim_nonce="")


def settling(effect: Effect, settled_at: int) -> Effect:
    return replace(effect, settled_at_ms=max(effect.settled_at_ms or 0, settled_at))


def bodies(event: Answered | Observed) -> dict[str, Any]:
    """What the row keeps of the texts: the response is what a confirmed call brought, everything else went wrong."""
    if event.status in ("confirmed", "duplicate"):
        return {"response_json": event.response_json, "error_json": ""}
    told = event.error_json or event.response_json
    return {"error_json": told} if told else {}


def allow(effect: Effect, statuses: set[EffectStatus], act: str, why: str = "") -> None:
    if effect.status not in statuses:
        raise NotAllowed(effect.effect_key, effect.status, act, why)


def refuse_stale(effect: Effect, event: Act, act: str) -> None:
    """Raise `StaleView` where the row is not what the person looked at who decided."""
    if event.seen_version not in (None, effect.version):
        raise StaleView(effect.effect_key, effect.status, act, event.seen_version or 0, effect.version)


def resend_is_safe(effect: Effect, at_ms: int, terms: Terms) -> bool:
    """Whether another call under the same key cannot land twice, if it is made before ``at_ms``."""
    if effect.semantics is Semantics.OBSERVE_ONLY:
        return True
    if effect.semantics is Semantics.NON_IDEMPOTENT:
        return False
    return effect.first_sent_at_ms is None or at_ms < effect.first_sent_at_ms + terms.window_ms


def may_resend(effect: Effect, due: int, terms: Terms) -> bool:
    """Whether a call that is due then can still be sent safely when its lease is about to end.

    A claim that comes too late for it is withheld all the same (`tape_celery.state.calls.must_withhold`).
    """
    return resend_is_safe(effect, due + terms.lease_ms, terms)


def leased(effect: Effect, event: Claimed) -> Effect:
    until = event.at_ms + event.lease_ms
    return replace(
        effect,
        token=effect.token + 1,
        claim_nonce=event.nonce,
        claimed_at_ms=event.at_ms,
        lease_until_ms=until,
        sweep_at_ms=until,
    )


def second_landing(ref: str) -> tuple[Owed, ...]:
    why = "late evidence names another record than the effect's"
    return (Owed(external_ref=ref, kind="late", status=ObligationStatus.STUCK, reason=why),)
