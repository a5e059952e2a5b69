"""Taking rows under a lease, keeping the lease, and reading back whether a claim was one's own.

A claim is one guarded UPDATE over up to n keys. Of several workers that claim the same row, one gets it; the
others find it changed. What was got comes back with it where the database can, else it is read back by the claim's
nonce, which nobody else can have written; so it is too when the answer to COMMIT was lost. On PostgreSQL a claim of
calls writes its journal entries itself (`claiming_at_once`).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Generic

from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.sql.expression import ColumnElement

from tape_celery import flow
from tape_celery.errors import CommitNotDurable, CommitUncertain, StoreUnavailable, UnknownEncryptionKey
from tape_celery.events import Claimed, to_evidence
from tape_celery.flow import Flow, Verb, Why
from tape_celery.loggers import logger_for
from tape_celery.records import EffectStatus
from tape_celery.schema import effects, journal, obligations
from tape_celery.store import flows, orderings, runs, waiting
from tape_celery.store.claiming_at_once import HEAD_STAND_IN, STAND_IN, claim_at_once, template
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, HEAD, Kind, R, by_keys, entry, head_column, write_journal
from tape_celery.store.together import among, one_of

logger = logger_for(__name__)


@dataclass(frozen=True)
class Reach:
    """What a worker knows, and so may touch: its connectors with their leases, and its decorated effects."""

    lease_ms: Mapping[str, int]
    """By connector."""
    effect_names: Collection[str] = ()
    relay_ms: int = 30_000
    """How long a hint is on its way before it is taken for lost."""

    def covers(self, kind: Kind[Any]) -> ColumnElement[bool]:
        """The guard that leaves the rows of others alone."""
        columns = kind.table.c
        return and_(
            one_of(columns.connector, sorted(self.lease_ms)),
            one_of(columns.effect_name, ["", *sorted(self.effect_names)]),
        )


@dataclass
class Taken(Generic[R]):
    """What came of a claim."""

    claimed: list[R] = field(default_factory=list)
    """Leased to the caller alone."""
    heads: dict[str, str] = field(default_factory=dict)
    """The digests of their claims' journal entries, by key, where they are known."""
    refused: dict[str, Why] = field(default_factory=dict)
    """What would have been claimed, but for a pause, a limit or a breaker; by key."""
    flows: dict[str, Flow] = field(default_factory=dict)
    """By connector, those that were asked."""
    turned: list[tuple[Flow, Flow]] = field(default_factory=list)
    """Those of which the breaker changed: before and after."""


def claim(database: Database, kind: Kind[R], keys: Sequence[str], *, verb: Verb, reach: Reach, actor: str) -> list[R]:
    """`take`, for who does not ask why the others were not claimed."""
    return take(database, kind, keys, verb=verb, reach=reach, actor=actor).claimed


def take(
    database: Database,
    kind: Kind[R],
    keys: Sequence[str],
    *,
    verb: Verb,
    reach: Reach,
    actor: str,
    in_turn: bool = False,
) -> Taken[R]:
    """Claim those of ``keys`` that are due, free and within ``reach``; what comes back is leased to the caller alone.

    Of a connector with a limit only as many are claimed as may go now, the urgent first, then what is due longest;
    with ``in_turn``, also instead of ``keys`` those that wait, have no hint on its way, and go before them.
    A row whose bodies this process cannot decrypt stays as it was, which is logged. Raises `StoreUnavailable` when
    nothing was claimed, or nobody can tell: then nothing may be sent. Where the store goes away between the rows of
    free connectors and those of limited ones, the first come back; where it does so while the second are committed,
    nobody can tell, and the first are left to their leases with them.
    """
    nonce = uuid.uuid4().hex
    taken: Taken[R] = Taken()
    tried = list(keys)
    try:
        taken.claimed = database.write(
            lambda connection: _claim_free(connection, database, kind, keys, verb, reach, nonce, actor, taken.heads)
        )
        if len(taken.claimed) < len(keys):
            mine = {kind.key_of(record) for record in taken.claimed}
            left = [key for key in keys if key not in mine]
            if names := database.read(lambda connection: _held(connection, kind, left, verb)):
                within = database.write(
                    lambda connection: _take_within(
                        connection, database, kind, left, names, verb, reach, nonce, actor, in_turn, tried
                    )
                )
                return _joined(taken, within)
        return taken
    except _Unreadable as found:
        for error in found.errors:
            of = "effect" if kind.table is effects else "obligation"
            logger.error("it was not claimed: %s", error, extra={of: error.key})
        rest = [key for key in keys if key not in {error.key for error in found.errors}]
        rest = [key for key in rest if key not in {kind.key_of(record) for record in taken.claimed}]
        if rest:
            return _joined(taken, take(database, kind, rest, verb=verb, reach=reach, actor=actor))
        return taken
    except CommitNotDurable as error:
        # A claim that goes with the power would let the same call be made again.
        raise StoreUnavailable(f"nothing may be sent under a claim that may not last: {error}") from error
    except CommitUncertain:
        # The nonce decides: what carries it was committed, and by us.
        claimed = database.read(lambda connection: _claimed_with(connection, database, kind, tried, nonce))
        return Taken(claimed)
    except StoreUnavailable as error:
        if not taken.claimed:
            raise
        logger.warning("the store is away, what waits at a limit is left: %s", error)
        return taken


