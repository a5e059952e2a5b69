"""Many intents at once: one transaction, and few hints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tape_celery import canvas, failpoints, hints, tracing, transactions
from tape_celery.handle import EffectHandle
from tape_celery.intent import Intent
from tape_celery.store import app_transaction, bulk, intents
from tape_celery.store.intents import Recorded

if TYPE_CHECKING:
    from tape_celery.tape import Tape


@tracing.recording
def submit(tape: Tape, asked: Sequence[Intent], *, actor: str) -> list[EffectHandle]:
    """Record ``asked`` in one transaction and publish their hints."""
    recorded = bulk.record_many(tape.database, asked, actor=actor, hint_ms=_hint_ms(tape))
    failpoints.reach("record.committed")
    intents.announce(tape.database, [change for one in recorded for change in one.changes])
    _hint(tape, recorded)
    found = {one.effect.effect_key for one, of in zip(recorded, asked, strict=True) if of.callbacks and not one.created}
    if found:
        canvas.send_due(tape, sorted(found))
    return _handles(tape, recorded)


@tracing.recording
def submit_within(
    tape: Tape, asked: Sequence[Intent], session: Any, *, actor: str, forget: Callable[[], None]
) -> list[EffectHandle]:
    """Record ``asked`` in the transaction of ``session``; their hints follow the commit."""
    hint_ms = _hint_ms(tape)
    with transactions.joined(session) as (connection, follower):
        recorded = app_transaction.within(
            connection,
            tape.database,
            lambda _bounded: bulk.record_many_within(connection, tape.database, asked, actor=actor, hint_ms=hint_ms),
        )
    follower.add(tape, recorded, forget=forget)
    return _handles(tape, recorded)


def _hint(tape: Tape, recorded: Sequence[Recorded]) -> None:
    """A message for many keys each; what a slow broker does not take in the time of one is the sweep's."""
    eager = tape.app.conf.task_always_eager  # it is not the broker then that takes its time
    give_up = math.inf if eager else time.monotonic() + tape.settings.publish_timeout_seconds
    wanted = [
        hints.Wanted(one.effect.effect_key, one.effect.connector, one.effect.priority)
        for one in recorded
        if one.due_now
    ]
    for hint in hints.grouped(wanted, tape.settings.chunk_size):
        if not tape.hint("dispatch", hint.connector, hint.keys, priority=hint.priority) or time.monotonic() > give_up:
            return


def _handles(tape: Tape, recorded: Sequence[Recorded]) -> list[EffectHandle]:
    return [EffectHandle(one.effect.effect_key, tape) for one in recorded]


def _hint_ms(tape: Tape) -> int:
    return round(tape.settings.sweep_seconds * 1000)
