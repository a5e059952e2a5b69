"""Exporting: effects with all that belongs to them, as their rows stand, a batch at one moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, RowMapping, literal, select, true

from tape_celery.schema import callbacks, effects, journal, obligations
from tape_celery.store import histories, inspection
from tape_celery.store.database import Database
from tape_celery.store.retention import may_go

BATCH = 100
"""The most effects that one transaction reads."""
WINDOW = 5000
"""How many effects one transaction looks at for those that could be pruned, so that it is short where few could."""

Exported = dict[str, Any]
"""One effect: ``effect``, its ``journal``, its ``obligations`` with a ``journal`` each, its ``callbacks``."""


def batches(database: Database, *, age_ms: int | None = None) -> Iterator[list[Exported]]:
    """Every effect in the order of their keys; with ``age_ms``, those that could be pruned when this began."""
    condition: ColumnElement[bool] = true()
    window = BATCH
    if age_ms is not None:
        condition = may_go(literal(inspection.now_ms(database) - age_ms, BigInteger()))
        window = WINDOW
    after: str | None = ""
    while after is not None:
        run = partial(_batch, after=after, condition=condition, window=window)
        batch, after = database.read(run, one_moment=True)
        if batch:
            yield batch


def _batch(
    connection: Connection, after: str, condition: ColumnElement[bool], window: int
) -> tuple[list[Exported], str | None]:
    """The next effects after a key, and the key to go on from; ``None``: that was all."""
    key = effects.c.effect_key
    end = connection.execute(select(key).where(key > after).order_by(key).offset(window - 1).limit(1)).scalar()
    wanted = select(key).where(key > after, condition).order_by(key).limit(BATCH)
    if end is not None:
        wanted = wanted.where(key <= end)
    keys = connection.execute(wanted).scalars().all()
    return read(connection, keys), keys[-1] if len(keys) == BATCH else end


def read(connection: Connection, keys: Sequence[str]) -> list[Exported]:
    """The effects with those keys, in their order."""
    if not keys:
        return []
    e, o, j, c = effects.c, obligations.c, journal.c, callbacks.c
    rows = select(effects).where(e.effect_key.in_(keys)).order_by(e.effect_key)
    debts = select(obligations).where(o.effect_key.in_(keys)).order_by(o.obligation_key)
    entries = select(journal).where(histories.belongs(lambda key: key.in_(keys))).order_by(j.key, j.seq)
    calls = select(callbacks).where(c.effect_key.in_(keys)).order_by(c.callback_key)
    entries_of = _by("key", connection.execute(entries).mappings())
    owed = _by("effect_key", connection.execute(debts).mappings())
    called = _by("effect_key", connection.execute(calls).mappings())
    return [
        {
            "effect": dict(row),
            "journal": entries_of[row["effect_key"]],
            "obligations": [
                {**debt, "journal": entries_of[debt["obligation_key"]]} for debt in owed[row["effect_key"]]
            ],
            "callbacks": called[row["effect_key"]],
        }
        for row in connection.execute(rows).mappings()
    ]


def _by(column: str, rows: Iterable[RowMapping]) -> defaultdict[str, list[dict[str, Any]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row[column]].append(dict(row))
    return found
