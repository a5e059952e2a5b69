"""Verifying that the journal is as it was written: the entries of a key are chained by their digests.

What was changed, taken out or put in between by somebody who did not make all digests after it anew is found by the
chain alone. Who did make them anew is found by heads that were kept elsewhere: a head is what a chain ended with.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select

from tape_celery.intent import digest_of
from tape_celery.records import Violation, is_sealed
from tape_celery.schema import effects, journal, obligations, tombstones
from tape_celery.store import histories
from tape_celery.store.audit import SKEW_MS
from tape_celery.store.database import Database
from tape_celery.store.rows import digest

BATCH = 200
"""How many effects one transaction covers: their requests and all that was written about them is read."""
CHUNK = 500
"""How many heads are looked for at a time."""


@dataclass(frozen=True)
class Head:
    """What a chain ended with: its key, the effect that it belongs to, the number and the digest of the last entry."""

    key: str
    effect_key: str
    seq: int
    digest: str


@dataclass(frozen=True)
class ChainBatch:
    """What was found among the effects up to ``watermark``, in the order of their keys; ``""``: that was the last."""

    violations: list[Violation]
    watermark: str
    entries: int = 0
    """How many entries were read."""
    unchained: int = 0
    """How many of them were written before the chain began, and have no digest."""
    heads: tuple[Head, ...] = ()
    """What each chain ends with, in the order of keys."""


@dataclass
class _Began:
    """What is known of when the chain began. Whoever blanks all digests of a key makes it look older than it is."""

    oldest_chained_ms: int | None = None
    newest_unchained_ms: int = 0
    of_key: str = ""

    def contradicted(self, entries: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
        """Take the entries of one key in; what was written without a digest after others had one is named."""
        key = str(entries[0]["key"])
        chained = [row["at_ms"] for row in entries if row["digest"]]
        unchained = [row["at_ms"] for row in entries if not row["digest"]]
        if unchained and self._is_late(max(unchained)):
            yield _violation("no entry is without a digest since there are any", key, "all of them are older")
        elif unchained and max(unchained) > self.newest_unchained_ms:
            self.newest_unchained_ms, self.of_key = max(unchained), key
        if chained:
            known = [] if self.oldest_chained_ms is None else [self.oldest_chained_ms]
            self.oldest_chained_ms = min([*known, *chained])
        if self.of_key and self._is_late(self.newest_unchained_ms):
            yield _violation("no entry is without a digest since there are any", self.of_key, f"{key} has one")
            self.newest_unchained_ms, self.of_key = 0, ""

    def _is_late(self, at_ms: int) -> bool:
        return self.oldest_chained_ms is not None and at_ms > self.oldest_chained_ms + SKEW_MS


def batches(database: Database, *, after: str = "") -> Iterator[ChainBatch]:
    """Verify all effects whose key comes after the watermark ``after``, batch by batch, each of one moment."""
    began = _Began()
    while True:
        batch = database.read(partial(_batch, database=database, after=after, began=began), one_moment=True)
        yield batch
        if not batch.watermark:
            return
        after = batch.watermark


def against(database: Database, heads: Sequence[Head]) -> Iterator[Violation]:
    """The ``heads``, kept from an earlier time, that the journal does not have any more though nothing pruned them."""
    for start in range(0, len(heads), CHUNK):
        chunk = heads[start : start + CHUNK]
        yield from database.read(partial(_against, heads=chunk), one_moment=True)


def _batch(connection: Connection, database: Database, after: str, began: _Began) -> ChainBatch:
    key = effects.c.effect_key
    last = connection.execute(select(key).where(key > after).order_by(key).offset(BATCH - 1).limit(1)).scalar() or ""

    def within(column: ColumnElement[str]) -> ColumnElement[bool]:
        return and_(column > after, column <= last) if last else column > after

    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    statement = select(journal).where(histories.belongs(within)).order_by(journal.c.key, journal.c.seq)
    for entry in connection.execute(statement).mappings():
        entries[entry["key"]].append(dict(entry))
    e, o = effects.c, obligations.c
    stands: dict[str, tuple[int, str]] = {}
    found: list[Violation] = []
    of_effects = select(key, e.version, e.status, e.request_digest, e.request_json).where(within(key))
    for row in connection.execute(of_effects):
        stands[row.effect_key] = (row.version, row.status)
        request_json, cipher = row.request_json, database.cipher
        if cipher is not None:
            request_json = cipher.open(request_json, effects.name, row.effect_key, "request_json")
        if is_sealed(request_json):
            found.append(_violation("the request can be decrypted", row.effect_key, "with no key of this process"))
        elif not _is_as_recorded(row.request_digest, request_json, entries[row.effect_key]):
            found.append(_violation("the request is the one that was recorded", row.effect_key, row.status))
    of_debts = select(o.obligation_key, o.version, o.status).where(within(o.effect_key))
    for debt in connection.execute(of_debts):
        stands[debt.obligation_key] = (debt.version, debt.status)
    heads = []
    for name in sorted({*entries, *stands}):
        chain = entries[name]
        found += broken(name, chain, stands.get(name))
        if chain:
            found += began.contradicted(chain)
            heads.append(Head(name, chain[-1]["effect_key"], chain[-1]["seq"], chain[-1]["digest"]))
    every = [entry for chain in entries.values() for entry in chain]
    unchained = sum(not entry["digest"] for entry in every)
    return ChainBatch(found, last, len(every), unchained, tuple(heads))


def broken(key: str, entries: Sequence[Mapping[str, Any]], stands: tuple[int, str] | None) -> Iterator[Violation]:
    """What is wrong with one key's ``entries``, oldest first; its row has the version and status ``stands``."""
    before, expected, chained = "", 1, False
    for row in entries:
        told = f"entry {row['seq']}, {row['kind']}"
        if row["seq"] != expected:
            yield _violation("no entry is missing", key, f"entry {expected} is, before {told}")
        elif not row["digest"] and chained:
            yield _violation("every entry of a chain has a digest", key, told)
        elif row["digest"] and row["digest"] != digest(before, row):
            yield _violation("an entry is as it was written, and after the one before it", key, told)
        before, expected = row["digest"], row["seq"] + 1
        chained = chained or bool(before)
    if stands is None:
        yield _violation("every chain is a row's", key, f"{len(entries)} entries of nothing")
        return
    version, status = stands
    if expected - 1 != version:
        yield _violation("the chain ends where its row is", key, f"it has {expected - 1} entries, the row {version}")
    elif entries and entries[-1]["status"] != status:
        yield _violation("the row is what its chain ends with", key, f"{status}, not {entries[-1]['status']}")


