"""What is left of effects that were pruned: their keys stay taken, and who comes with one meets what it stood for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    RowMapping,
    Select,
    Text,
    bindparam,
    case,
    cast,
    exists,
    func,
    insert,
    not_,
    null,
    or_,
    select,
)
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import KeyConflict
from tape_celery.intent import Intent
from tape_celery.records import Effect, EffectStatus
from tape_celery.schema import effects, journal, tombstones
from tape_celery.store import queues, runs
from tape_celery.store.database import Database
from tape_celery.store.rows import chained
from tape_celery.store.together import among

PRUNED = "pruned"
"""The reason that an effect shows of which only the tombstone is left."""


class KeyBuried(Exception):
    """A key of an intent belongs to an effect that was pruned; the transaction that met it must not be committed."""


def get(database: Database, effect_key: str) -> Effect | None:
    """What is left of the effect with that key, if it was pruned."""
    statement = select(tombstones).where(tombstones.c.effect_key == effect_key)
    row = database.read(lambda connection: connection.execute(statement).mappings().first())
    return None if row is None else _read(row)


def refuse_buried(connection: Connection, asked: Sequence[Intent]) -> None:
    """Raise `KeyBuried` where a key of one of ``asked`` is taken by a tombstone.

    To be called after the rows were inserted, in their transaction: an index made that wait for whoever was pruning the
    effect that had the key, and what they left is seen by now.
    """
    held: dict[str, list[str]] = defaultdict(list)
    for intent in asked:
        if intent.business_key:
            held[intent.connector].append(intent.business_key)
    keys: dict[str, Any] = {
        "effect_keys": [intent.effect_key for intent in asked],
        "idempotency_keys": [intent.idempotency_key for intent in asked],
    }
    for number, (connector, business_keys) in enumerate(held.items()):
        keys |= {f"connector_{number}": connector, f"business_keys_{number}": business_keys}
    row = connection.execute(_buried(connection.dialect.name, len(held)), keys).mappings().first()
    if row is not None:
        raise KeyBuried(row["effect_key"])


@lru_cache(maxsize=64)
def _buried(dialect: str, connectors: int) -> Select[Any]:
    """One question for all keys, made once for as many connectors: making it takes as long as executing it."""
    t = tombstones.c
    held = (
        (t.connector == bindparam(f"connector_{n}")) & among(t.held_business_key, f"business_keys_{n}")
        for n in range(connectors)
    )
    by_effect_key = among(t.effect_key, "effect_keys")
    by_idempotency_key = among(t.idempotency_key, "idempotency_keys")
    # Without LIMIT: PostgreSQL, which takes each key for a hit, would read all tombstones to find the first one soon.
    return _latest(select(tombstones).where(or_(by_effect_key, by_idempotency_key, *held)), dialect)


def write_entry(connection: Connection, intent: Intent, row: Mapping[str, Any], *, bounded: bool = False) -> None:
    """Write ``row``, the first journal entry of ``intent``; raises `KeyBuried` as `refuse_buried` does, in one way
    there and back.

    ``bounded``: it counts among those that may wait. Raises `QueueFull` where these are too many.
    """
    given = {**row, **_keys(intent)}
    if bounded and connection.execute(_entry_unless_refused(), {**given, "queue": intent.connector}).rowcount == 1:
        return
    # There is no bound for whom it is "": no connector has that name.
    if connection.execute(_entry_unless_refused(), {**given, "queue": ""}).rowcount != 1:
        raise KeyBuried(intent.effect_key)
    if bounded:
        queues.refuse_full(connection, {intent.connector: 1})


def _keys(intent: Intent) -> dict[str, str | None]:
    """The parameters of `_is_buried`."""
    return {
        "buried_effect_key": intent.effect_key,
        "buried_idempotency_key": intent.idempotency_key,
        "buried_connector": intent.connector,
        "buried_business_key": intent.business_key or None,
    }


def _is_buried() -> ColumnElement[bool]:
    t = tombstones.c
    return exists().where(
        or_(
            t.effect_key == bindparam("buried_effect_key"),
            t.idempotency_key == bindparam("buried_idempotency_key"),
            (t.connector == bindparam("buried_connector"))
            & (t.held_business_key == bindparam("buried_business_key", type_=t.held_business_key.type)),
        )
    )


@cache
def _entry_unless_refused() -> Insert:
    values = [bindparam(column.name, type_=column.type) for column in journal.c]
    entry = select(*values).where(not_(_is_buried()), not_(queues.is_bounded(bindparam("queue"))))
    # SQLAlchemy forgets how many rows an INSERT wrote, unless it is told not to.
    return insert(journal).from_select(list(journal.c), entry).execution_options(preserve_rowcount=True)


STAND_IN = 8_888_888_888_888_888
"""Stands in an entry for the instant of its row until the database puts that in its place."""


def entry_at_once(intent: Intent, row: Mapping[str, Any]) -> tuple[Insert, dict[str, Any]] | None:
    """The statement of `write_entry`, for one whose answer nobody waits for: it fails where a key is buried, the run is
    closed, or too many wait. ``row`` has `STAND_IN` for its instants; ``None`` where another thing in it looks like
    that.
    """
    chain_text, stand_in = chained("", row), str(STAND_IN)
    if (chain_text.count(stand_in), row["evidence_json"].count(stand_in)) != (2, 1):
        return None
    others = {name: value for name, value in row.items() if name not in ("key", "at_ms", "digest")}
    return _entry_or_violation(), {**others, **_keys(intent), "run_id": intent.run_id, "chained": chain_text}


@cache
def _entry_or_violation() -> Insert:
    instant = cast(effects.c.created_at_ms, Text)
    made: dict[str, ColumnElement[Any]] = {
        # The column is NOT NULL: the one without a key ends the transaction.
        "key": case(
            (
                or_(
                    _is_buried(),
                    runs.is_closed(bindparam("run_id", type_=Text)),
                    queues.is_exceeded(bindparam("buried_connector")),
                ),
                null(),
            ),
            else_=effects.c.effect_key,
        ),
        "at_ms": effects.c.created_at_ms,
        "evidence_json": func.replace(bindparam("evidence_json", type_=Text), str(STAND_IN), instant),
        "digest": func.encode(
            func.sha256(
                func.convert_to(func.replace(bindparam("chained", type_=Text), str(STAND_IN), instant), "UTF8")
            ),
            "hex",
        ),
    }
    values = [made.get(column.name, bindparam(column.name, type_=column.type)) for column in journal.c]
    return insert(journal).from_select(
        list(journal.c), select(*values).where(effects.c.effect_key == bindparam("effect_key"))
    )


def refuse_unseen(connection: Connection, asked: Sequence[Intent]) -> None:
    """Raise `KeyBuried` where a key of one of ``asked``, which were inserted, is taken by a tombstone that this
    transaction of the app's cannot see.

    From REPEATABLE READ on PostgreSQL shows what stood when the transaction began, and locking does not help: what it
    does not show it does not lock. But a unique index knows of every row. So a tombstone of the same keys is written,
    which fails where there is one already, and is taken back at once.
    """
    if connection.dialect.name != "postgresql" or not asked:
        return
    level: str = connection.execute(select(func.current_setting("transaction_isolation"))).scalar_one()
    if level not in ("repeatable read", "serializable"):
        return
    savepoint = connection.begin_nested()
    try:
        connection.execute(insert(tombstones), [_of(intent) for intent in asked])
    except IntegrityError as error:
        raise KeyBuried("of an effect that was pruned after this transaction began") from error
    finally:
        savepoint.rollback()


def _of(intent: Intent) -> dict[str, str | int | None]:
    return {
        "effect_key": intent.effect_key,
        "connector": intent.connector,
        "idempotency_key": intent.idempotency_key,
        "business_key": intent.business_key,
        "held_business_key": intent.business_key or None,
        "run_id": intent.run_id,
        "request_digest": intent.request_digest,
        "status": "",
        "external_ref": "",
        **dict.fromkeys(("created_at_ms", "ended_at_ms", "pruned_at_ms"), 0),
    }


def standing_for(connection: Connection, intent: Intent) -> Effect | None:
    """What is left of the effect that has a key of ``intent``; raises `KeyConflict` if its request was another."""
    row = _row(connection, tombstones.c.idempotency_key == intent.idempotency_key)
    key = f"idempotency_key {intent.idempotency_key!r}"
    if row is None:
        row = _row(connection, tombstones.c.effect_key == intent.effect_key)
        if row is not None:
            raise KeyConflict(
                f"effect key {intent.effect_key!r} belongs to another effect, {row['status']} and pruned",
                effect_key=intent.effect_key,
            )
    elif intent.business_key and row["business_key"] != intent.business_key:
        raise KeyConflict(
            f"{key} belongs to effect {row['effect_key']} ({row['status']}, pruned) with business_key "
            f"{row['business_key']!r}, not {intent.business_key!r}",
            effect_key=row["effect_key"],
        )
    if row is None and intent.business_key:
        row = _row(connection, holds(intent.connector, intent.business_key))
        key = f"business_key {intent.business_key!r} of {intent.connector!r}"
    if row is None:
        return None
    if (row["connector"], row["request_digest"]) != (intent.connector, intent.request_digest):
        raise KeyConflict(
            f"{key} belongs to effect {row['effect_key']} ({row['status']}, pruned) of connector "
            f"{row['connector']!r} with request {row['request_digest'][:12]}; this request, for "
            f"{intent.connector!r}, is {intent.request_digest[:12]}",
            effect_key=row["effect_key"],
        )
    return _read(row)


def holds(connector: str, business_key: str) -> ColumnElement[bool]:
    """The condition that a tombstone keeps a business key taken."""
    return (tombstones.c.connector == connector) & (tombstones.c.held_business_key == business_key)


def holder(connection: Connection, connector: str, business_key: str) -> Effect | None:
    """What is left of the effect that keeps a business key taken."""
    row = _row(connection, holds(connector, business_key))
    return None if row is None else _read(row)


def _row(connection: Connection, condition: ColumnElement[bool]) -> RowMapping | None:
    return connection.execute(_first(condition, connection.dialect.name)).mappings().first()


def _first(condition: ColumnElement[bool], dialect: str) -> Select[Any]:
    return _latest(select(tombstones).where(condition).limit(1), dialect)


def _latest(statement: Select[Any], dialect: str) -> Select[Any]:
    # On MySQL what was committed last: a transaction of the app's may read an older snapshot.
    return statement.with_for_update(read=True) if dialect in ("mysql", "mariadb") else statement


def _read(row: RowMapping) -> Effect:
    return Effect(
        effect_key=row["effect_key"],
        connector=row["connector"],
        status=EffectStatus(row["status"]),
        reason=PRUNED,
        idempotency_key=row["idempotency_key"],
        business_key=row["business_key"],
        holds_business_key=row["held_business_key"] is not None,
        run_id=row["run_id"],
        request_json="",
        request_digest=row["request_digest"],
        external_ref=row["external_ref"],
        ended_at_ms=row["ended_at_ms"],
        created_at_ms=row["created_at_ms"],
        updated_at_ms=row["pruned_at_ms"],
        shared=True,  # there is nothing left of it that a run could reverse
    )
