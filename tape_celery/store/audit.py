"""The safety invariants, as queries over the store.

Each names the rows that break it. They only read, a batch of effects at a time in a short transaction each, and each
invariant is one statement, which sees one moment: so they are safe on a live system. What a batch covers is all that
belongs to its effects: their rows, their obligations, both journals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    tuple_,
)

from tape_celery.edges import EFFECT_EDGES, OBLIGATION_EDGES
from tape_celery.records import Violation
from tape_celery.schema import effects, journal, obligations, runs, tombstones
from tape_celery.store import histories
from tape_celery.store.database import Database
from tape_celery.store.runs import contains

SKEW_MS = 10_000
"""How far instants of one journal may run back: a statement that waits for a lock has the time at which it began."""
MOST = 1000
"""The most violations of one invariant that one batch lists."""
BATCH = 5000
"""How many effects one transaction covers."""

_BY_PEOPLE = ("resolved", "owed", "cancelled", "released", "reissued")

Named = tuple[str, Select[Any]]
Within = Callable[[ColumnElement[str]], ColumnElement[bool]]
"""The condition that an effect's key is one of the batch."""


@dataclass(frozen=True)
class Batch:
    """What was found among the effects up to ``watermark``, in the order of their keys; ``""``: that was the last."""

    violations: list[Violation]
    watermark: str


def audit(database: Database, *, live: bool, grace_seconds: float) -> list[Violation]:
    """Every row that breaks an invariant; with ``live``, also what has been due for longer than ``grace_seconds``."""
    found = [violation for batch in batches(database) for violation in batch.violations]
    return found + (overdue(database, grace_seconds=grace_seconds) if live else [])


def batches(database: Database, *, after: str = "") -> Iterator[Batch]:
    """The safety invariants over all effects whose key comes after the watermark ``after``, batch by batch."""
    while True:
        batch = _batch(database, after)
        yield batch
        if not batch.watermark:
            return
        after = batch.watermark


def overdue(database: Database, *, grace_seconds: float) -> list[Violation]:
    """What has been due for longer than ``grace_seconds``. Its cost follows what is due, not what is kept."""
    late = database.now - round(grace_seconds * 1000)
    return database.read(lambda connection: list(_broken(connection, _liveness(late))))


def _batch(database: Database, after: str) -> Batch:
    key = effects.c.effect_key
    last_of_batch = select(key).where(key > after).order_by(key).offset(BATCH - 1).limit(1)

    def run(connection: Connection) -> Batch:
        last = connection.execute(last_of_batch).scalar() or ""

        def within(column: ColumnElement[str]) -> ColumnElement[bool]:
            return and_(column > after, column <= last) if last else column > after

        return Batch(list(_broken(connection, _safety(within))), last)

    return database.read(run)


def _broken(connection: Connection, named: Iterable[Named]) -> Iterator[Violation]:
    for name, statement in named:
        for key, detail in map(tuple, connection.execute(statement.limit(MOST)).all()):
            yield Violation(invariant=name, key=key, detail=str(detail))


def _everything(column: ColumnElement[str]) -> ColumnElement[bool]:
    return true()


def _safety(within: Within = _everything) -> Iterator[Named]:
    yield from _of_rows(within)
    yield from _of_journals(within)
    yield from _of_effects(within)
    yield from _of_reissues(within)
    yield from _of_obligations(within)
    yield from _of_runs(within)


def _of_rows(within: Within) -> Iterator[Named]:
    """What holds of effects and obligations alike, by their rows and the last of their journals."""
    j = journal.c
    for table, key, calling in (
        (effects, effects.c.effect_key, "DISPATCHING"),
        (obligations, obligations.c.obligation_key, "COMPENSATING"),
    ):
        row, ours = table.c, within(table.c.effect_key)
        found = select(key, row.status).where(ours)
        last = journal.alias("last")
        is_last = and_(last.c.key == key, last.c.seq == row.version)
        differs = or_(last.c.seq.is_(None), last.c.status != row.status, last.c.token != row.token)
        yield (
            "the row is what its last journal entry says",
            found.select_from(table.outerjoin(last, is_last)).where(
                or_(differs, exists().where(j.key == key, j.seq > row.version))
            ),
        )
        claims = select(func.count()).where(j.key == key, j.kind.in_(["claimed", "look"])).scalar_subquery()
        yield "the token counts the claims", found.where(row.token != claims)
        calls = select(func.count()).where(j.key == key, j.kind == "claimed").scalar_subquery()
        yield "no attempt was made without a claim", found.where(row.attempt > calls)
        yield "what is STUCK says why", found.where(row.status == "STUCK", row.reason == "")
        unleased = or_(row.lease_until_ms.is_(None), row.claim_nonce == "")
        yield "what is under way is leased", found.where(row.status == calling, unleased)
        unsettled = row.status.in_(["PENDING", calling, "UNKNOWN"])
        yield "what is unsettled is swept", found.where(unsettled, row.sweep_at_ms.is_(None))


