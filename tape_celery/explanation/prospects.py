"""What will happen by itself to an effect, and when."""

from __future__ import annotations

from tape_celery.explanation import controls, foresight
from tape_celery.explanation.values import Around, Upcoming
from tape_celery.explanation.wording import at, counted, listed, plain, record, short
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, RunStatus, Semantics

BY_A_PERSON = Upcoming(what="Nothing happens by itself: it waits for a person.")
OVER = Upcoming(what="Nothing more: it is over.")


def upcoming(effect: Effect, around: Around) -> tuple[Upcoming, ...]:
    """Soonest first; what has no time comes last."""
    match effect.status:
        case EffectStatus.PENDING:
            found = _pending(effect, around)
        case EffectStatus.DISPATCHING:
            found = _dispatching(effect, around)
        case EffectStatus.UNKNOWN:
            found = _unknown(effect, around)
        case EffectStatus.STUCK:
            found = [BY_A_PERSON, *_held_up_by(effect)]
        case EffectStatus.HELD:
            found = [BY_A_PERSON, *_expiry(effect)]
        case EffectStatus.CONFIRMED:
            found = [*map(_debt, around.obligations), *_turn_in_run(effect, around)] or [OVER]
        case _:
            found = _watch(effect, around) or [OVER]
    return tuple(in_order([*found, *proposed(around)]))


def in_order(found: list[Upcoming]) -> list[Upcoming]:
    """Soonest first; what has no time comes last."""
    return sorted(found, key=lambda one: (one.at_ms is None, one.at_ms or 0))


def proposed(around: Around) -> list[Upcoming]:
    """The acts on it that wait for a second person."""
    found = []
    for one in around.proposals:
        act = f"{one.act} as {one.arguments['verdict']}" if one.arguments.get("verdict") else one.act
        who = f"{short(one.actor)} proposed at {at(one.created_at_ms)} to {act}"
        key = plain(one.proposal_key)
        found.append(Upcoming(what=f"{who} ({short(one.reason)}): another person confirms proposal {key}, or nobody."))
    return found


def obstacles(row: Effect | Obligation, around: Around) -> list[Upcoming]:
    """What keeps a call or look of ``row`` from being made, whenever it is due."""
    found = [Upcoming(what=text) for text in controls.kept(row, around.standings)]
    named = plain(row.connector) + (f" with {plain(row.effect_name)}" if row.effect_name else "")
    if not around.known_by:
        found.append(Upcoming(what=f"No worker is alive that knows {named}: nothing until one is."))
    elif not around.known_here:
        some = listed([plain(name) for name in around.known_by[:3]])
        found.append(Upcoming(what=f"{named} is not known here; {some} knows it, and is alive."))
    return found + sweep_is_late(around)


def sweep_is_late(around: Around) -> list[Upcoming]:
    """What is not done while nobody sweeps."""
    if not around.sweeps_late:
        return []
    since = "ever" if around.swept_at_ms is None else f"since {at(around.swept_at_ms)}"
    what = f"No sweep has begun {since}: leases do not end, and lost hints stay lost. Do beat and a sweep worker run?"
    return [Upcoming(what=what)]


def _pending(effect: Effect, around: Around) -> list[Upcoming]:
    if around.run.status is not RunStatus.OPEN:
        what = (
            f"Its run {plain(effect.run_id)} is closed ({short(around.run.closing_reason)}): it is cancelled, not sent."
        )
        return [Upcoming(what=what, at_ms=around.run.sweep_at_ms)]
    found = obstacles(effect, around) + _expiry(effect)
    if (first := around.turn_of) is not None:
        waits = "waits for a person" if first.status in (EffectStatus.STUCK, EffectStatus.HELD) else "comes first"
        what = (
            f"It waits for its turn in ordering key {plain(effect.ordering_key)}: effect {plain(first.effect_key)} "
            f"({first.status}) {waits}."
        )
        return [*found, Upcoming(what=what)]
    due = effect.due_at_ms or around.now_ms
    number = min(effect.attempt + 1, effect.max_attempts)
    if due > around.now_ms:
        what = f"It is sent: attempt {number} of {effect.max_attempts}."
        return [*found, Upcoming(what=what, at_ms=due)]
    what = f"It is due: attempt {number} of {effect.max_attempts}, by a worker of its dispatch queue."
    return [*found, Upcoming(what=what, at_ms=due), *hint(effect.sweep_at_ms, around)]


def hint(sweep_at_ms: int | None, around: Around) -> list[Upcoming]:
    """When the sweep publishes the hint of a due row once more."""
    if sweep_at_ms is None:
        return []
    when = max(sweep_at_ms, around.now_ms)
    return [Upcoming(what="If no worker has taken it by then, the sweep publishes its hint again.", at_ms=when)]


def _expiry(effect: Effect) -> list[Upcoming]:
    if effect.expires_at_ms is None:
        return []
    ends = "it is UNKNOWN, and the upstream is asked" if effect.may_have_landed else "it is CANCELLED"
    return [Upcoming(what=f"Its expiry: if it was not sent by then, {ends}.", at_ms=effect.expires_at_ms)]


