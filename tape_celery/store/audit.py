"""The safety invariants, as queries over the store.

Each names the rows that break it. Read-only, safe on a live system.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, literal, not_, or_, select

from tape_celery.records import Violation
from tape_celery.schema import effects, journal, obligations
from tape_celery.store.database import Database

SKEW_MS = 10_000
"""How far instants of one journal may run back: a statement that waits for a lock has the time at which it began."""
MOST = 1000
"""The most violations of one invariant that one audit lists."""


def audit(database: Database, *, live: bool, grace_seconds: float) -> list[Violation]:
    """Every row that breaks an invariant; with ``live``, also what has been due for longer than ``grace_seconds``."""
    late = database.now - round(grace_seconds * 1000)
    named = [*_safety(), *(_liveness(late) if live else ())]

    def run_all(connection: Connection) -> list[Violation]:
        found: list[Violation] = []
        for name, statement in named:
            rows = connection.execute(statement.limit(MOST)).all()
            found.extend(Violation(invariant=name, key=row[0], detail=str(row[1])) for row in rows)
        return found

    return database.read(run_all)


def _safety() -> Iterable[tuple[str, Select[Any]]]:
    e, o, j = effects.c, obligations.c, journal.c
    for table, key in ((effects, e.effect_key), (obligations, o.obligation_key)):
        last = journal.alias("last")
        is_last = and_(last.c.key == key, last.c.seq == table.c.version)
        differs = or_(last.c.seq.is_(None), last.c.status != table.c.status, last.c.token != table.c.token)
        yield (
            "the row is what its last journal entry says",
            select(key, table.c.status)
            .select_from(table.outerjoin(last, is_last))
            .where(or_(differs, exists().where(j.key == key, j.seq > table.c.version))),
        )
    earlier = journal.alias("earlier")
    chained = and_(earlier.c.key == j.key, earlier.c.seq == j.seq - 1)
    yield (
        "the journal is a chain",
        select(j.key, j.seq)
        .select_from(journal.outerjoin(earlier, chained))
        .where(j.seq > 1, or_(earlier.c.seq.is_(None), earlier.c.status != j.from_status)),
    )
    yield "the journal begins with the recording", select(j.key, j.kind).where(j.seq == 1, j.kind != "recorded")
    yield (
        "tokens never fall",
        select(j.key, j.seq).select_from(journal.join(earlier, chained)).where(j.token < earlier.c.token),
    )
    yield (
        "time never runs back",
        select(j.key, j.seq).select_from(journal.join(earlier, chained)).where(j.at_ms < earlier.c.at_ms - SKEW_MS),
    )
    yield (
        "a non-idempotent call that may have landed is never made again",
        select(j.key, j.seq)
        .select_from(journal.join(effects, e.effect_key == j.key).join(earlier, chained))
        .where(e.semantics == "non_idempotent", j.kind == "claimed", _may_land_before(j.key, j.seq)),
    )
    yield (
        "an ended effect holds no business key",
        _where_effect(and_(e.status.in_(["FAILED", "CANCELLED"]), e.held_business_key.is_not(None))),
    )
    yield (
        "a live effect holds its business key",
        _where_effect(
            and_(e.ended_at_ms.is_(None), e.business_key != "", e.held_business_key.is_distinct_from(e.business_key))
        ),
    )
    yield (
        "what is CONFIRMED has evidence",
        _where_effect(and_(e.status == "CONFIRMED", not_(_has_entry(e.effect_key, j.status == "CONFIRMED")))),
    )
    for table, key, calling in (
        (effects, e.effect_key, "DISPATCHING"),
        (obligations, o.obligation_key, "COMPENSATING"),
    ):
        status = table.c.status
        found = select(key, status)
        yield "what is STUCK says why", found.where(status == "STUCK", table.c.reason == "")
        unleased = or_(table.c.lease_until_ms.is_(None), table.c.claim_nonce == "")
        yield "what is under way is leased", found.where(status == calling, unleased)
        unsettled = status.in_(["PENDING", calling, "UNKNOWN"])
        yield "what is unsettled is swept", found.where(unsettled, table.c.sweep_at_ms.is_(None))
    yield (
        "an obligation belongs to an effect that was CONFIRMED",
        select(o.obligation_key, o.effect_key).where(
            not_(_has_entry(o.effect_key, j.status == "CONFIRMED")),
            # Late evidence of a duplicate while a newer claim is at work: that claim can only end CONFIRMED.
            not_(exists().where(e.effect_key == o.effect_key, e.landed)),
        ),
    )
    survivor = exists().where(e.effect_key == o.effect_key, e.external_ref == o.external_ref)
    yield (
        "the record that stays is never reversed as a duplicate",
        select(o.obligation_key, o.external_ref).where(
            o.kind.in_(["duplicate", "late"]), o.status != "STUCK", survivor, _not_resolved(o.obligation_key)
        ),
    )


def _liveness(late: ColumnElement[int]) -> Iterable[tuple[str, Select[Any]]]:
    e, o = effects.c, obligations.c
    yield "nothing is overdue", select(e.effect_key, e.status).where(e.sweep_at_ms.is_not(None), e.sweep_at_ms < late)
    yield (
        "no obligation is overdue",
        select(o.obligation_key, o.status).where(o.sweep_at_ms.is_not(None), o.sweep_at_ms < late),
    )


def _where_effect(condition: ColumnElement[bool]) -> Select[Any]:
    return select(effects.c.effect_key, effects.c.status).where(condition)


def _may_land_before(key: ColumnElement[str], seq: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether an earlier claim of the same effect ended UNKNOWN without a definite answer before this one."""
    before = journal.alias("before")
    return exists().where(
        before.c.key == key,
        before.c.seq < seq,
        before.c.status == "UNKNOWN",
        before.c.kind.in_(["unknown", "lapsed"]),
        not_(_cleared(key, before.c.seq, seq)),
    )


def _cleared(key: ColumnElement[str], after: ColumnElement[int], before: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether late proof that nothing landed put the effect back to PENDING in between."""
    proof = journal.alias("proof")
    return exists().where(
        proof.c.key == key,
        proof.c.seq > after,
        proof.c.seq < before,
        proof.c.kind == "late",
        proof.c.status == "PENDING",
    )


def _has_entry(key: ColumnElement[str], condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(select(literal(1)).select_from(journal).where(journal.c.key == key, condition))


def _not_resolved(key: ColumnElement[str]) -> ColumnElement[bool]:
    return not_(_has_entry(key, journal.c.kind == "resolved"))