def _joined(first: Taken[R], then: Taken[R]) -> Taken[R]:
    then.claimed[:0] = first.claimed
    then.heads |= first.heads
    return then


def _held(connection: Connection, kind: Kind[Any], keys: Sequence[str], verb: Verb) -> list[str]:
    """The connectors of ``keys`` that do not pass freely."""
    return list(connection.execute(_held_of(kind, verb), {"keys": list(keys)}).scalars())


@cache
def _held_of(kind: Kind[Any], verb: Verb) -> Select[Any]:
    columns = kind.table.c
    these = among(columns[kind.key], "keys")
    found = select(columns.connector).distinct().where(these, columns.connector.in_(flows.held(verb)))
    return found.order_by(columns.connector)


def _take_within(
    connection: Connection,
    database: Database,
    kind: Kind[R],
    keys: Sequence[str],
    names: Sequence[str],
    verb: Verb,
    reach: Reach,
    nonce: str,
    actor: str,
    in_turn: bool,
    tried: list[str],
) -> Taken[R]:
    """Claim as many as their connectors' limits let go, under the lock of each flow; connectors by name, so that two
    that claim of the same do not wait for each other. ``tried`` gets the keys that are claimed."""
    taken: Taken[R] = Taken()
    for name in names:
        before = flows.get(connection, name, verb, lock=True)
        if before is None:
            continue
        now, lease_ms = database.read_now(connection), reach.lease_ms.get(name, 0)
        wanted: list[str] = _due(connection, database, kind, keys, name, verb, reach)
        if not wanted:
            continue
        under_way = flows.in_flight(connection, name, verb, database.now, lease_ms) if before.at_once else 0
        probe = flows.probe_of(connection, before, now)
        one = flow.turned(before, now, probe)
        admitted = flow.admit(one, now, under_way, len(wanted), probe)
        first = wanted[: admitted.number]
        if first and in_turn and (before.at_once or before.rate_count):
            others: list[str] = waiting.first(
                connection, database, kind, name, verb, reach.effect_names, reach.relay_ms, len(wanted)
            )
            either = list(dict.fromkeys([*wanted, *others]))
            first = _due(connection, database, kind, either, name, verb, reach)[: admitted.number]
        tried += first
        claimed: list[R] = []
        if first:
            claimed = _claim(connection, database, kind, first, verb, reach, nonce, actor, taken.heads, limited=True)
            one = flow.taken(one, now, [kind.key_of(record) for record in claimed])
        flows.save(connection, before, one)
        rest = [key for key in wanted if key not in first]
        if before.controlled:
            waiting.sleep(connection, database, kind, rest, verb, reach.relay_ms)
        taken.claimed += claimed
        taken.refused |= dict.fromkeys(rest, admitted.why or Why.LIMITED)
        taken.flows[name] = one
        if one.breaker is not before.breaker:
            taken.turned.append((before, one))
    return taken


def renew(database: Database, kind: Kind[R], claimed: R, *, lease_ms: int) -> bool:
    """Extend the lease of ``claimed``; False when it is no longer the caller's. Raises `StoreUnavailable`."""
    columns = kind.table.c
    until = database.now + lease_ms
    statement = (
        update(kind.table)
        .where(columns[kind.key] == kind.key_of(claimed))
        .where(columns.status == claimed.status.value)
        .where(columns.token == claimed.token)
        .where(columns.lease_until_ms.is_not(None))
        .values(lease_until_ms=until, sweep_at_ms=until)
    )
    return bool(database.write(lambda connection: connection.execute(statement).rowcount))


def _claim_free(
    connection: Connection,
    database: Database,
    kind: Kind[R],
    keys: Sequence[str],
    verb: Verb,
    reach: Reach,
    nonce: str,
    actor: str,
    ends: dict[str, str],
) -> list[R]:
    """`_claim` in a transaction that has nothing else in it, and may be one statement."""
    calls = verb == "call" and kind.table is effects and bool(reach.lease_ms)
    can = calls and connection.dialect.name == "postgresql" and database.cipher is None
    if can and (entry_of_any := _entry_of_any(actor)) is not None:
        claiming = _returning(_statement(kind, verb, reach, database.now, limited=False), kind)
        rows = claim_at_once(connection, claiming, _asked(kind, keys, verb, nonce), keys, entry_of_any)
        if rows is not None:
            ends |= {row[kind.key]: row[HEAD] for row in rows}
            return sorted((kind.read(row) for row in rows), key=kind.key_of)
    return _claim(connection, database, kind, keys, verb, reach, nonce, actor, ends)


