"""Recording many intents: all of them in one transaction, or none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import (
    CommitNotDurable,
    CommitUncertain,
    IntentUncertain,
    InvalidIntent,
    KeyConflict,
    QueueFull,
    StoreUnavailable,
)
from tape_celery.intent import Callback, Intent
from tape_celery.records import Effect
from tape_celery.schema import effects
from tape_celery.store import callbacks, intents, new_rows, orderings, queues, runs, sharing, tombstones
from tape_celery.store.database import Database
from tape_celery.store.intents import Recorded
from tape_celery.store.rows import EFFECTS, write_journal
from tape_celery.store.together import among

CHUNK = 500
"""Rows of one statement."""

_OF_IDEMPOTENCY_KEYS = select(effects.c.idempotency_key).where(among(effects.c.idempotency_key, "keys"))
_OF_BUSINESS_KEYS = select(effects.c.held_business_key).where(
    effects.c.connector == bindparam("connector"), among(effects.c.held_business_key, "keys")
)


@contextmanager
def item(index: int) -> Iterator[None]:
    """Let an error that refuses an intent say which one of many it was."""
    try:
        yield
    except InvalidIntent as error:
        error.args = (f"item {index}: {error}", *error.args[1:])
        raise


def record_many(database: Database, asked: Sequence[Intent], *, actor: str, hint_ms: int) -> list[Recorded]:
    """Commit all of ``asked``, or find the effects that stand for them already; in the order of ``asked``.

    Two of one key and the same request are one effect. Raises what `intents.record` does, and nothing was recorded
    then (`QueueFull`: those that are new are too many); `IntentUncertain` names the first of them: all of them were
    recorded, or none.
    """
    uncertain: CommitUncertain | None = None
    buried = False
    for _ in range(intents.TRIES):
        try:
            try:
                unit = partial(
                    _record,
                    database=database,
                    asked=asked,
                    actor=actor,
                    hint_ms=hint_ms,
                    again=uncertain is not None,
                    latest=buried,
                )
                return database.write(unit)
            except IntegrityError:
                continue
            except tombstones.KeyBuried:
                buried = True
            except QueueFull:
                if uncertain is None:
                    raise
            except CommitNotDurable as error:
                raise _uncertain(asked) from error
            except CommitUncertain as error:
                uncertain = error
        except StoreUnavailable as error:
            if uncertain is None:
                raise
            raise _uncertain(asked) from error
    if uncertain is not None:
        raise _uncertain(asked) from uncertain
    raise StoreUnavailable(f"keys of these intents were taken and freed {intents.TRIES} times while they were recorded")


def record_many_within(
    connection: Connection, database: Database, asked: Sequence[Intent], *, actor: str, hint_ms: int
) -> list[Recorded]:
    """`record_many` in a transaction that is somebody else's; see `intents.record_within`."""
    for tries in range(intents.TRIES):
        try:
            with connection.begin_nested():
                recorded = _record(connection, database, asked, actor, hint_ms, latest=tries > 0)
                made = [intent for one, intent in zip(recorded, asked, strict=True) if one.created]
                tombstones.refuse_unseen(connection, made)
                return recorded
        except (IntegrityError, tombstones.KeyBuried):
            continue
    raise StoreUnavailable(
        "a key of these intents was taken by a transaction that this one cannot see; roll back, and run it again"
    )


def _uncertain(asked: Sequence[Intent]) -> IntentUncertain:
    error = IntentUncertain(asked[0].effect_key, asked[0].idempotency_key)
    error.add_note(f"it is the first of {len(asked)} that were to be recorded together: all of them were, or none")
    return error


def _record(
    connection: Connection,
    database: Database,
    asked: Sequence[Intent],
    actor: str,
    hint_ms: int,
    *,
    again: bool = False,
    latest: bool = False,
) -> list[Recorded]:
    """``again``: they may have been recorded before, by a transaction whose answer was lost. ``latest``: so may others
    have been, by one that this transaction's snapshot does not show."""
    first = _first_of_each(asked)
    maybe = range(len(asked)) if again or latest else _taken(connection, asked)
    found: dict[int, Recorded] = {}
    for index in sorted({first[index] for index in maybe}):
        with item(index):
            existing = intents.standing_for(connection, asked[index], latest=latest)
        if existing is not None:
            ours = again and existing.effect_key == asked[index].effect_key
            found[index] = Recorded(EFFECTS.opened(existing, database.cipher), created=ours)
    fresh = [index for index in sorted(set(first)) if index not in found]
    made = _insert(connection, database, [asked[index] for index in fresh], actor, hint_ms)
    found |= dict(zip(fresh, made, strict=True))
    recorded = [
        found[leader] if leader == index else Recorded(found[leader].effect, created=False)
        for index, leader in enumerate(first)
    ]
    shared: set[str] = set()
    for one, intent in zip(recorded, asked, strict=True):
        if sharing.is_needed(one, intent) and one.effect.effect_key not in shared:
            sharing.share(connection, database, one, intent, actor=actor)
            shared.add(one.effect.effect_key)
    _keep_callbacks(connection, database, recorded, asked)
    return recorded