def _dispatching(effect: Effect, around: Around) -> list[Upcoming]:
    found = [Upcoming(what="The call ends with its answer, and the answer decides.")]
    after = foresight.after_lapse(effect, around.terms)
    if after is not None:
        becomes = {
            EffectStatus.PENDING: "PENDING, and is sent again under the same key",
            EffectStatus.CONFIRMED: "CONFIRMED",
        }.get(EffectStatus(after.status), "UNKNOWN, and the upstream is asked")
        what = f"Its lease ends (a call that may take longer renews it): without an answer it is then {becomes}."
        found.append(Upcoming(what=what, at_ms=effect.lease_until_ms))
    return found + sweep_is_late(around)


def _unknown(effect: Effect, around: Around) -> list[Upcoming]:
    found = obstacles(effect, around)
    if effect.lease_until_ms is not None:
        found.append(
            Upcoming(what="A look is under way; if its worker is lost, another follows.", at_ms=effect.lease_until_ms)
        )
    due = effect.due_at_ms or around.now_ms
    if around.can_look is False:
        after = foresight.after_blindness(effect, max(due, around.now_ms), around.terms)
        becomes = (
            "STUCK: a person has to decide"
            if after is None or after.status == "STUCK"
            else "sent again under the same key"
        )
        return [*found, Upcoming(what=f"Nothing can look, so it is {becomes}.", at_ms=due)]
    if effect.lease_until_ms is None:
        left = max(around.terms.observe_attempts - effect.looks, 1)
        what = f"The upstream is asked. After {counted(left, 'more look')} without an answer it is STUCK."
        found.append(Upcoming(what=what, at_ms=due))
        if due <= around.now_ms:
            found += hint(effect.sweep_at_ms, around)
    return found + _if_absent(effect, due, around)


def _if_absent(effect: Effect, due: int, around: Around) -> list[Upcoming]:
    believed = max(due, effect.settled_at_ms or 0, around.now_ms)
    after = foresight.after_absence(effect, believed, around.terms)
    if after is None or after.status == "UNKNOWN":
        return []
    becomes = {
        "PENDING": "sent again under the same key",
        "FAILED": "FAILED, and watched",
        "CANCELLED": "CANCELLED, and watched",
    }.get(after.status, after.status)
    if not around.terms.watch_ms:
        becomes = becomes.removesuffix(", and watched")
    if (settled := effect.settled_at_ms or 0) <= max(due, around.now_ms):
        return [Upcoming(what=f"If that look says that the upstream does not have it, it is {becomes}.", at_ms=due)]
    what = (
        f"A look that begins from then on, and says that the upstream does not have it, is believed: it is {becomes}."
    )
    return [Upcoming(what=what, at_ms=settled)]


def _held_up_by(effect: Effect) -> list[Upcoming]:
    if not effect.ordering_key:
        return []
    return [Upcoming(what=f"What comes after it in ordering key {plain(effect.ordering_key)} waits with it.")]


def _watch(effect: Effect, around: Around) -> list[Upcoming]:
    if not effect.absent or effect.due_at_ms is None:
        return []
    spans = len(around.terms.watch_ms)
    what = (
        f"The absence is checked (watch {effect.watches + 1} of {spans}): if it has landed after all, it is STUCK as a "
        "contradiction."
    )
    return [Upcoming(what=what, at_ms=effect.due_at_ms), *obstacles(effect, around)]


def _debt(debt: Obligation) -> Upcoming:
    what = (
        f"Obligation {plain(debt.obligation_key)} ({debt.kind}), to undo {record(debt.external_ref)}, is {debt.status}"
    )
    if debt.status is ObligationStatus.STUCK:
        return Upcoming(what=f"{what}: {short(debt.reason)}. It waits for a person.")
    if debt.status is ObligationStatus.COMPENSATED:
        return Upcoming(what=f"{what}.")
    return Upcoming(what=f"{what}.", at_ms=debt.lease_until_ms or debt.due_at_ms)


def _turn_in_run(effect: Effect, around: Around) -> list[Upcoming]:
    run, owed = around.run, any(debt.external_ref == effect.external_ref for debt in around.obligations)
    if (
        owed
        or effect.semantics is Semantics.OBSERVE_ONLY
        or run.status in (RunStatus.OPEN, RunStatus.CANCELLING, RunStatus.CANCELLED, RunStatus.COMPENSATED)
    ):
        return []
    if run.status is RunStatus.STUCK:
        return [
            Upcoming(what=f"Its run {plain(run.run_id)} is undone, but that waits for a person: {short(run.reason)}.")
        ]
    what = f"Its run {plain(run.run_id)} is undone, newest first ({short(run.closing_reason)}): its turn comes."
    return [Upcoming(what=what)]


def summary(found: tuple[Upcoming, ...]) -> str:
    """The soonest of what has a time, for a headline; else the first."""
    if not found:
        return ""
    first = found[0]
    return first.what if first.at_ms is None else f"{at(first.at_ms)}: {first.what}"
