"""A claim of calls that is one statement, and so a transaction by itself: on PostgreSQL.

The guarded UPDATE writes the journal too. Its entry is made as any other is, but of `STAND_IN`, in which something
stands for each thing that only the row can tell; the database puts in their places what they stand for, and computes
the digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    insert,
    null,
    or_,
    select,
)
from sqlalchemy.sql.dml import ReturningUpdate

from tape_celery.records import SEALED, Effect, EffectStatus
from tape_celery.schema import effects, journal
from tape_celery.store.pipelining import commit_alone
from tape_celery.store.rows import EFFECTS, HEAD, chained

_VERSION, _AT, _TOKEN, _LEASE = (7 * 10**15 + number for number in range(1, 5))
_KEY, _NONCE = "(key)", "(nonce)"
HEAD_STAND_IN = "(head)"
STAND_IN = Effect(
    effect_key=_KEY,
    connector="",
    idempotency_key="",
    run_id="",
    request_json="",
    request_digest="",
    status=EffectStatus.DISPATCHING,
    version=_VERSION,
    token=_TOKEN,
    claim_nonce=_NONCE,
    claimed_at_ms=0,
    lease_until_ms=_LEASE,
    updated_at_ms=_AT,
)
"""An effect under a claim: of its values that no claim is without, those that differ from row to row."""
_TIMES = {str(_VERSION): 1, str(_AT): 1, str(_TOKEN): 1, str(_LEASE): 1, HEAD_STAND_IN: 1, _NONCE: 1, _KEY: 2}
"""How often each thing that stands for another is in what the digest of an entry is over."""


def claim_at_once(
    connection: Connection,
    claiming: ReturningUpdate[Any],
    asked: Mapping[str, Any],
    keys: Sequence[str],
    entry: Mapping[str, Any],
) -> list[dict[str, Any]] | None:
    """Run ``claiming``, with the parameters ``asked``, on ``keys``, and commit it with an entry for each row: as
    ``entry``, what `template` made of that of `STAND_IN`. Returns the rows; the `HEAD` of one is the digest of its new
    entry.

    ``None``: nothing was claimed; the ordinary way does it, or says why not. So it is for a row whose head the
    statement could not see, or whose bodies are encrypted, and for keys that JSON would write in another way. Raises
    `CommitUncertain`. ``connection`` must be in no transaction.
    """
    if not all(key.isascii() and key.isprintable() and not set(key) & {'"', "\\"} for key in keys):
        return None
    rows = commit_alone(connection, _with_entries(claiming), {**asked, **entry})
    return None if rows is None else [dict(zip(_names(), row, strict=True)) for row in rows]


def template(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `claim_at_once` is given of the ``entry`` of `STAND_IN`; ``None`` where something in it only looks like what
    stands for something."""
    text = chained(HEAD_STAND_IN, entry)
    if any(text.count(stand_in) != times for stand_in, times in _TIMES.items()):
        return None
    return {name: entry[name] for name in ("kind", "from_status", "status", "actor", "evidence_json")} | {
        "chained": text
    }


@cache
def _names() -> tuple[str, ...]:
    return (*effects.c.keys(), HEAD)


@lru_cache(maxsize=64)
def _with_entries(claiming: ReturningUpdate[Any]) -> Select[Any]:
    claimed = claiming.cte("claimed")
    row = claimed.c
    instead = {
        str(_VERSION): cast(row.version, Text),
        str(_AT): cast(row.updated_at_ms, Text),
        str(_TOKEN): cast(row.token, Text),
        str(_LEASE): cast(row.lease_until_ms - row.claimed_at_ms, Text),
        _NONCE: row.claim_nonce,
        HEAD_STAND_IN: row[HEAD],
        _KEY: row.effect_key,  # last, since it may look like anything
    }
    digest = func.encode(func.sha256(func.convert_to(_put("chained", instead), "UTF8")), "hex")
    made: dict[str, ColumnElement[Any]] = {
        "key": row.effect_key,
        "effect_key": row.effect_key,
        "seq": row.version,
        "at_ms": row.updated_at_ms,
        "token": row.token,
        "evidence_json": _put("evidence_json", {name: instead[name] for name in (str(_LEASE), _NONCE)}),
        # The column is NOT NULL: the one without a digest ends the statement. So does one that has no head.
        "digest": case((_is_sealed(claimed), null()), else_=digest),
    }
    values = [made.get(column.name, bindparam(column.name, type_=column.type)) for column in journal.c]
    written = insert(journal).from_select(list(journal.c), select(*values)).returning(journal.c.key, journal.c.digest)
    entries = written.cte("entries")
    found = select(*(row[column.name] for column in effects.c), entries.c.digest.label(HEAD))
    return found.join_from(claimed, entries, entries.c.key == row.effect_key)


def _put(name: str, instead: Mapping[str, ColumnElement[str]]) -> ColumnElement[str]:
    """The parameter ``name`` with what is ``instead`` of what stands for it."""
    text: ColumnElement[str] = bindparam(name, type_=Text)
    for stand_in, value in instead.items():
        text = func.replace(text, stand_in, value)
    return text


def _is_sealed(claimed: CTE) -> ColumnElement[bool]:
    return or_(*(claimed.c[name].startswith(SEALED, autoescape=True) for name in EFFECTS.bodies))
