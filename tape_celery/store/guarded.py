"""The guarded writes of decided moves: a row is written only if it stands as it was read.

By key, status, token, journal number and lease; the lease, because a renewal is no journal entry, and one that was
renewed is not over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Generic

from sqlalchemy import ColumnElement, Connection, Select, Update, bindparam, case, func, insert, select, update

from tape_celery.encryption import Cipher
from tape_celery.events import Event, ReissueAsked
from tape_celery.policy import Terms
from tape_celery.records import Obligation, replace
from tape_celery.schema import journal
from tape_celery.store.pipelining import Statement
from tape_celery.store.rows import Kind, R
from tape_celery.store.together import ROWS, among, at_once, given

_AS_READ = ("status", "token", "version")
_NEW = "new_"
_ENTRIES = "entries"


@dataclass(frozen=True)
class Step(Generic[R]):
    """One decided move, to be written."""

    key: str
    before: R
    after: R
    changed: dict[str, Any]
    """The columns that are another after it, as parameters of `_guarded`."""
    kind: str
    event: Event
    terms: Terms
    head: str
    """The digest of the last entry of the row's journal, as both were read."""
    debts: Sequence[Obligation] = ()

    @property
    def is_alone(self) -> bool:
        """Whether nothing but the row and its entry is written for it."""
        is_in_order = bool(getattr(self.after, "ordering_key", ""))
        return not (is_in_order or self.debts or isinstance(self.event, ReissueAsked))


def changed_columns(kind: Kind[R], before: R, after: R) -> dict[str, Any]:
    """The columns that are another after a move, as a `Step` has them."""
    old = kind.columns(before)
    new = kind.columns(after).items()
    return {_NEW + name: value for name, value in new if value is not old[name] and value != old[name]}


def alike(steps: Sequence[Step[R]]) -> list[list[Step[R]]]:
    """Steps that come one after the other and change the same columns: the order of keys stays, which keeps two units
    from waiting for each other."""
    return [list(group) for _, group in groupby(steps, key=lambda step: step.changed.keys())]


def sealed(kind: Kind[R], steps: Sequence[Step[R]], cipher: Cipher | None) -> Sequence[Step[R]]:
    """``steps`` with the bodies that they change as they are stored."""
    if cipher is None:
        return steps
    return [replace(step, changed=kind.sealed(step.key, step.changed, cipher, _NEW)) for step in steps]


def write(connection: Connection, kind: Kind[R], steps: Sequence[Step[R]]) -> bool:
    """Write rows of which the same columns change; false where one of them does not stand so."""
    changed, rows = frozenset(steps[0].changed), [_as_read(kind, step) for step in steps]
    if at_once(connection, rows):
        parameters = {ROWS: rows, "keys": [step.key for step in steps]}
        return connection.execute(_guarded_together(kind, changed), parameters).rowcount == len(rows)
    return connection.execute(_guarded(kind, changed), rows if len(rows) > 1 else rows[0]).rowcount == len(rows)


def _as_read(kind: Kind[R], step: Step[R]) -> dict[str, Any]:
    """What `_standing` is given of one row."""
    guards = (kind.key, *_AS_READ, "lease_until_ms")
    return {f"read_{name}": getattr(step.before, name) for name in guards} | step.changed


def moving(kind: Kind[R], steps: Sequence[Step[R]], entries: Mapping[str, dict[str, Any]]) -> Statement:
    """`write` and the entries of those rows in one statement, which fails where one of them does not stand so; with
    its parameters."""
    changed, rows = frozenset(steps[0].changed), [_as_read(kind, step) for step in steps]
    keys = [step.key for step in steps]
    asked = rows[0] if len(rows) == 1 else {ROWS: rows, "keys": keys}
    return _moving_with_entries(kind, changed, len(rows) > 1), {**asked, _ENTRIES: [entries[key] for key in keys]}


@lru_cache(maxsize=128)
def _moving_with_entries(kind: Kind[Any], changed: frozenset[str], together: bool) -> Select[Any]:
    guarded = _guarded_together(kind, changed) if together else _guarded(kind, changed)
    moved = guarded.returning(kind.table.c[kind.key].label("key")).cte("moved")
    entries = given({column.name: column.type for column in journal.c}, _ENTRIES)
    # The column is NOT NULL: an entry whose row was not moved has no digest, and ends the statement.
    stands = entries.c.key.in_(select(moved.c.key))
    made = {"digest": case((stands, entries.c.digest))}
    values = [made.get(column.name, entries.c[column.name]) for column in journal.c]
    written = insert(journal).from_select(list(journal.c), select(*values)).returning(journal.c.key).cte("written")
    return select(func.count()).select_from(written)


@lru_cache(maxsize=128)
def _guarded(kind: Kind[Any], changed: frozenset[str]) -> Update:
    """The guarded write of these columns, made once: making it takes as long as executing it."""
    columns = kind.table.c
    lease = bindparam("read_lease_until_ms", type_=columns.lease_until_ms.type)
    row: dict[str, ColumnElement[Any]] = {name: bindparam(name) for name in changed}
    row |= {f"read_{name}": bindparam(f"read_{name}") for name in (kind.key, *_AS_READ)}
    return _standing(kind, row | {"read_lease_until_ms": lease})


@lru_cache(maxsize=128)
def _guarded_together(kind: Kind[Any], changed: frozenset[str]) -> Update:
    """`_guarded`, of all rows that are `given`; by their keys too, so that no plan reads others."""
    columns = kind.table.c
    read = {f"read_{name}": columns[name].type for name in (kind.key, *_AS_READ, "lease_until_ms")}
    rows = given(read | {name: columns[name.removeprefix(_NEW)].type for name in sorted(changed)})
    return _standing(kind, dict(rows.c)).where(among(columns[kind.key], "keys"))


def _standing(kind: Kind[Any], row: Mapping[str, ColumnElement[Any]]) -> Update:
    """Write what ``row`` has of new columns, if the row that it names stands as it was read."""
    columns = kind.table.c
    statement = update(kind.table)
    for name in (kind.key, *_AS_READ):
        statement = statement.where(columns[name] == row[f"read_{name}"])
    return statement.where(columns.lease_until_ms.is_not_distinct_from(row["read_lease_until_ms"])).values(
        {name.removeprefix(_NEW): value for name, value in sorted(row.items()) if name.startswith(_NEW)}
    )