def _of_journals(within: Within) -> Iterator[Named]:
    """What holds of every history."""
    j = journal.c
    ours = histories.belongs(within)
    earlier = journal.alias("earlier")
    chained = and_(earlier.c.key == j.key, earlier.c.seq == j.seq - 1)
    pairs = select(j.key, j.seq).select_from(journal.join(earlier, chained)).where(ours)
    yield (
        "the journal is a chain",
        select(j.key, j.seq)
        .select_from(journal.outerjoin(earlier, chained))
        .where(ours, j.seq > 1, or_(earlier.c.seq.is_(None), earlier.c.status != j.from_status)),
    )
    yield (
        "the journal begins with the recording, and only with it",
        select(j.key, j.kind).where(ours, (j.seq == 1) != (j.kind == "recorded")),
    )
    taken = tuple_(j.kind, j.from_status, j.status)
    of_effect = and_(j.key == j.effect_key, taken.not_in(sorted(EFFECT_EDGES)))
    of_obligation = and_(j.key != j.effect_key, taken.not_in(sorted(OBLIGATION_EDGES)))
    yield (
        "every transition is one that the table allows",
        select(j.key, j.seq).where(ours, or_(of_effect, of_obligation)),
    )
    yield (
        "every claim raises the token, and nothing else does",
        pairs.where(j.token != earlier.c.token + _is_claim(j.kind)),
    )
    yield "time never runs back", pairs.where(j.at_ms < earlier.c.at_ms - SKEW_MS)
    yield (
        "what a person does says who",
        select(j.key, j.seq).where(ours, j.kind.in_(_BY_PEOPLE), j.actor == ""),
    )
    yield "the evidence of an entry can be read", select(j.key, j.seq).where(ours, j.evidence_json.not_like("{%}"))
    e = effects.c
    yield (
        "every entry is about a row",
        select(j.key, j.seq)
        .select_from(journal.outerjoin(effects, e.effect_key == j.effect_key))
        .where(ours, e.effect_key.is_(None)),
    )


def _of_effects(within: Within) -> Iterator[Named]:
    e, j = effects.c, journal.c
    earlier = journal.alias("earlier")
    chained = and_(earlier.c.key == j.key, earlier.c.seq == j.seq - 1)
    found = select(e.effect_key, e.status).where(within(e.effect_key))
    yield (
        "a non-idempotent call that may have landed is never made again",
        select(j.key, j.seq)
        .select_from(journal.join(effects, e.effect_key == j.key).join(earlier, chained))
        .where(within(e.effect_key), e.semantics == "non_idempotent", j.kind == "claimed")
        .where(_may_land_before(j.key, j.seq)),
    )
    yield (
        "an ended effect holds no business key",
        found.where(e.status.in_(["FAILED", "CANCELLED"]), e.held_business_key.is_not(None)),
    )
    yield "what is HELD says why", found.where(e.status == "HELD", e.reason == "")
    yield "what is HELD was never sent", found.where(e.status == "HELD", or_(e.token > 0, e.attempt > 0))
    let_go = e.held_business_key.is_distinct_from(e.business_key)
    yield (
        "a live effect holds its business key",
        found.where(e.ended_at_ms.is_(None), e.business_key != "", let_go),
    )
    yield (
        "what is CONFIRMED has evidence",
        found.where(e.status == "CONFIRMED", not_(_has_entry(e.effect_key, j.status == "CONFIRMED"))),
    )
    dead = tombstones.c
    same_held = and_(dead.connector == e.connector, dead.held_business_key == e.held_business_key)
    yield (
        "no key belongs to a tombstone and a row",
        found.where(
            or_(
                exists().where(dead.effect_key == e.effect_key),
                exists().where(dead.idempotency_key == e.idempotency_key),
                exists().where(same_held),
            )
        ),
    )
    yield "what is CANCELLED is not in doubt", found.where(e.status == "CANCELLED", e.may_have_landed)


def _of_reissues(within: Within) -> Iterator[Named]:
    """What holds of effects that were issued again. One of the two rows may have been pruned."""
    first, second = effects.alias("first"), effects.alias("second")
    yield (
        "an effect has one successor at most",
        select(second.c.effect_key, second.c.reissue_of)
        .select_from(second.join(first, first.c.effect_key == second.c.reissue_of))
        .where(within(second.c.effect_key), first.c.reissued_as != second.c.effect_key),
    )
    yield (
        "a successor says what it succeeds, and is the same request",
        select(first.c.effect_key, first.c.reissued_as)
        .select_from(first.join(second, second.c.effect_key == first.c.reissued_as))
        .where(
            within(first.c.effect_key),
            or_(
                second.c.reissue_of != first.c.effect_key,
                second.c.connector != first.c.connector,
                second.c.request_digest != first.c.request_digest,
            ),
        ),
    )
    yield (
        "what was reissued exists, or was pruned",
        select(first.c.effect_key, first.c.reissued_as).where(
            within(first.c.effect_key),
            first.c.reissued_as != "",
            not_(exists().where(second.c.effect_key == first.c.reissued_as)),
            not_(exists().where(tombstones.c.effect_key == first.c.reissued_as)),
        ),
    )