@lru_cache(maxsize=64)
def _entry_of_any(actor: str) -> dict[str, Any] | None:
    return template(_claim_entry(EFFECTS, STAND_IN, "call", actor, HEAD_STAND_IN))


def _claim(
    connection: Connection,
    database: Database,
    kind: Kind[R],
    keys: Sequence[str],
    verb: Verb,
    reach: Reach,
    nonce: str,
    actor: str,
    ends: dict[str, str],
    *,
    limited: bool = False,
) -> list[R]:
    """Claim what may be claimed; ``ends`` gets the digests of the entries."""
    statement, asked = _statement(kind, verb, reach, database.now, limited), _asked(kind, keys, verb, nonce)
    if connection.dialect.update_returning:
        rows = connection.execute(_returning(statement, kind), asked).mappings().all()
    elif connection.execute(statement, asked).rowcount:
        rows = connection.execute(_by_nonce(kind), {"keys": list(keys), "nonce": nonce}).mappings().all()
    else:
        rows = []
    heads = {row[kind.key]: _head(connection, kind, row) for row in rows}
    claimed = sorted((kind.opened(kind.read(row), database.cipher) for row in rows), key=kind.key_of)
    _refuse_unreadable(kind, claimed)
    entries = [_claim_entry(kind, record, verb, actor, heads[kind.key_of(record)]) for record in claimed]
    write_journal(connection, entries)
    ends |= {row["key"]: row["digest"] for row in entries}
    return claimed


def _asked(kind: Kind[Any], keys: Sequence[str], verb: Verb, nonce: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"claimed_keys": list(keys), "nonce": nonce}
    if verb == "call" and kind.table is effects:
        asked[orderings.KEYS] = list(keys)
    return asked


class _Unreadable(Exception):
    """Some of the rows cannot be decrypted here: the transaction that claimed them is rolled back."""

    def __init__(self, errors: Sequence[UnknownEncryptionKey]) -> None:
        super().__init__(errors)
        self.errors = errors


def _refuse_unreadable(kind: Kind[R], claimed: Sequence[R]) -> None:
    errors = []
    for record in claimed:
        try:
            kind.refuse_sealed(record)
        except UnknownEncryptionKey as error:
            errors.append(error)
    if errors:
        raise _Unreadable(errors)


def _head(connection: Connection, kind: Kind[Any], row: RowMapping) -> str:
    """The digest of the entry before the claim's."""
    if row[HEAD] is not None:
        return str(row[HEAD])
    # The claim waited for somebody who moved the row: it got the row as that left it, but its other eyes see what was
    # committed when it began. A statement of its own sees the entry. Nor is there one: that is the audit's to say.
    before = select(journal.c.digest).where(journal.c.key == row[kind.key], journal.c.seq == row["version"] - 1)
    return connection.execute(before).scalar() or ""


def _statement(kind: Kind[Any], verb: Verb, reach: Reach, now: ColumnElement[int], limited: bool) -> Update:
    return _guarded(kind, verb, *_known(reach), now, limited)


def _known(reach: Reach) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
    return tuple(sorted(reach.lease_ms.items())), tuple(sorted(reach.effect_names))


@lru_cache(maxsize=64)
def _guarded(
    kind: Kind[Any],
    verb: Verb,
    lease_ms: tuple[tuple[str, int], ...],
    effect_names: tuple[str, ...],
    now: ColumnElement[int],
    limited: bool,
) -> Update:
    """The guarded update: a worker's reach is the same for each, and making it takes as long as executing it.

    ``limited``: of connectors whose flows are locked, and let these rows go.
    """
    columns = kind.table.c
    reach = Reach(dict(lease_ms), effect_names)
    until = now + _lease(kind, reach)
    taken: dict[str, Any] = {
        "token": columns.token + 1,
        "claim_nonce": bindparam("nonce"),
        "claimed_at_ms": now,
        "lease_until_ms": until,
        "sweep_at_ms": until,
        "updated_at_ms": now,
        "version": columns.version + 1,
    }
    free = _may_be_claimed(kind, verb, reach, now)
    guard = free if limited else and_(free, flows.passes_freely(columns.connector, verb))
    return (
        update(kind.table).where(guard).values({**taken, **(_calling(kind, now) if verb == "call" else _looking(kind))})
    )


def _may_be_claimed(kind: Kind[Any], verb: Verb, reach: Reach, now: ColumnElement[int]) -> ColumnElement[bool]:
    columns = kind.table.c
    statuses = (EffectStatus.PENDING.value,) if verb == "call" else kind.looking
    return and_(
        among(columns[kind.key], "claimed_keys"),
        _unsought(and_(reach.covers(kind), one_of(columns.status, statuses))),
        columns.due_at_ms <= now,
        _may_call(kind, now) if verb == "call" else _may_look(kind, now),
    )


