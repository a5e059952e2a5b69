"""Walking a closed run: step by step, each in one transaction with its journal entries, by anybody at any time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from tape_celery import failpoints, run_state
from tape_celery.announcing import Change
from tape_celery.errors import CommitUncertain
from tape_celery.events import CancelAsked, OweAsked
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, Run, RunStatus
from tape_celery.schema import effects, obligations
from tape_celery.store import intents, moves, runs
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS

MOST_STEPS = 1000
"""The most steps that one walk takes; the sweep goes on."""
CHUNK = 200
"""The most effects that one step cancels."""
_OVER = (EffectStatus.FAILED.value, EffectStatus.CANCELLED.value)


@dataclass
class Walk:
    """Where a walk came to, and the obligations that it registered."""

    run: Run
    owed: list[str] = field(default_factory=list)


class _Moved(Exception):
    """Something in the run moved while the step was made."""


def walk(database: Database, run_id: str, *, terms: Callable[[Effect], Terms], actor: str, sweep_ms: int) -> Walk:
    """Take the steps of the closed run that can be taken now; until it is over it is swept every ``sweep_ms``.

    Two that walk one run at once never take a step twice, nor one out of turn: each step stands only if nothing in the
    run has moved since it was decided. A process that dies on the way leaves it to the next. Raises
    `StoreUnavailable`; then what was done so far stays done.
    """
    owed: list[str] = []
    run = runs.get(database, run_id)
    for _ in range(MOST_STEPS):
        if run.status is RunStatus.OPEN:
            break
        try:
            before, run, done = database.write(
                lambda connection: _step(connection, database, run_id, terms, actor, sweep_ms)
            )
        except (_Moved, CommitUncertain):
            continue
        failpoints.reach("run.advanced")
        moves.told(database, done, _changes(before, run))
        owed.extend(key for one in done for key in one.owed)
        if not done:
            break
    return Walk(run, owed)


def _step(
    connection: Connection,
    database: Database,
    run_id: str,
    terms: Callable[[Effect], Terms],
    actor: str,
    sweep_ms: int,
) -> tuple[Run, Run, list[moves.Moved[Effect]]]:
    """One step: what was read decides, the rows of effects are written first and the run's last, under its version.

    The run before and after it, and what was moved.
    """
    run = runs.read(connection, run_id)
    in_run = select(effects).where(runs.contains(run_id), effects.c.status.not_in(_OVER))
    found = [EFFECTS.read(row) for row in connection.execute(in_run).mappings()]
    debts = connection.execute(select(obligations).where(obligations.c.run_id == run_id)).mappings()
    step = run_state.decide(run, found, map(OBLIGATIONS.read, debts))
    reason = f"run {run_id} ({run.closing_reason})"
    by_key = {effect.effect_key: effect for effect in found}
    asked = [
        moves.Move(key, CancelAsked(actor=actor, reason=reason, before_call=True), terms(by_key[key]))
        for key in step.cancel[:CHUNK]
    ]
    if step.owe:
        asked = [moves.Move(step.owe, OweAsked(actor=actor, reason=reason, kind="run"), terms(by_key[step.owe]))]
    results = moves.move_within(connection, database, EFFECTS, asked) if asked else {}
    done = [result for result in results.values() if isinstance(result, moves.Moved)]
    if not runs.write_step(connection, database, run, step.status, reason=step.reason, sweep_in_ms=sweep_ms):
        raise _Moved
    after = runs.read(connection, run_id)
    intents.announce_within(connection, database, _changes(run, after))
    return run, after, done


def _changes(before: Run, after: Run) -> list[Change]:
    return [Change(after, before.status)] if before.status is not after.status else []
