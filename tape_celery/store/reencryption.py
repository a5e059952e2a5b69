"""Changing keys: what is stored plain, or under an older key, is encrypted under the newest, batch by batch.

A row is written only if its bodies still are the texts that were read, and nothing else of it is: whoever moves it at
the same time loses nothing, and neither its version nor its journal tells of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, and_, func, not_, or_, select, update

from tape_celery import failpoints
from tape_celery.encryption import KEY_ID_LENGTH, Cipher
from tape_celery.errors import CommitUncertain, SettingsError
from tape_celery.records import SEALED, is_sealed
from tape_celery.schema import EMPTY, callbacks, effects, obligations
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS

BATCH = 200
"""The most rows that one transaction writes."""
_TABLES: tuple[tuple[str, Table, str, tuple[str, ...]], ...] = (
    ("effects", effects, EFFECTS.key, EFFECTS.bodies),
    ("obligations", obligations, OBLIGATIONS.key, OBLIGATIONS.bodies),
    ("callbacks", callbacks, "callback_key", ("signature_json",)),
)


@dataclass
class ReencryptReport:
    """How many rows were encrypted under the newest key, and why others were not."""

    effects: int = 0
    obligations: int = 0
    callbacks: int = 0
    moved: int = 0
    """Somebody else wrote them meanwhile, or the answer to COMMIT was lost: the next run sees."""
    unreadable: int = 0
    """No key opens them."""


def reencrypt(database: Database, *, limit: int | None, dry_run: bool) -> ReencryptReport:
    """As `Tape.reencrypt`."""
    cipher = database.cipher
    if cipher is None:
        raise SettingsError("tape_encryption_keys is not set: there is no key to encrypt under")
    report, left = ReencryptReport(), limit
    for name, table, key, bodies in _TABLES:
        done = 0
        if dry_run:
            done = _count(database, cipher, table, bodies)
            done = done if left is None else min(done, left)
        else:
            after = ""
            while left is None or left > done:
                at_most = BATCH if left is None else min(BATCH, left - done)
                rows = _some(database, cipher, table, key, bodies, after, at_most)
                if not rows:
                    break
                done += _write(database, cipher, table, key, bodies, rows, report)
                after = rows[-1][key]
        setattr(report, name, done)
        left = None if left is None else left - done
    return report


def keys_of_what_waits(database: Database, connectors: Sequence[str], *, at_most: int = 50) -> list[str]:
    """The ids of the keys under which the rows that wait longest are encrypted, of each of ``connectors`` so many."""
    length = len(SEALED) + KEY_ID_LENGTH
    statements = [
        select(func.substr(body, 1, length))
        .where(table.c.connector == connector, table.c.sweep_at_ms.is_not(None))
        .order_by(table.c.sweep_at_ms)
        .limit(at_most)
        for connector in connectors
        for table, body in ((effects, effects.c.request_json), (obligations, obligations.c.payload_json))
    ]

    def read(connection: Connection) -> list[str]:
        begun = {text for statement in statements for text in connection.execute(statement).scalars()}
        return sorted(text.removeprefix(SEALED) for text in begun if is_sealed(text))

    return database.read(read)


def _is_older(cipher: Cipher, table: Table, bodies: Sequence[str]) -> ColumnElement[bool]:
    columns = [table.c[name] for name in bodies]
    return or_(*(and_(column != EMPTY, not_(column.startswith(cipher.beginning))) for column in columns))


def _count(database: Database, cipher: Cipher, table: Table, bodies: Sequence[str]) -> int:
    statement = select(func.count()).select_from(table).where(_is_older(cipher, table, bodies))
    return database.read(lambda connection: int(connection.execute(statement).scalar_one()))


def _some(
    database: Database, cipher: Cipher, table: Table, key: str, bodies: Sequence[str], after: str, at_most: int
) -> Sequence[RowMapping]:
    found = select(table.c[key], *(table.c[name] for name in bodies)).where(table.c[key] > after)
    statement = found.where(_is_older(cipher, table, bodies)).order_by(table.c[key]).limit(at_most)
    return database.read(lambda connection: connection.execute(statement).mappings().all())


def _write(
    database: Database,
    cipher: Cipher,
    table: Table,
    key: str,
    bodies: Sequence[str],
    rows: Sequence[RowMapping],
    report: ReencryptReport,
) -> int:
    """How many of ``rows`` were written; what became of the others is added to ``report``."""
    fresh: list[tuple[RowMapping, Mapping[str, Any]]] = []
    for row in rows:
        place = {name: (table.name, row[key], name) for name in bodies}
        plain = {name: cipher.open(row[name], *place[name]) for name in bodies}
        if any(map(is_sealed, plain.values())):
            report.unreadable += 1
        else:
            fresh.append((row, {name: cipher.seal(text, *place[name]) for name, text in plain.items()}))

    def unit(connection: Connection) -> int:
        written = 0
        for row, sealed in fresh:
            as_read = and_(table.c[key] == row[key], *(table.c[name] == row[name] for name in bodies))
            written += connection.execute(update(table).where(as_read).values(**sealed)).rowcount
        failpoints.reach("reencrypt.written")
        return written

    try:
        written = database.write(unit) if fresh else 0
    except CommitUncertain:
        written = 0
    failpoints.reach("reencrypt.batch")
    report.moved += len(fresh) - written
    return written
