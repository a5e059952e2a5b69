"""One effect or obligation in plain words, for a person at three in the morning.

`explain` says what happened (`history`), why the row is as it is (`causes`), what comes next by itself (`prospects`),
and which acts are allowed and when each is right (`advice`); `obligations` has the words for an obligation. Values in,
sentences out: no clock and no I/O. What would become of the row is asked of the deciding functions (`foresight`), so
an explanation cannot promise what the engine does not do. No request, response or error body gets into a sentence;
texts of connectors and people are cut and escaped.
"""

from __future__ import annotations

from tape_celery.explanation import advice, causes, controls, history, obligations, prospects
from tape_celery.explanation.values import Around, Explanation, SafeAct, Upcoming
from tape_celery.explanation.wording import at, counted, record, short
from tape_celery.flow import Breaker
from tape_celery.records import Effect, EffectStatus, Obligation
from tape_celery.state.ends import CONTRADICTION

__all__ = ["Around", "Explanation", "SafeAct", "Upcoming", "explain", "explain_pruned"]


def explain(row: Effect | Obligation, around: Around) -> Explanation:
    """``row`` in words, with what is known ``around`` it."""
    if isinstance(row, Obligation):
        return obligations.explain(row, around)
    return Explanation(
        key=row.effect_key,
        kind="effect",
        status=row.status,
        headline=_headline(row, around),
        happened=history.sentences(around.journal),
        why=causes.why(row, around),
        next=prospects.upcoming(row, around),
        acts=advice.acts(row, around),
        version=row.version,
        at_ms=around.now_ms,
    )


def explain_pruned(left: Effect, now_ms: int) -> Explanation:
    """What is left of an effect that was pruned."""
    when = at(left.updated_at_ms)
    ended = (
        f"{at(left.ended_at_ms)}: it had ended {left.status}." if left.ended_at_ms else f"It had ended {left.status}."
    )
    keys = "Its idempotency key stays taken" + (", and so does its business key." if left.holds_business_key else ".")
    return Explanation(
        key=left.effect_key,
        kind="pruned",
        status=left.status,
        headline=f"It ended {left.status} and was pruned on {when}: its keys and its outcome are left, and no more.",
        happened=(f"{at(left.created_at_ms)}: recorded.", ended, f"{when}: pruned, with its journal."),
        why=f"It had ended long ago and owed nothing, so it was removed. {keys}",
        next=(Upcoming(what="Nothing more: it is over."),),
        acts=(),
        version=left.version,
        at_ms=now_ms,
    )


def _headline(effect: Effect, around: Around) -> str:
    match effect.status:
        case EffectStatus.PENDING:
            return _pending(effect, around)
        case EffectStatus.DISPATCHING:
            return f"A worker may be calling {short(effect.connector)} for it now."
        case EffectStatus.UNKNOWN if around.can_look is False:
            return "It may have landed, and nothing can ask the upstream."
        case EffectStatus.UNKNOWN:
            return "It may have landed; the upstream is being asked, and nothing is sent twice."
        case EffectStatus.STUCK:
            if effect.reason.startswith(CONTRADICTION):
                told = short(effect.reason.removeprefix(CONTRADICTION))
                return f"The app was told {told}, and then it landed: a person must decide."
            return f"It may have landed, and a person must decide: {short(effect.reason)}."
        case EffectStatus.HELD:
            return f"Nothing was sent: it {short(effect.reason)}, and a person says whether it is meant."
        case EffectStatus.CONFIRMED:
            text = "It landed" + (f", as {record(effect.external_ref)}" if effect.external_ref else "")
            open_debts = sum(debt.status != "COMPENSATED" for debt in around.obligations)
            return f"{text}; {counted(open_debts, 'obligation')} not done yet." if open_debts else f"{text}."
        case EffectStatus.FAILED if effect.absent and effect.due_at_ms is not None:
            return "It did not land, as far as the upstream can tell; that is still watched."
        case EffectStatus.FAILED:
            return f"It did not land: {short(effect.reason)}."
        case EffectStatus.CANCELLED:
            return f"It was stopped before it landed: {short(effect.reason)}."


def _pending(effect: Effect, around: Around) -> str:
    if around.run.status != "OPEN":
        return "It is not sent any more, for its run is closed."
    holding = around.holding(effect)
    if holding is not None and holding.flow.paused:
        return "It is not sent for now: its connector is paused."
    if holding is not None and holding.flow.breaker is not Breaker.CLOSED:
        return "It is not sent for now: the circuit breaker of its connector is open."
    if around.turn_of is not None:
        return f"It waits for its turn: effect {around.turn_of.effect_key} comes first."
    if effect.due_at_ms is not None and effect.due_at_ms > around.now_ms:
        return f"It is sent at {at(effect.due_at_ms)}."
    if not around.known_by:
        return f"It waits for a worker that knows {short(effect.connector)}: none is alive."
    if holding is not None and controls.obstacle(holding):
        return "It waits for its turn: its connector is at its limit."
    return "It is to be sent as soon as a worker takes it."
