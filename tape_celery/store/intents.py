"""Recording an intent: one effect and its first journal entry, once for every key, under any race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, insert, select
from sqlalchemy.exc import IntegrityError

from tape_celery.announcing import Change
from tape_celery.errors import (
    CommitNotDurable,
    CommitUncertain,
    IntentUncertain,
    KeyConflict,
    QueueFull,
    RunClosed,
    StoreUnavailable,
)
from tape_celery.intent import Intent
from tape_celery.records import Effect, EffectStatus, replace
from tape_celery.schema import effects
from tape_celery.store import callbacks, holds, new_rows, orderings, queues, runs, tombstones
from tape_celery.store.database import Database
from tape_celery.store.pipelining import commit_at_once, rows_of
from tape_celery.store.rows import EFFECTS, entry
from tape_celery.store.tombstones import STAND_IN

TRIES = 5
"""How often a key may be taken and freed again under our hands before it is an error."""

_INSERT = insert(effects)
_FIRST = Effect(effect_key="", connector="", idempotency_key="", run_id="", request_json="", request_digest="")
"""What every effect begins as, but for what its intent says."""


@dataclass(frozen=True)
class Recorded:
    """The effect that stands for an intent, and whether this call made it."""

    effect: Effect
    created: bool

    @property
    def due_now(self) -> bool:
        """Whether it was made just now, and is to be sent at once."""
        effect = self.effect
        if not self.created or effect.status is not EffectStatus.PENDING or effect.due_at_ms is None:
            return False
        return effect.due_at_ms <= effect.created_at_ms

    @property
    def changes(self) -> list[Change]:
        """What there is to tell of it: that it is HELD, and was made just now."""
        is_held = self.created and self.effect.status is EffectStatus.HELD
        return [Change(self.effect, "")] if is_held else []


def record(database: Database, intent: Intent, *, actor: str, hint_ms: int) -> Recorded:
    """Commit ``intent``, or find the effect that already stands for it.

    A sweep leaves the new effect to the caller's own hint for ``hint_ms``. Raises `KeyConflict` where a key belongs
    to another request, `QueueFull`, `StoreUnavailable` when nothing was recorded, `IntentUncertain` when nobody can
    tell.
    """
    uncertain: CommitUncertain | None = None
    for _ in range(TRIES):
        try:
            try:
                return database.write(lambda connection: _insert(connection, database, intent, actor, hint_ms))
            except (IntegrityError, tombstones.KeyBuried):
                pass
            except (RunClosed, QueueFull):
                if uncertain is None:
                    raise
            except CommitNotDurable as error:
                raise IntentUncertain(intent.effect_key, intent.idempotency_key) from error
            except CommitUncertain as error:
                uncertain = error
            existing = database.read(lambda connection: standing_for(connection, intent))
        except StoreUnavailable as error:
            if uncertain is None:
                raise
            # What was not seen when it was read back may be a COMMIT that the server is still at.
            raise IntentUncertain(intent.effect_key, intent.idempotency_key) from error
        if existing is not None:
            existing = EFFECTS.opened(existing, database.cipher)
            ours = uncertain is not None and existing.effect_key == intent.effect_key
            return Recorded(existing, created=ours)
    if uncertain is not None:
        raise IntentUncertain(intent.effect_key, intent.idempotency_key) from uncertain
    raise StoreUnavailable(f"the keys of this intent were taken and freed {TRIES} times while it was recorded")


def record_within(
    connection: Connection, database: Database, intent: Intent, *, actor: str, hint_ms: int, bounded: bool = False
) -> Recorded:
    """Record ``intent`` in a transaction that is somebody else's, or find the effect that already stands for it.

    What a try wrote in vain goes with its own savepoint. ``bounded``: some queue is. Raises `KeyConflict`,
    `QueueFull`, and `StoreUnavailable` where the key was taken by somebody whom this transaction's snapshot cannot see.
    """
    for _ in range(TRIES):
        try:
            with connection.begin_nested():
                recorded = insert_intent(connection, database, intent, actor, hint_ms)
                tombstones.refuse_unseen(connection, [intent])
                if bounded:
                    queues.refuse_full(connection, {intent.connector: 1})
                return recorded
        except (IntegrityError, tombstones.KeyBuried):
            existing = standing_for(connection, intent, latest=True)
        if existing is not None:
            return Recorded(EFFECTS.opened(existing, database.cipher), created=False)
    raise StoreUnavailable(
        "a key of this intent was taken by a transaction that this one cannot see; roll back, and run it again"
    )


def _insert(connection: Connection, database: Database, intent: Intent, actor: str, hint_ms: int) -> Recorded:
    """`insert_intent` in a transaction that has nothing else in it, and may be committed at once."""
    if connection.dialect.name == "postgresql" and intent.is_for_now and not (intent.ordering_key or intent.callbacks):
        recorded = _insert_at_once(connection, database, intent, actor, hint_ms)
        if recorded is not None:
            return recorded
    return insert_intent(connection, database, intent, actor, hint_ms, bounded=True)


def _insert_at_once(
    connection: Connection, database: Database, intent: Intent, actor: str, hint_ms: int
) -> Recorded | None:
    """Row and entry with their COMMIT in one way there and back; ``None``: nothing was written, and it is to be done in
    the ordinary way."""
    first_entry = tombstones.entry_at_once(intent, recorded_entry(effect_of(intent, STAND_IN, hint_ms), actor))
    if first_entry is None:
        return None
    row_for_now = new_rows.row_for_now(database, effect_of(intent, 0, hint_ms), hint_ms)
    committed = commit_at_once(connection, row_for_now, first_entry)
    if committed is None:
        return None
    [(now,)] = rows_of(committed[0])
    return Recorded(effect_of(intent, now, hint_ms), created=True)


def insert_intent(
    connection: Connection, database: Database, intent: Intent, actor: str, hint_ms: int, *, bounded: bool = False
) -> Recorded:
    """Write ``intent`` as one row and its journal entry, in the caller's transaction.

    Raises SQLAlchemy's `IntegrityError` where a key of it is taken, `KeyBuried` where a tombstone has it, `RunClosed`;
    and where it counts among those that may wait, ``bounded``, `QueueFull`.
    """
    if intent.run_id != intent.effect_key:
        runs.refuse_closed(connection, intent.run_id)
    number = 0
    if intent.ordering_key:
        number = orderings.take_numbers(connection, {intent.ordering_key: 1})[intent.ordering_key]
    similar: holds.Similar | None = None
    if intent.is_for_now and connection.dialect.insert_returning:
        effect = _insert_for_now(connection, database, intent, hint_ms, number)
    else:
        now = database.read_now(connection)
        effect = effect_of(intent, now, hint_ms, number)
        similar = holds.similar_to(connection, intent, now)
        if similar is not None:
            effect = replace(effect, status=EffectStatus.HELD, reason=similar.reason, sweep_at_ms=effect.expires_at_ms)
        connection.execute(_INSERT, EFFECTS.sealed(effect.effect_key, EFFECTS.columns(effect), database.cipher))
    tombstones.write_entry(connection, intent, recorded_entry(effect, actor, similar), bounded=bounded)
    callbacks.keep(connection, database, {effect.effect_key: effect.status}, {effect.effect_key: intent.callbacks})
    recorded = Recorded(effect, created=True)
    announce_within(connection, database, recorded.changes)
    return recorded


def announce_within(connection: Connection, database: Database, changes: Sequence[Change]) -> None:
    """Record the webhooks that tell of ``changes``, in their transaction; a sweep sends them."""
    if database.announcer is not None and changes:
        for intent in database.announcer.intents(changes):
            insert_intent(connection, database, intent, "announcer", 0)


def announce(database: Database, changes: Sequence[Change]) -> None:
    """Send the signals of ``changes``, which were committed."""
    if database.announcer is not None:
        database.announcer.committed(changes)


def _insert_for_now(connection: Connection, database: Database, intent: Intent, hint_ms: int, number: int) -> Effect:
    row_for_now = new_rows.row_for_now(database, effect_of(intent, 0, hint_ms, number), hint_ms)
    now = connection.execute(*row_for_now).scalar_one()
    return effect_of(intent, now, hint_ms, number)


def recorded_entry(effect: Effect, actor: str, similar: holds.Similar | None = None) -> dict[str, Any]:
    """The first journal entry of ``effect``."""
    evidence: dict[str, Any] = {
        "event": "Recorded",
        "request_digest": effect.request_digest,
        "semantics": effect.semantics,
        "max_attempts": effect.max_attempts,
        "due_at_ms": effect.due_at_ms,
        "expires_at_ms": effect.expires_at_ms,
    }
    if similar is not None:
        evidence |= {"similar_to": similar.effect_key, "reason": similar.reason}
    if effect.reissue_of:
        evidence["reissue_of"] = effect.reissue_of
    return entry(effect, "recorded", head="", from_status="", actor=actor, evidence=evidence)


def effect_of(intent: Intent, now: int, hint_ms: int, number: int = 0) -> Effect:
    """The row that ``intent`` becomes."""
    due = max(now + intent.delay_ms, intent.due_at_ms or 0)
    expires = intent.expires_at_ms if intent.expires_in_ms is None else now + intent.expires_in_ms
    sweep = due + hint_ms if due <= now else due
    return replace(
        _FIRST,
        effect_key=intent.effect_key,
        connector=intent.connector,
        effect_name=intent.effect_name,
        semantics=intent.semantics,
        idempotency_key=intent.idempotency_key,
        business_key=intent.business_key,
        holds_business_key=bool(intent.business_key),
        run_id=intent.run_id,
        request_json=intent.request_json,
        request_digest=intent.request_digest,
        max_attempts=intent.max_attempts,
        due_at_ms=due,
        sweep_at_ms=sweep if expires is None else min(sweep, expires),
        expires_at_ms=expires,
        created_at_ms=now,
        updated_at_ms=now,
        priority=intent.priority,
        ordering_key=intent.ordering_key,
        order_number=number,
        reissue_of=intent.reissue_of,
        similar_digest=intent.similar_digest,
        traceparent=intent.traceparent,
    )


def standing_for(connection: Connection, intent: Intent, *, latest: bool = False) -> Effect | None:
    """The effect that has the intent's key, or what was left of it; raises `KeyConflict`."""
    return _alive(connection, intent, latest) or tombstones.standing_for(connection, intent)


