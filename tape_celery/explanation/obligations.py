"""An obligation explained: the undoing of one record, which is itself a call that may happen twice."""

from __future__ import annotations

from tape_celery.explanation import foresight, history
from tape_celery.explanation.advice import second_person
from tape_celery.explanation.prospects import BY_A_PERSON, hint, in_order, obstacles, proposed, sweep_is_late
from tape_celery.explanation.values import Around, Explanation, SafeAct, Upcoming
from tape_celery.explanation.wording import at, because, counted, plain, record, short
from tape_celery.records import EffectStatus, Obligation, ObligationStatus, RunStatus

KINDS = {
    "duplicate": "the upstream had it more than once",
    "late": "an answer that came late named another record than the effect's",
    "cancelled": "the effect had been asked to be cancelled, and landed all the same",
    "owed": "somebody asked for it",
    "run": "its run is undone",
}
"""Why an obligation is owed, by its kind."""


def explain(debt: Obligation, around: Around) -> Explanation:
    """An obligation in words."""
    return Explanation(
        key=debt.obligation_key,
        kind="obligation",
        status=debt.status,
        headline=_headline(debt, around),
        happened=history.sentences(around.journal, is_inverse=True),
        why=_why(debt, around),
        next=tuple(in_order([*_next(debt, around), *proposed(around)])),
        acts=_acts(debt, around),
        version=debt.version,
        at_ms=around.now_ms,
    )


def _what(debt: Obligation) -> str:
    return f"the undoing of {record(debt.external_ref)} of effect {plain(debt.effect_key)}"


def _headline(debt: Obligation, around: Around) -> str:
    what = _what(debt)
    match debt.status:
        case ObligationStatus.COMPENSATED:
            return f"{what[0].upper()}{what[1:]} is done."
        case ObligationStatus.STUCK:
            return f"{what[0].upper()}{what[1:]} is STUCK and waits for a person: {short(debt.reason)}."
        case ObligationStatus.UNKNOWN:
            return f"Nobody knows whether {what} was done."
        case ObligationStatus.COMPENSATING:
            return f"{what[0].upper()}{what[1:]} is under way."
        case ObligationStatus.PENDING:
            return f"{what[0].upper()}{what[1:]} is owed, and not done yet."


def _why(debt: Obligation, around: Around) -> str:
    owed = f"It is owed because {KINDS.get(debt.kind, plain(debt.kind))}."
    used = f"{debt.attempt} of {counted(debt.max_attempts, 'attempt')} used"
    match debt.status:
        case ObligationStatus.COMPENSATED:
            came = history.arrival(around.journal)
            if came is not None and came.kind == "resolved":
                return f"{owed} {short(came.actor)} resolved it as done: {short(came.evidence.get('reason', ''))}."
            return f"{owed} The upstream undid it."
        case ObligationStatus.STUCK:
            return f"{owed} It cannot go on by itself: {short(debt.reason)}."
        case ObligationStatus.UNKNOWN:
            asked = "the upstream is asked"
            if around.can_look is False:
                asked = "nothing can ask: the connector has no observe_compensation"
            return f"{owed} It may have been done{because(debt.reason)}, and {asked}."
        case ObligationStatus.COMPENSATING:
            return f"{owed} A worker holds it, and may be calling the upstream now ({used})."
        case ObligationStatus.PENDING if debt.unsent:
            return f"{owed} Nothing was sent at the last try; that uses no attempt, and it is tried again."
        case ObligationStatus.PENDING if debt.attempt:
            return f"{owed} The last attempt did not undo it; it is tried again ({used})."
        case ObligationStatus.PENDING:
            return f"{owed} Nothing was sent yet."