def _is_as_recorded(request_digest: str, request_json: str, entries: Sequence[Mapping[str, Any]]) -> bool:
    if digest_of(request_json) != request_digest:
        return False
    try:
        return not entries or json.loads(entries[0]["evidence_json"])["request_digest"] == request_digest
    except (ValueError, KeyError, TypeError):
        return False


def _against(connection: Connection, heads: Sequence[Head]) -> list[Violation]:
    j, t = journal.c, tombstones.c
    statement = select(j.key, j.seq, j.digest).where(j.key.in_([head.key for head in heads]))
    found = {(row.key, row.seq): row.digest for row in connection.execute(statement)}
    gone = [head for head in heads if (head.key, head.seq) not in found]
    dead = select(t.effect_key).where(t.effect_key.in_([head.effect_key for head in gone]))
    pruned = set(connection.execute(dead).scalars()) if gone else set[str]()
    violations = []
    for head in heads:
        there = found.get((head.key, head.seq))
        told = f"entry {head.seq}, {head.digest[:12]}"
        if there is None and head.effect_key not in pruned:
            violations.append(_violation("a head that was kept is still there", head.key, f"{told}, is gone"))
        elif there is not None and there != head.digest:
            told += f", is {there[:12] or 'blank'}"
            violations.append(_violation("a head that was kept is still there", head.key, told))
    return violations


def _violation(invariant: str, key: str, detail: str) -> Violation:
    return Violation(invariant=invariant, key=key, detail=detail)