def _due(
    connection: Connection,
    database: Database,
    kind: Kind[Any],
    keys: Sequence[str],
    connector: str,
    verb: Verb,
    reach: Reach,
) -> list[str]:
    asked = {"claimed_keys": list(keys), "of_connector": connector, orderings.KEYS: list(keys)}
    return list(connection.execute(_in_order(kind, verb, *_known(reach), database.now), asked).scalars())


@lru_cache(maxsize=64)
def _in_order(
    kind: Kind[Any],
    verb: Verb,
    lease_ms: tuple[tuple[str, int], ...],
    effect_names: tuple[str, ...],
    now: ColumnElement[int],
) -> Select[Any]:
    """The keys of one connector that could be claimed: the urgent first, then what is due longest."""
    columns = kind.table.c
    found = select(columns[kind.key]).where(_may_be_claimed(kind, verb, Reach(dict(lease_ms), effect_names), now))
    urgent = [columns.priority.desc()] if kind.table is effects else []
    order = (*urgent, columns.due_at_ms, columns[kind.key])
    return found.where(_unsought(columns.connector == bindparam("of_connector"))).order_by(*order)


@lru_cache(maxsize=64)
def _returning(claiming: Update, kind: Kind[Any]) -> ReturningUpdate[Any]:
    """Where the database can, it gives the rows back as it writes them."""
    return claiming.returning(*kind.table.c, head_column(kind, 1))


def _unsought(guard: ColumnElement[bool]) -> ColumnElement[bool]:
    """``guard`` so that no index serves it: a store without statistics takes all rows of a connector for a few."""
    return case((guard, 1), else_=0) == 1


def _may_call(kind: Kind[Any], now: ColumnElement[int]) -> ColumnElement[bool]:
    columns = kind.table.c
    if kind.table is effects:
        in_time = or_(columns.expires_at_ms.is_(None), columns.expires_at_ms > now)
        return and_(in_time, not_(runs.is_closed(columns.run_id)), orderings.IS_FREE)
    # Nothing is compensated while its effect is anything but CONFIRMED.
    return exists().where(
        effects.c.effect_key == obligations.c.effect_key, effects.c.status == EffectStatus.CONFIRMED.value
    )


def _may_look(kind: Kind[R], now: ColumnElement[int]) -> ColumnElement[bool]:
    columns = kind.table.c
    return or_(columns.lease_until_ms.is_(None), columns.lease_until_ms <= now)


def _calling(kind: Kind[R], now: ColumnElement[int]) -> dict[str, Any]:
    columns = kind.table.c
    return {
        "status": kind.calling,
        "attempt": columns.attempt + 1,
        "dispatch_token": columns.token + 1,
        "first_sent_at_ms": func.coalesce(columns.first_sent_at_ms, now),
        "might_before": columns.may_have_landed,
        "reason": "",
    }


def _looking(kind: Kind[R]) -> dict[str, Any]:
    columns = kind.table.c
    if kind.table is obligations:
        return {"looks": columns.looks + 1}
    return {"looks": columns.looks + case((columns.status == EffectStatus.UNKNOWN.value, 1), else_=0)}


def _lease(kind: Kind[R], reach: Reach) -> ColumnElement[int]:
    spans = sorted(set(reach.lease_ms.values()))
    if len(spans) <= 1:
        return literal(spans[0] if spans else 0)
    return case(dict(reach.lease_ms), value=kind.table.c.connector, else_=spans[0])


def _claimed_with(
    connection: Connection, database: Database, kind: Kind[R], keys: Sequence[str], nonce: str
) -> list[R]:
    found = connection.execute(_by_nonce(kind), {"keys": list(keys), "nonce": nonce}).mappings()
    return [kind.opened(kind.read(row), database.cipher) for row in found]


@cache
def _by_nonce(kind: Kind[Any]) -> Select[Any]:
    columns = kind.table.c
    with_nonce = by_keys(kind).add_columns(head_column(kind, 1)).where(columns.claim_nonce == bindparam("nonce"))
    return with_nonce.order_by(columns[kind.key])


def _claim_entry(kind: Kind[R], record: R, verb: Verb, actor: str, head: str) -> dict[str, Any]:
    lease_ms = (record.lease_until_ms or 0) - (record.claimed_at_ms or 0)
    evidence = to_evidence(Claimed(verb=verb, nonce=record.claim_nonce, lease_ms=lease_ms))
    name, before = ("claimed", EffectStatus.PENDING) if verb == "call" else ("look", record.status)
    return entry(record, name, head=head, from_status=str(before), actor=actor, evidence=evidence)
