"""Between rows and records: the two kinds of row that are claimed, and the journal beside them.

The entries of one key are a chain: each has a digest over itself and the digest of the one before it, which whoever
moves the row reads with the row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Label, RowMapping, Select, Table, select

from tape_celery.encryption import Cipher
from tape_celery.errors import SchemaMismatch
from tape_celery.records import (
    Effect,
    EffectStatus,
    JournalEntry,
    Obligation,
    ObligationStatus,
    Semantics,
    is_sealed,
    made_of,
    plain,
    replace,
)
from tape_celery.schema import effects, journal, obligations
from tape_celery.store.together import among, insert_rows

R = TypeVar("R", Effect, Obligation)
S = TypeVar("S", EffectStatus, ObligationStatus)

Row = RowMapping | Mapping[str, Any]
"""The columns of a row by their names."""

_compact = json.JSONEncoder(separators=(",", ":")).encode

NOT_CUT = 8 * 1024
"""The largest evidence, in bytes, that one journal entry keeps."""


@dataclass(frozen=True, eq=False)
class Kind(Generic[R]):
    """One of the two tables whose rows are claimed, moved and journaled."""

    table: Table
    key: str
    """The name of the key's column and field."""
    calling: str
    """The status of a row while its call is under way."""
    looking: tuple[str, ...]
    """The statuses in which a row may be looked at."""
    read: Callable[[Row], R]
    """The row as a record, with its bodies as they are stored: `opened` makes them plain."""
    columns: Callable[[R], dict[str, Any]]
    """A record as a row, with its bodies as they are: `sealed` makes them what is stored."""
    bodies: tuple[str, ...]
    """What is encrypted, where anything is."""

    def key_of(self, record: R) -> str:
        """The record's key."""
        key: str = getattr(record, self.key)
        return key

    def opened(self, record: R, cipher: Cipher | None) -> R:
        """The record as the app knows it; a body whose key this process has not stays as it is stored."""
        if cipher is None:
            return record
        key, table = self.key_of(record), self.table.name
        sealed = {name: text for name in self.bodies if is_sealed(text := getattr(record, name))}
        opened: dict[str, Any] = {name: cipher.open(text, table, key, name) for name, text in sealed.items()}
        return replace(record, **opened)

    def sealed(self, key: str, columns: dict[str, Any], cipher: Cipher | None, prefix: str = "") -> dict[str, Any]:
        """``columns`` of the row of that key as they are stored; the names of columns may have a ``prefix``."""
        if cipher is None:
            return columns
        names = [name for name in self.bodies if prefix + name in columns]
        table = self.table.name
        return columns | {prefix + name: cipher.seal(columns[prefix + name], table, key, name) for name in names}

    def refuse_sealed(self, record: R) -> None:
        """Raise `UnknownEncryptionKey` for a record of which a body stayed as it is stored."""
        for name in self.bodies:
            plain(record, name)


def _status(known: type[S], status: str, key: str) -> S:
    try:
        return known(status)
    except ValueError:
        raise SchemaMismatch(f"{key} has the status {status!r}, of a newer tape_celery; upgrade this one") from None


def _read_effect(row: Row) -> Effect:
    values = {name: row[name] for name in _EFFECT_COLUMNS}
    values["semantics"] = Semantics(values["semantics"])
    values["status"] = _status(EffectStatus, values["status"], row["effect_key"])
    values["holds_business_key"] = row["held_business_key"] is not None
    return made_of(Effect, values)


def _effect_columns(effect: Effect) -> dict[str, Any]:
    columns = dict(vars(effect))
    held = columns.pop("holds_business_key") and effect.business_key
    return columns | {"held_business_key": held or None}


def _read_obligation(row: Row) -> Obligation:
    values = {name: row[name] for name in _OBLIGATION_COLUMNS}
    values["status"] = _status(ObligationStatus, values["status"], row["obligation_key"])
    return made_of(Obligation, values)


def _obligation_columns(obligation: Obligation) -> dict[str, Any]:
    return dict(vars(obligation))


_EFFECT_COLUMNS = tuple(field.name for field in fields(Effect) if field.name != "holds_business_key")
_OBLIGATION_COLUMNS = tuple(field.name for field in fields(Obligation))