def _next(debt: Obligation, around: Around) -> list[Upcoming]:
    found = [] if debt.status in (ObligationStatus.COMPENSATED, ObligationStatus.STUCK) else obstacles(debt, around)
    due = debt.due_at_ms or around.now_ms
    match debt.status:
        case ObligationStatus.COMPENSATED:
            return [Upcoming(what="Nothing more: it is over."), *_run(debt, around)]
        case ObligationStatus.STUCK:
            return [BY_A_PERSON, *_run(debt, around)]
        case ObligationStatus.COMPENSATING:
            what = "Its lease ends (a call that may take longer renews it): without an answer it is then UNKNOWN."
            return [*sweep_is_late(around), Upcoming(what=what, at_ms=debt.lease_until_ms)]
        case ObligationStatus.PENDING:
            effect = around.effect
            if effect is not None and effect.status is not EffectStatus.CONFIRMED:
                what = f"It waits until effect {plain(effect.effect_key)} is CONFIRMED; that is {effect.status}."
                return [*found, Upcoming(what=what)]
            number = min(debt.attempt + 1, debt.max_attempts)
            what = f"The inverse is called: attempt {number} of {debt.max_attempts}."
            again = hint(debt.sweep_at_ms, around) if due <= around.now_ms else []
            return [*found, Upcoming(what=what, at_ms=due), *again]
        case ObligationStatus.UNKNOWN:
            return [*found, *_looks(debt, due, around)]


def _looks(debt: Obligation, due: int, around: Around) -> list[Upcoming]:
    if around.can_look is False:
        after = foresight.after_blindness(debt, max(due, around.now_ms), around.terms)
        is_stuck = after is None or after.status == "STUCK"
        becomes = "STUCK: a person has to decide" if is_stuck else "run again under the same key"
        return [Upcoming(what=f"Nothing can look, so it is {becomes}.", at_ms=due)]
    found = [Upcoming(what="The upstream is asked whether it was done.", at_ms=debt.lease_until_ms or due)]
    believed = max(due, debt.settled_at_ms or 0, around.now_ms)
    after = foresight.after_absence(debt, believed, around.terms)
    if after is not None and after.status != "UNKNOWN":
        becomes = "run again" if after.status == "PENDING" else str(after.status)
        what = f"A look that begins from then on, and says that it was not done, is believed: it is {becomes}."
        found.append(Upcoming(what=what, at_ms=max(debt.settled_at_ms or 0, due)))
    return found


def _run(debt: Obligation, around: Around) -> list[Upcoming]:
    run = around.run
    if run.status is RunStatus.STUCK:
        return [Upcoming(what=f"Its run {plain(run.run_id)} waits: {short(run.reason)}.")]
    if run.status is RunStatus.COMPENSATING:
        return [Upcoming(what=f"Its run {plain(run.run_id)} goes on with what is next.")]
    return []


def _acts(debt: Obligation, around: Around) -> tuple[SafeAct, ...]:
    words = {"observe": _observe, "resolve-confirmed": _done, "resolve-failed": _not_done}
    found = []
    for name, word in words.items():
        after = foresight.after_act(debt, name, around.now_ms, around.terms)
        if isinstance(after, Obligation):
            safe, when = word(debt, after, around)
            found.append(SafeAct(name=name, safe=safe, when=when + second_person(name, around)))
    return tuple(found)


def _observe(debt: Obligation, after: Obligation, around: Around) -> tuple[bool, str]:
    if around.can_look is False:
        blind = foresight.after_blindness(after, around.now_ms, around.terms)
        if blind is not None and blind.status == "PENDING":
            return True, "The connector cannot look, but its inverse may be run again under the same key: that is done."
        return True, "Useless until the connector can look (observe_compensation): it is STUCK again."
    return True, "At any time: the upstream is asked whether it was done. It undoes nothing twice."


def _done(debt: Obligation, after: Obligation, around: Around) -> tuple[bool, str]:
    undone = f"{record(debt.external_ref)} is undone at the upstream, or needs no undoing"
    return False, f"Only when {undone}. Its inverse goes by key {plain(debt.idempotency_key)}. Nothing is called."


def _not_done(debt: Obligation, after: Obligation, around: Around) -> tuple[bool, str]:
    if not debt.external_ref:
        return (
            False,
            "It runs the inverse, which cannot know what to undo: this obligation has no reference. Undo by hand.",
        )
    text = (
        f"Only when {record(debt.external_ref)} still stands at the upstream and must go: it runs the inverse, at once."
    )
    if debt.may_have_landed and (settled := debt.settled_at_ms) is not None and settled > around.now_ms:
        text += f" Not before {at(settled)}: what was sent may still arrive."
    effect = around.effect
    if effect is not None and debt.external_ref == effect.external_ref:
        text += " That is the effect's own record: nothing of it is left then."
    if around.has_inverse is False:
        text += " No inverse exists here, so it is STUCK again."
    return False, text