def _keep_callbacks(
    connection: Connection, database: Database, recorded: Sequence[Recorded], asked: Sequence[Intent]
) -> None:
    """Two of ``asked`` may be one effect, which then has the callbacks of both."""
    wanted: dict[str, list[Callback]] = defaultdict(list)
    for one, intent in zip(recorded, asked, strict=True):
        if intent.callbacks:
            wanted[one.effect.effect_key].extend(intent.callbacks)
    statuses = callbacks.lock(connection, wanted)
    for index, (one, intent) in enumerate(zip(recorded, asked, strict=True)):
        if intent.callbacks:
            with item(index):
                callbacks.refuse_pruned(one.effect.effect_key, statuses)
    callbacks.keep(connection, database, statuses, wanted)


def _first_of_each(asked: Sequence[Intent]) -> list[int]:
    """For each of ``asked`` the index of the first one that is the same effect, its own where there is none."""
    by_key: dict[tuple[str, ...], int] = {}
    found: list[int] = []
    for index, intent in enumerate(asked):
        keys: list[tuple[str, ...]] = [("idempotency_key", intent.idempotency_key)]
        if intent.business_key:
            keys.append(("business_key", intent.connector, intent.business_key))
        leader = next((by_key[key] for key in keys if key in by_key), index)
        if leader != index:
            with item(index):
                _refuse_another(asked[leader], leader, intent)
        for key in keys:
            by_key.setdefault(key, leader)
        found.append(leader)
    return found


def _refuse_another(first: Intent, index: int, intent: Intent) -> None:
    same_request = (first.connector, first.request_digest) == (intent.connector, intent.request_digest)
    same_key = first.idempotency_key == intent.idempotency_key
    if not same_request or (same_key and intent.business_key and first.business_key != intent.business_key):
        raise KeyConflict(
            f"it has a key of item {index}, and is another request: {intent.request_digest[:12]} of "
            f"{intent.connector!r} with business_key {intent.business_key!r}, not {first.request_digest[:12]} of "
            f"{first.connector!r} with business_key {first.business_key!r}",
            effect_key=first.effect_key,
        )


def _taken(connection: Connection, asked: Sequence[Intent]) -> set[int]:
    """Those of ``asked`` that an effect may stand for already."""
    # A key that was made just now is nobody's.
    named = {one.idempotency_key: index for index, one in enumerate(asked) if one.idempotency_key != one.effect_key}
    found = {named[key] for key in _existing(connection, _OF_IDEMPOTENCY_KEYS, list(named))}
    held: dict[str, dict[str, int]] = {}
    for index, one in enumerate(asked):
        if one.business_key:
            held.setdefault(one.connector, {})[one.business_key] = index
    for connector, by_key in held.items():
        existing = _existing(connection, _OF_BUSINESS_KEYS, list(by_key), connector=connector)
        found |= {by_key[key] for key in existing}
    return found


def _existing(connection: Connection, statement: Select[Any], keys: Sequence[str], **others: str) -> Iterator[str]:
    for start in range(0, len(keys), CHUNK):
        yield from connection.execute(statement, {"keys": keys[start : start + CHUNK], **others}).scalars()


def _insert(
    connection: Connection, database: Database, asked: Sequence[Intent], actor: str, hint_ms: int
) -> list[Recorded]:
    added = Counter(intent.connector for intent in asked)
    if any(intent.hold_within_ms is not None for intent in asked):
        # Each of them may look like the one before it.
        recorded = [intents.insert_intent(connection, database, intent, actor, hint_ms) for intent in asked]
        queues.refuse_full(connection, added)
        return recorded
    for run_id in sorted({intent.run_id for intent in asked if intent.run_id != intent.effect_key}):
        runs.refuse_closed(connection, run_id)
    counts = Counter(intent.ordering_key for intent in asked if intent.ordering_key)
    following = orderings.take_numbers(connection, counts)
    now, bounded = queues.now_and_any_bounded(connection, database)
    made: list[Effect] = []
    for intent in asked:
        number = following.get(intent.ordering_key, 0)
        if intent.ordering_key:
            following[intent.ordering_key] += 1
        made.append(intents.effect_of(intent, now, hint_ms, number))
    # In one order for everybody, so that two lists of the same keys do not wait for each other.
    in_order = sorted(range(len(made)), key=lambda index: _keys_of(asked[index]))
    for start in range(0, len(made), CHUNK):
        chosen = in_order[start : start + CHUNK]
        chunk = [made[index] for index in chosen]
        new_rows.insert_all(connection, database, chunk)
        tombstones.refuse_buried(connection, [asked[index] for index in chosen])
        write_journal(connection, [intents.recorded_entry(effect, actor) for effect in chunk])
    if bounded:
        queues.refuse_full(connection, added)
    return [Recorded(effect, created=True) for effect in made]


def _keys_of(intent: Intent) -> tuple[str, str, str]:
    return intent.connector, intent.business_key, intent.idempotency_key
