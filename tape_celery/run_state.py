"""What a closed run does next, as one pure function: `decide(run, effects, obligations)`.

                ┌──cancel──▶ CANCELLING ──nothing is pending or under way──▶ CANCELLED
     OPEN ──────┤                └─────────────compensate────────────┐           │
                └──compensate──▶ COMPENSATING ◀──────────────────────┴───────────┘
                                   │   ▲   └──everything that was confirmed is undone──▶ COMPENSATED
                   something in it ▼   │ a person has resolved it
                      is STUCK   STUCK ┘

A run is closed for good: nothing is recorded into it any more. What it does next depends on nothing but what its
effects and obligations are now, so it may be decided again at any time, by anybody; CANCELLED and COMPENSATED too are
left again when something new is found in the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, Run, RunStatus, Semantics

_UNSENT = (EffectStatus.PENDING, EffectStatus.HELD)
_UNDER_WAY = (EffectStatus.DISPATCHING, EffectStatus.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The run's state from now on, and what is to be done with that: some are cancelled, or one is owed, or neither."""

    status: RunStatus
    reason: str = ""
    """What a STUCK run waits for."""
    cancel: tuple[str, ...] = ()
    owe: str = ""


def decide(run: Run, effects: Sequence[Effect], obligations: Iterable[Obligation]) -> Step:
    """The next step of the closed ``run``, whose effects and obligations these are. An open run has none."""
    walking = RunStatus.CANCELLING if run.status.cancels else RunStatus.COMPENSATING
    unsent = tuple(effect.effect_key for effect in effects if effect.status in _UNSENT)
    if unsent:
        return Step(status=walking, cancel=unsent)
    if run.status.cancels:
        moving = any(effect.status in _UNDER_WAY for effect in effects)
        return Step(status=walking if moving else RunStatus.CANCELLED)
    for effect in effects:
        if effect.status is EffectStatus.STUCK:
            return Step(status=RunStatus.STUCK, reason=f"effect {effect.effect_key} is STUCK: {effect.reason}")
    if any(effect.status in _UNDER_WAY for effect in effects):
        return Step(status=walking)
    debts = {(debt.effect_key, debt.external_ref): debt for debt in obligations}
    for effect in newest_first(effects):
        if effect.status is not EffectStatus.CONFIRMED or effect.semantics is Semantics.OBSERVE_ONLY:
            continue
        debt = debts.get((effect.effect_key, effect.external_ref))
        if debt is None:
            return Step(status=walking, owe=effect.effect_key)
        if debt.status is ObligationStatus.STUCK:
            why = f"obligation {debt.obligation_key} of effect {effect.effect_key} is STUCK: {debt.reason}"
            return Step(status=RunStatus.STUCK, reason=why)
        if debt.status is not ObligationStatus.COMPENSATED:
            return Step(status=walking)
    return Step(status=RunStatus.COMPENSATED)


def newest_first(effects: Iterable[Effect]) -> list[Effect]:
    """By the database's time of recording; keys are made elsewhere, and only tell two of one millisecond apart."""
    return sorted(effects, key=lambda effect: (effect.created_at_ms, effect.effect_key), reverse=True)