EFFECTS: Kind[Effect] = Kind(
    effects,
    "effect_key",
    EffectStatus.DISPATCHING,
    (EffectStatus.UNKNOWN, EffectStatus.FAILED, EffectStatus.CANCELLED),
    _read_effect,
    _effect_columns,
    ("request_json", "response_json", "error_json"),
)
OBLIGATIONS: Kind[Obligation] = Kind(
    obligations,
    "obligation_key",
    ObligationStatus.COMPENSATING,
    (ObligationStatus.UNKNOWN,),
    _read_obligation,
    _obligation_columns,
    ("payload_json", "response_json", "error_json"),
)


@cache
def by_keys(kind: Kind[Any]) -> Select[Any]:
    """The rows of the parameter ``keys``."""
    return select(kind.table).where(among(kind.table.c[kind.key], "keys"))


@cache
def with_heads(kind: Kind[Any]) -> Select[Any]:
    """`by_keys`, each row with `HEAD`, the digest of the last entry of its journal."""
    return by_keys(kind).add_columns(head_column(kind, 0))


_LAST = select(journal.c.key.label("last_key"), journal.c.seq.label("last_number"), journal.c.digest).subquery("last")
"""The journal with names of its own: in a RETURNING of SQLite the row's columns are named without their table."""
HEAD = "head"
"""The column of a row that is read to be moved: the digest that its next entry is chained to."""


def head_column(kind: Kind[Any], moves_since: int) -> Label[str]:
    """`HEAD` of a row that was moved so many times in the statement that reads it; NULL where it sees no such entry."""
    columns = kind.table.c
    last = _LAST.c
    found = select(last.digest).where(
        last.last_key == columns[kind.key], last.last_number == columns.version - moves_since
    )
    return found.scalar_subquery().label(HEAD)


def digest(before: str, row: Mapping[str, Any]) -> str:
    """The digest of a journal row: SHA-256, in hexadecimal, of a JSON array in ASCII without blanks.

    Its items are the digest of the entry ``before`` it (``""`` for the first one), and the columns of `CHAINED` in
    their order, as they are stored.
    """
    return hashlib.sha256(chained(before, row).encode()).hexdigest()


def chained(before: str, row: Mapping[str, Any]) -> str:
    """What the `digest` of a journal row is the SHA-256 of."""
    return _compact([before, *[row[name] for name in CHAINED]])


CHAINED = (
    "key", "effect_key", "seq", "at_ms", "kind", "from_status", "status", "token", "actor", "evidence_json",
)  # fmt: skip
"""What the digest of an entry is over: all that it has."""


def entry(
    record: Effect | Obligation, kind: str, *, head: str, from_status: str, actor: str, evidence: Mapping[str, Any]
) -> dict[str, Any]:
    """The journal row of what made ``record`` what it is now; ``head`` is the digest of the entry before it."""
    text = _compact(evidence)
    if len(text) > NOT_CUT:
        # The lists are what can be long; what is owed has rows of its own, and a replay needs none of them.
        lists: dict[str, list[str]] = {name: [] for name in ("duplicates", "owed") if evidence.get(name)}
        text = _compact({**evidence, **lists, "cut_bytes": len(text)})
    row = {
        "key": record.obligation_key if isinstance(record, Obligation) else record.effect_key,
        "effect_key": record.effect_key,
        "seq": record.version,
        "at_ms": record.updated_at_ms,
        "kind": kind,
        "from_status": from_status,
        "status": record.status.value,
        "token": record.token,
        "actor": actor[:200],
        "evidence_json": text,
    }
    return row | {"digest": digest(head, row)}


def write_journal(connection: Connection, rows: Iterable[dict[str, Any]]) -> None:
    """Append entries, in the transaction of what they record."""
    insert_rows(connection, journal, list(rows))


def read_entry(row: RowMapping) -> JournalEntry:
    """One journal row as a record."""
    return JournalEntry(
        **{
            name: row[name]
            for name in (
                "key",
                "effect_key",
                "seq",
                "at_ms",
                "kind",
                "from_status",
                "status",
                "token",
                "actor",
                "digest",
            )
        },
        evidence=json.loads(row["evidence_json"]),
    )
