"""What a closed run does next, in words: asked of `tape_celery.run_state.decide`, as the walk itself does."""

from __future__ import annotations

from collections.abc import Sequence

from tape_celery import run_state
from tape_celery.explanation.wording import at, counted, listed, plain, short
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, Run, RunStatus

MOST_NAMED = 5
"""The most effects that a sentence names."""


def waits_for(run: Run, effects: Sequence[Effect], obligations: Sequence[Obligation]) -> str:
    """One sentence: what the run does or waits for; ``effects`` and ``obligations`` are all that are in it."""
    if run.status is RunStatus.OPEN:
        return "It is open: more may be recorded into it, and nothing of it is undone."
    open_effects = [one for one in effects if one.status not in (EffectStatus.FAILED, EffectStatus.CANCELLED)]
    step = run_state.decide(run, open_effects, obligations)
    if step.cancel:
        return f"Next, what was not sent is cancelled: {_named(step.cancel)}."
    if step.owe:
        return f"Next, effect {plain(step.owe)} is undone."
    if step.status is RunStatus.STUCK:
        return f"It waits for a person: {short(step.reason)}."
    if step.status in (RunStatus.CANCELLED, RunStatus.COMPENSATED):
        return f"It is over, since {at(run.updated_at_ms)}."
    moving = (EffectStatus.DISPATCHING, EffectStatus.UNKNOWN)
    if waiting := [one.effect_key for one in open_effects if one.status in moving]:
        return f"It waits for the outcome of what is under way: {_named(waiting)}."
    debts = [one for one in obligations if one.status is not ObligationStatus.COMPENSATED]
    return f"It waits for {_named([one.obligation_key for one in debts], 'obligation')} to be done."


def _named(keys: Sequence[str], what: str = "effect") -> str:
    shown = [plain(key) for key in keys[:MOST_NAMED]]
    if len(keys) > MOST_NAMED:
        shown.append(f"{len(keys) - MOST_NAMED} more")
    return f"{counted(len(keys), what)} ({listed(shown)})"
