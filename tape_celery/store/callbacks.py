"""Callbacks: kept with their effect, DUE in the transaction that brings it to where they wait for, and relayed.

WAITING → DUE → SENT (or DROPPED: it was refused for good). A callback is published after it is taken and before it is
SENT, so it may be published twice, under the same task id; a worker or broker that dies in between costs a delay only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, Integer, RowMapping, Select, Update, bindparam, insert, select, update

from tape_celery.errors import InvalidIntent, UnknownEncryptionKey
from tape_celery.intent import Callback, callback_key
from tape_celery.records import SEALED, Effect, EffectStatus, is_sealed
from tape_celery.schema import callbacks, effects
from tape_celery.store.database import Database
from tape_celery.store.together import among, one_of

T = TypeVar("T")

REACHED: dict[EffectStatus, tuple[str, ...]] = {
    EffectStatus.CONFIRMED: ("confirmed", "part"),
    EffectStatus.FAILED: ("failed", "part", "broken"),
    EffectStatus.CANCELLED: ("failed", "part", "broken"),
    EffectStatus.STUCK: ("failed", "stuck", "part", "broken"),
    EffectStatus.UNKNOWN: ("unknown",),
}
"""Which callbacks are due when an effect gets to a state; each fires once."""
CHUNK = 500
"""Rows of one statement."""


@dataclass(frozen=True)
class Taken:
    """One callback that its taker is to publish."""

    callback_key: str
    effect_key: str
    event: str
    signature_json: str

    @property
    def signature(self) -> str:
        """The JSON of what is sent; raises `UnknownEncryptionKey` where it cannot be decrypted here."""
        if is_sealed(self.signature_json):
            key_id = self.signature_json.removeprefix(SEALED).partition(":")[0]
            raise UnknownEncryptionKey(self.callback_key, "signature_json", key_id)
        return self.signature_json


def keep(
    connection: Connection,
    database: Database,
    statuses: Mapping[str, EffectStatus],
    wanted: Mapping[str, Sequence[Callback]],
) -> None:
    """Write the callbacks of effects, by their keys, that this transaction wrote or has locked; those that an effect
    has already are kept once.

    Where the effect is already where one waits for, that one is DUE at once.
    """
    fresh = {callback_key(key, one): (key, one) for key, listed in wanted.items() for one in listed}
    if not fresh:
        return
    now, cipher = database.read_now(connection), database.cipher
    for part in _chunks(list(wanted)):
        known = select(callbacks.c.callback_key).where(callbacks.c.effect_key.in_(part))
        for key in connection.execute(known).scalars():
            fresh.pop(key, None)
    rows = []
    for key, (effect_key, one) in fresh.items():
        due = one.event in REACHED.get(statuses[effect_key], ())
        rows.append(
            {
                "callback_key": key,
                "effect_key": effect_key,
                "event": one.event,
                "signature_json": cipher.seal(one.signature_json, *_place(key)) if cipher else one.signature_json,
                "status": "DUE" if due else "WAITING",
                "sweep_at_ms": now if due else None,
                "created_at_ms": now,
                "updated_at_ms": now,
            }
        )
    for some in _chunks(rows):
        connection.execute(insert(callbacks), some)


def lock(connection: Connection, effect_keys: Collection[str]) -> dict[str, EffectStatus]:
    """Lock effects that were found, so that no seal passes by unseen; where they are. Who was pruned is not among
    them."""
    found: dict[str, EffectStatus] = {}
    e = effects.c
    for part in _chunks(sorted(effect_keys)):
        locked = select(e.effect_key, e.status).where(e.effect_key.in_(part)).order_by(e.effect_key).with_for_update()
        found |= {key: EffectStatus(status) for key, status in connection.execute(locked)}
    return found


def refuse_pruned(effect_key: str, statuses: Mapping[str, EffectStatus]) -> None:
    """Raise `InvalidIntent` for an effect that is not among those that `lock` found: nobody would send the callback."""
    if effect_key not in statuses:
        raise InvalidIntent(f"effect {effect_key} was pruned: nothing is left of it that a callback could be sent with")


def add(connection: Connection, database: Database, effect_key: str, wanted: Sequence[Callback]) -> None:
    """`keep` for an effect that was found; raises `InvalidIntent` for one that was pruned."""
    statuses = lock(connection, [effect_key])
    refuse_pruned(effect_key, statuses)
    keep(connection, database, statuses, {effect_key: wanted})


def _chunks(listed: Sequence[T]) -> Iterator[Sequence[T]]:
    return (listed[start : start + CHUNK] for start in range(0, len(listed), CHUNK))


def fall_due(connection: Connection, arrived: Sequence[Effect], now: int) -> list[str]:
    """In the transaction that brings effects to their states: what waits for those is DUE.

    Returns the keys of effects among which are those that have any: those that arrived where nothing waited are not.
    """
    called_back: list[str] = []
    for statement, asked in falling_due(arrived, now):
        called_back += asked["keys"] if connection.execute(statement, asked).rowcount else []
    return called_back


def falling_due(arrived: Sequence[Effect], now: int) -> list[tuple[Update, dict[str, Any]]]:
    """The statements of `fall_due`, and their parameters; ``keys`` are those of the effects."""
    keys: dict[EffectStatus, list[str]] = defaultdict(list)
    for effect in arrived:
        keys[effect.status].append(effect.effect_key)
    return [
        (_falling_due(status), {"keys": listed, "at_ms": now}) for status, listed in keys.items() if status in REACHED
    ]


@cache
def _falling_due(status: EffectStatus) -> Update:
    reached, at = REACHED[status], bindparam("at_ms", type_=callbacks.c.sweep_at_ms.type)
    return (
        update(callbacks)
        .where(among(callbacks.c.effect_key, "keys"), one_of(callbacks.c.event, reached))
        .where(callbacks.c.status == "WAITING")
        .values(status="DUE", sweep_at_ms=at, updated_at_ms=at)
    )


def take(database: Database, *, relay_ms: int, limit: int, effect_keys: Sequence[str] | None = None) -> list[Taken]:
    """Take the publishing of what is DUE upon the caller, for ``relay_ms``; of these effects only, where given."""
    columns, now = callbacks.c, database.now
    found, asked = _due(now, effect_keys is not None), {"at_most": limit, "of_effects": list(effect_keys or ())}
    keys = database.read(lambda connection: list(connection.execute(found, asked).scalars()))
    if not keys:
        return []

    def mark(connection: Connection) -> list[Taken]:
        still = (
            select(columns.callback_key, columns.effect_key, columns.event, columns.signature_json)
            .where(columns.callback_key.in_(keys), columns.status == "DUE", columns.sweep_at_ms <= now)
            .order_by(columns.callback_key)
            .with_for_update(skip_locked=True)
        )
        taken = [_taken(database, row) for row in connection.execute(still).mappings()]
        if taken:
            mine = columns.callback_key.in_([one.callback_key for one in taken])
            connection.execute(update(callbacks).where(mine).values(sweep_at_ms=now + relay_ms))
        return taken

    return database.write(mark)


def _taken(database: Database, row: RowMapping) -> Taken:
    cipher, text = database.cipher, row["signature_json"]
    return Taken(**{**row, "signature_json": cipher.open(text, *_place(row["callback_key"])) if cipher else text})


def _place(callback_key: str) -> tuple[str, str, str]:
    return callbacks.name, callback_key, "signature_json"


@lru_cache(maxsize=16)
def _due(now: ColumnElement[int], of_effects: bool) -> Select[Any]:
    columns = callbacks.c
    is_due = columns.sweep_at_ms <= now
    if of_effects:
        is_due &= columns.effect_key.in_(bindparam("of_effects", expanding=True))
    found = select(columns.callback_key).where(is_due).order_by(columns.sweep_at_ms)
    return found.limit(bindparam("at_most", type_=Integer))


def mark_over(database: Database, callback_key: str, status: Literal["SENT", "DROPPED"]) -> None:
    """The broker has it, or nobody will ever take it."""
    mine = (callbacks.c.callback_key == callback_key) & (callbacks.c.status == "DUE")
    statement = update(callbacks).where(mine).values(status=status, sweep_at_ms=None, updated_at_ms=database.now)
    database.write(lambda connection: connection.execute(statement))