def _alive(connection: Connection, intent: Intent, latest: bool) -> Effect | None:
    """The effect that has the intent's key, if its request is the same; raises `KeyConflict` if it is not.

    ``latest``: what was committed last, where this transaction would read an older snapshot, and MySQL lets it see.
    """

    def row_where(condition: ColumnElement[bool]) -> RowMapping | None:
        statement = select(effects).where(condition)
        if latest and connection.dialect.name in ("mysql", "mariadb"):
            statement = statement.with_for_update(read=True)
        return connection.execute(statement).mappings().first()

    by_idempotency_key = effects.c.idempotency_key == intent.idempotency_key
    row = row_where(by_idempotency_key)
    if row is not None:
        found = EFFECTS.read(row)
        _refuse_conflict(found, intent, f"idempotency_key {intent.idempotency_key!r}")
        if intent.business_key and found.business_key != intent.business_key:
            raise KeyConflict(
                f"idempotency_key {intent.idempotency_key!r} belongs to effect {found.effect_key} with business_key "
                f"{found.business_key!r}, not {intent.business_key!r}",
                effect_key=found.effect_key,
            )
        return found
    taken = row_where(effects.c.effect_key == intent.effect_key)
    if taken is not None:
        raise KeyConflict(
            f"effect key {intent.effect_key!r} belongs to another effect ({taken['status']})",
            effect_key=intent.effect_key,
        )
    if not intent.business_key:
        return None
    held = (effects.c.connector == intent.connector) & (effects.c.held_business_key == intent.business_key)
    row = row_where(held)
    if row is None:
        return None
    found = EFFECTS.read(row)
    _refuse_conflict(found, intent, f"business_key {intent.business_key!r} of {intent.connector!r}")
    return found


def _refuse_conflict(found: Effect, intent: Intent, key: str) -> None:
    same = (found.connector, found.request_digest) == (intent.connector, intent.request_digest)
    if not same:
        raise KeyConflict(
            f"{key} belongs to effect {found.effect_key} ({found.status}) of connector {found.connector!r} with "
            f"request {found.request_digest[:12]}; this request, for {intent.connector!r}, is "
            f"{intent.request_digest[:12]}",
            effect_key=found.effect_key,
        )
