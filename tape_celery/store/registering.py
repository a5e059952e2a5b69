"""What a move registers as owed: one obligation for each record, whatever the reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from tape_celery import state
from tape_celery.errors import NotAllowed
from tape_celery.events import Event, OweAsked
from tape_celery.intent import new_key
from tape_celery.records import Effect, Obligation, ObligationStatus
from tape_celery.schema import obligations
from tape_celery.store.rows import entry


def not_owed_yet(connection: Connection, effect: Effect, event: Event, owed: Sequence[state.Owed]) -> list[state.Owed]:
    """Those of ``owed`` whose record has no obligation yet: there is at most one, whatever its reason.

    All of an effect's obligations are registered together with a write to its row, so the guard of that write is
    theirs too.
    """
    if not owed:
        return []
    statement = select(obligations).where(obligations.c.effect_key == effect.effect_key)
    existing = {row["external_ref"]: row for row in connection.execute(statement).mappings()}
    if isinstance(event, OweAsked) and effect.external_ref in existing:
        row = existing[effect.external_ref]
        why = f"obligation {row['obligation_key']} for the same record is {row['status']}"
        raise NotAllowed(effect.effect_key, effect.status, "to owe its compensation", why)
    fresh = {debt.external_ref: debt for debt in reversed(owed) if debt.external_ref not in existing}
    return list(fresh.values())


def first_entry(debt: Obligation, event: Event) -> dict[str, Any]:
    """The first journal entry of ``debt``, which ``event`` registered."""
    evidence = {"event": "Registered", "kind": debt.kind, "external_ref": debt.external_ref, "reason": debt.reason}
    return entry(debt, "recorded", head="", from_status="", actor=event.actor, evidence=evidence)


def obligation(effect: Effect, owed: state.Owed, event: Event) -> Obligation:
    """What ``owed`` is as a row, with a fresh key."""
    key = new_key()
    payload = {
        "external_ref": owed.external_ref,
        "effect_key": effect.effect_key,
        "idempotency_key": effect.idempotency_key,
        "business_key": effect.business_key,
        "run_id": effect.run_id,
        "kind": owed.kind,
        "request": effect.request,
    }
    due = event.at_ms if owed.status is ObligationStatus.PENDING else None
    return Obligation(
        obligation_key=key,
        effect_key=effect.effect_key,
        run_id=effect.run_id,
        connector=effect.connector,
        effect_name=effect.effect_name,
        kind=owed.kind,
        external_ref=owed.external_ref,
        payload_json=json.dumps(payload, sort_keys=True, separators=(",", ":")),
        status=owed.status,
        reason=owed.reason,
        idempotency_key=f"compensate:{key}",
        max_attempts=effect.max_attempts,
        due_at_ms=due,
        sweep_at_ms=due,
        created_at_ms=event.at_ms,
        updated_at_ms=event.at_ms,
        traceparent=effect.traceparent,
        dispatch_traceparent=effect.dispatch_traceparent,
    )