def _of_obligations(within: Within) -> Iterator[Named]:
    e, o, j = effects.c, obligations.c, journal.c
    ours = within(o.effect_key)
    yield (
        "an obligation belongs to an effect that was CONFIRMED",
        select(o.obligation_key, o.effect_key).where(
            ours,
            not_(_has_entry(o.effect_key, j.status == "CONFIRMED")),
            # Late evidence of a duplicate while a newer claim is at work: that claim can only end CONFIRMED.
            not_(exists().where(e.effect_key == o.effect_key, e.landed)),
        ),
    )
    survivor = exists().where(e.effect_key == o.effect_key, e.external_ref == o.external_ref)
    yield (
        "the record that stays is never reversed as a duplicate",
        select(o.obligation_key, o.external_ref).where(
            ours, o.kind.in_(["duplicate", "late"]), o.status != "STUCK", survivor, _not_resolved(o.obligation_key)
        ),
    )


def _of_runs(within: Within) -> Iterator[Named]:
    o, j = obligations.c, journal.c
    undone, newer = effects.alias("undone"), effects.alias("newer")
    debt, done = obligations.alias("debt"), journal.alias("done")
    came_later = or_(
        newer.c.created_at_ms > undone.c.created_at_ms,
        and_(newer.c.created_at_ms == undone.c.created_at_ms, newer.c.effect_key > undone.c.effect_key),
    )
    had_been_undone = exists(
        select(literal(1))
        .select_from(debt.join(done, done.c.key == debt.c.obligation_key))
        .where(debt.c.effect_key == newer.c.effect_key, debt.c.external_ref == newer.c.external_ref)
        .where(done.c.status == "COMPENSATED", done.c.at_ms <= o.created_at_ms)
        .correlate_except(debt, done)
    )
    yield (
        "a run is undone newest first, one after another",
        select(o.obligation_key, newer.c.effect_key)
        .select_from(
            obligations.join(undone, undone.c.effect_key == o.effect_key).join(newer, contains(undone.c.run_id, newer))
        )
        .where(within(o.effect_key), o.kind == "run", came_later)
        .where(newer.c.status == "CONFIRMED", newer.c.semantics != "observe_only")
        .where(newer.c.ended_at_ms <= o.created_at_ms, not_(had_been_undone))
        # What ended otherwise first was CONFIRMED by late evidence, or by a person: nobody knows here how late.
        .where(not_(_has_entry(newer.c.effect_key, j.status.in_(["FAILED", "CANCELLED"])))),
    )


def _liveness(late: ColumnElement[int]) -> Iterator[Named]:
    e, o = effects.c, obligations.c
    yield "nothing is overdue", select(e.effect_key, e.status).where(e.sweep_at_ms.is_not(None), e.sweep_at_ms < late)
    yield (
        "no obligation is overdue",
        select(o.obligation_key, o.status).where(o.sweep_at_ms.is_not(None), o.sweep_at_ms < late),
    )
    r = runs.c
    yield "no run is overdue", select(r.run_id, r.status).where(r.sweep_at_ms.is_not(None), r.sweep_at_ms < late)


def _is_claim(kind: ColumnElement[str]) -> ColumnElement[int]:
    return case((kind.in_(["claimed", "look"]), 1), else_=0)


def _may_land_before(key: ColumnElement[str], seq: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether an earlier claim of the same effect ended UNKNOWN without a definite answer before this one."""
    before = journal.alias("before")
    earlier = select(literal(1)).where(
        before.c.key == key,
        before.c.seq < seq,
        before.c.status == "UNKNOWN",
        before.c.kind.in_(["unknown", "lapsed"]),
        not_(_cleared(key, before.c.seq, seq)),
    )
    return exists(earlier.correlate_except(before))


def _cleared(key: ColumnElement[str], after: ColumnElement[int], before: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether late proof that nothing landed put the effect back to PENDING in between."""
    proof = journal.alias("proof")
    told = select(literal(1)).where(
        proof.c.key == key,
        proof.c.seq > after,
        proof.c.seq < before,
        proof.c.kind == "late",
        proof.c.status == "PENDING",
    )
    # It speaks of an entry two levels out, which SQLAlchemy would list once more in here: any effect's proof would do.
    return exists(told.correlate_except(proof))


def _has_entry(key: ColumnElement[str], condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(select(literal(1)).select_from(journal).where(journal.c.key == key, condition))


def _not_resolved(key: ColumnElement[str]) -> ColumnElement[bool]:
    return not_(_has_entry(key, journal.c.kind == "resolved"))
