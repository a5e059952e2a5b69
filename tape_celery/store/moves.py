"""Moving rows by events: read, decide, write under a guard, journal, and register what is owed, in one transaction.

Every transition but a claim comes through here: seals, lapses, expiries, acts of people, late evidence. The deciding
is `tape_celery.state`'s; here is the guard. A row that somebody else moved between the read and the write is read and
decided again, on what it has become; so a race that is lost is never silent and never overwrites.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from tape_celery import metering, obligation_state, state
from tape_celery.announcing import Change
from tape_celery.errors import CommitUncertain, NoSuchEffect, NotAllowed, StoreUnavailable
from tape_celery.events import Event, Lapsed, Observed, ReissueAsked, to_evidence
from tape_celery.intent import successor_of
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, replace
from tape_celery.schema import journal, obligations
from tape_celery.store import callbacks, guarded, orderings, registering, runs, superseding
from tape_celery.store.database import Database
from tape_celery.store.intents import announce, announce_within, insert_intent
from tape_celery.store.pipelining import commit_at_once, read_alone
from tape_celery.store.rows import HEAD, OBLIGATIONS, Kind, R, entry, head_column, with_heads, write_journal
from tape_celery.store.together import among

ROUNDS = 50
"""How often a row may be moved under our hands before the unit gives up."""


@dataclass(frozen=True)
class Move:
    """An event for one row, and the terms that it is decided under. The event's instant is set by the database."""

    key: str
    event: Event
    terms: Terms
    seen: Effect | Obligation | None = None
    """The row as its claim left it. It is decided on as long as the guard of the write finds the row so."""
    head: str | None = None
    """The digest of the entry of that claim, which is the last one as long as the row stands so; ``None``: it is
    read."""


@dataclass(frozen=True)
class Moved(Generic[R]):
    """What a move made of its row."""

    before: R
    after: R
    kind: str
    """The journal entry's; ``"late"`` where the event did not end the claim that the row was under."""
    owed: tuple[str, ...] = ()
    """The keys of the obligations that it registered."""
    born_stuck: tuple[Obligation, ...] = ()
    """Those of them that nobody works off."""
    next: Effect | None = None
    """The effect whose turn it has become: the next one of the ordering key."""
    may_call_back: bool = False
    """Callbacks of it may have fallen due."""
    run_may_walk: bool = False
    """Its run may be closed, and to be walked."""
    settle_ms: int = 0
    """Of the terms that it was decided under."""

    @property
    def has_new_status(self) -> bool:
        """Whether the row is in another state than before."""
        return self.before.status != self.after.status


Refused = NotAllowed | NoSuchEffect

Alongside = Callable[[Connection], None]
"""What is written in the transaction of a move, or not at all; it may be done again after a lost answer to COMMIT."""


def changes(results: Iterable[Moved[R] | Refused]) -> list[Change]:
    """What there is to tell of moves."""
    found: list[Change] = []
    for one in results:
        if isinstance(one, Moved):
            if one.has_new_status:
                found.append(Change(one.after, one.before.status))
            found += [Change(debt, "") for debt in one.born_stuck]
    return found


def move(
    database: Database, kind: Kind[R], moves: Sequence[Move], *, alongside: Alongside | None = None
) -> dict[str, Moved[R] | Refused]:
    """Apply ``moves``, at most one a key, in one transaction; what a row's state refuses comes back as its error.

    The answer to COMMIT being lost, the same moves are applied again: each leaves its nonce in the journal, so none
    counts twice. Raises `StoreUnavailable` when nothing was written or nobody can tell.
    """
    named = [
        item if item.event.nonce else replace(item, event=replace(item.event, nonce=uuid.uuid4().hex)) for item in moves
    ]

    def unit(connection: Connection, again: bool = False, first: bool = False) -> dict[str, Moved[R] | Refused]:
        if first and alongside is None and (sent := _move_at_once(connection, database, kind, named)) is not None:
            return sent
        results = move_within(connection, database, kind, named, again=again, together=first and len(named) > 1)
        if alongside is not None:
            for result in results.values():
                if isinstance(result, Exception):
                    raise result
            alongside(connection)
        # Last, and after the rows themselves: whoever walks the run locks in the same order.
        moved = {result.after.run_id for result in results.values() if isinstance(result, Moved)}
        if runs.wake(connection, database, moved):
            return {key: _noted(result, run_may_walk=True) for key, result in results.items()}
        return results

    try:
        try:
            results = database.write(lambda connection: unit(connection, first=True))
        except _LostRace:
            results = database.write(unit)
    except CommitUncertain:
        results = database.write(lambda connection: unit(connection, again=True))
    told(database, results.values())
    return results


def told(database: Database, results: Iterable[Moved[R] | Refused], also: Sequence[Change] = ()) -> None:
    """Tell of moves that were committed, and of what else has changed with them."""
    made: list[Moved[R]] = [one for one in results if isinstance(one, Moved)]
    announce(database, [*changes(made), *also])
    if (meter := database.meter) is not None:
        for one in made:
            before, after = one.before, one.after
            metering.count_entry(meter, after, before.status, one.kind)
            if isinstance(before, Effect) and before.status is EffectStatus.UNKNOWN and one.has_new_status:
                since_ms = (before.settled_at_ms or before.updated_at_ms) - one.settle_ms
                seconds = (after.updated_at_ms - since_ms) / 1000
                meter.span(metering.UNKNOWN, seconds, after.connector, after.status)
        meter.send()


class _LostRace(Exception):
    """Of what was written together something could not be, one row was moved by somebody else for instance: nothing of
    the unit is committed."""


def act(
    database: Database, kind: Kind[R], key: str, event: Event, terms: Terms, *, alongside: Alongside | None = None
) -> Moved[R]:
    """Apply one act of a person or the app, with what is written ``alongside``.

    Raises `NoSuchEffect`, `NotAllowed` (the row is as it was), `StoreUnavailable`.
    """
    outcome = move(database, kind, [Move(key, event, terms)], alongside=alongside)[key]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def move_within(
    connection: Connection,
    database: Database,
    kind: Kind[R],
    moves: Sequence[Move],
    *,
    again: bool = False,
    together: bool = False,
) -> dict[str, Moved[R] | Refused]:
    """`move` in the caller's transaction; it wakes nobody.

    ``again``: the moves may have been made before, by a unit whose answer was lost; the journal shows which were.
    ``together``: rows of which the same columns change are written by one statement, and where one of them was moved
    meanwhile, `_LostRace` ends the unit.
    """
    results: dict[str, Moved[R] | Refused] = {}
    waiting = {item.key: item for item in sorted(moves, key=lambda item: item.key)}
    for _ in range(ROUNDS):
        done = _journaled(connection, {key: item.event for key, item in waiting.items()}) if again else {}
        if not again and all(item.seen is not None for item in waiting.values()):
            now, rows, heads = _seen(connection, database, kind, waiting)
        else:
            now, rows, heads = _read(connection, database, kind, list(waiting))
        for key, made in done.items():
            results[key] = _made(connection, rows[key], made)
            del waiting[key]
        steps, decided = _decide_each(connection, kind, waiting, now, rows, heads)
        results |= decided
        moved = _written(connection, database, kind, steps, together)
        results |= moved
        waiting = {key: item for key, item in waiting.items() if key not in results}
        for key in callbacks.fall_due(connection, _arrived(moved), now):
            results[key] = _noted(results[key], may_call_back=True)
        announce_within(connection, database, changes(moved.values()))
        if not waiting:
            return results
        # What moved a row under our hands may have been our own lost unit.
        again = True
    raise StoreUnavailable(f"{', '.join(waiting)} moved {ROUNDS} times while it was written")


def _move_at_once(
    connection: Connection, database: Database, kind: Kind[R], moves: Sequence[Move]
) -> dict[str, Moved[R] | Refused] | None:
    """`move_within` and `runs.wake`, for rows as they were seen, with all that is written sent and committed in one
    piece: on PostgreSQL, where rows, their entries and marks on what follows are all that there is to write.

    ``None``: nothing was written, and it is to be done in the ordinary way. Raises `_LostRace`, and `CommitUncertain`.
    """
    if connection.dialect.name != "postgresql" or any(item.seen is None or item.head is None for item in moves):
        return None
    asked = read_alone(connection, database.asks_now())
    if asked is None:
        return None
    [(now,)] = asked
    waiting = {item.key: item for item in sorted(moves, key=lambda item: item.key)}
    rows: dict[str, Any] = {key: item.seen for key, item in waiting.items()}
    heads = {key: item.head or "" for key, item in waiting.items()}
    steps, results = _decide_each(connection, kind, waiting, now, rows, heads)
    if not steps or not all(step.is_alone for step in steps) or connection.in_transaction():
        return None
    entries: list[dict[str, Any]] = []
    moved = {step.key: _followed(connection, database, step, entries) for step in steps}
    if database.announcer is not None and database.announcer.intents(changes(moved.values())):
        return None
    of_row = {entry["key"]: entry for entry in entries}
    moving = [
        guarded.moving(kind, group, of_row) for group in guarded.alike(guarded.sealed(kind, steps, database.cipher))
    ]
    falling = callbacks.falling_due(_arrived(moved), now)
    waking = runs.waking(database, {one.after.run_id for one in moved.values()})
    try:
        committed = commit_at_once(connection, *moving, *falling, waking)
    except IntegrityError:
        committed = None  # somebody else has written the entry of that number
    if committed is None:
        raise _LostRace
    results |= moved
    *fallen, woken = committed[len(moving) :]
    for (_, those), answer in zip(falling, fallen, strict=True):
        if answer.rowcount:
            results |= {key: _noted(results[key], may_call_back=True) for key in those["keys"]}
    if woken.rowcount:
        return {key: _noted(result, run_may_walk=True) for key, result in results.items()}
    return results


def _arrived(moved: Mapping[str, Moved[Any]]) -> list[Effect]:
    """The effects that have come to another state."""
    return [one.after for one in moved.values() if one.has_new_status and isinstance(one.after, Effect)]


def _journaled(connection: Connection, events: Mapping[str, Event]) -> dict[str, RowMapping]:
    """The entries, by key, of those events that the journal shows: they were committed."""
    statement = select(journal).where(journal.c.key.in_(list(events)), journal.c.kind.not_in(["claimed", "look"]))
    rows = connection.execute(statement).mappings()
    return {row["key"]: row for row in rows if _tells(json.loads(row["evidence_json"]), events[row["key"]])}


def _tells(evidence: Mapping[str, Any], event: Event) -> bool:
    """Whether ``evidence`` is that of ``event``: its nonce, and what it says."""
    facts = to_evidence(event)
    same = ("event", "nonce", "token", "status", "external_ref", "sent", "may_have_landed", "final", "verdict")
    return all(evidence.get(name) == facts.get(name) for name in same)


def _noted(result: Moved[R] | Refused, **facts: Any) -> Moved[R] | Refused:
    return replace(result, **facts) if isinstance(result, Moved) else result


def _made(connection: Connection, now: R, made: RowMapping) -> Moved[R]:
    """What an entry of the journal says that was made of the row, which is ``now`` as it is."""
    if "owed" not in json.loads(made["evidence_json"]):
        return Moved(now, now, made["kind"], may_call_back=True, run_may_walk=True)
    statement = (
        select(obligations.c.obligation_key)
        .where(obligations.c.effect_key == made["key"], obligations.c.created_at_ms == made["at_ms"])
        .order_by(obligations.c.obligation_key)
    )
    owed = tuple(connection.execute(statement).scalars())
    return Moved(now, now, made["kind"], owed, may_call_back=True, run_may_walk=True)


def _seen(
    connection: Connection, database: Database, kind: Kind[R], moves: Mapping[str, Move]
) -> tuple[int, dict[str, R], dict[str, str]]:
    """As `_read`, but for the rows: those are as they were seen, or the guard of the write says that they are not.
    So it is with the digests of the claims that they were seen after."""
    seen: dict[str, Any] = {key: item.seen for key, item in moves.items()}
    heads = {key: item.head for key, item in moves.items() if item.head is not None}
    if len(heads) == len(seen):
        return database.read_now(connection), seen, heads
    found = connection.execute(_heads(kind, database.now), {"keys": list(seen)}).all()
    now = found[0].now if found else 0
    return now, {row.key: seen[row.key] for row in found}, {row.key: row.head or "" for row in found}


@lru_cache(maxsize=16)
def _heads(kind: Kind[Any], now: ColumnElement[int]) -> Select[Any]:
    key = kind.table.c[kind.key]
    return select(key.label("key"), head_column(kind, 0), now.label("now")).where(among(key, "keys"))


def _read(
    connection: Connection, database: Database, kind: Kind[R], keys: Sequence[str]
) -> tuple[int, dict[str, R], dict[str, str]]:
    """Now, the rows as they stand, and the digests that their journals end with; the rows first, so that now is after
    whatever made them what they are."""
    found = connection.execute(with_heads(kind), {"keys": list(keys)}).mappings().all()
    rows = {row[kind.key]: kind.opened(kind.read(row), database.cipher) for row in found}
    # Where the last entry is missing, the journal goes on all the same: what was taken out of it is the audit's to say.
    heads = {row[kind.key]: row[HEAD] or "" for row in found}
    return database.read_now(connection), rows, heads


def _decide_each(
    connection: Connection,
    kind: Kind[R],
    moves: Mapping[str, Move],
    now: int,
    rows: Mapping[str, R],
    heads: Mapping[str, str],
) -> tuple[list[guarded.Step[R]], dict[str, Moved[R] | Refused]]:
    """What is to be written of the moves, and what is known of the others already."""
    steps: list[guarded.Step[R]] = []
    others: dict[str, Moved[R] | Refused] = {}
    for key, item in moves.items():
        event = replace(item.event, at_ms=now)
        decided = _decide(connection, kind, rows.get(key), key, event, item.terms, heads.get(key, ""))
        if isinstance(decided, guarded.Step):
            steps.append(decided)
        else:
            others[key] = decided
    return steps, others


def _decide(
    connection: Connection, kind: Kind[R], before: R | None, key: str, event: Event, terms: Terms, head: str
) -> guarded.Step[R] | Moved[R] | Refused:
    """What ``event`` makes of its row; what it was made of it already, or why it is refused."""
    if before is None:
        return NoSuchEffect(key)
    try:
        step = _decided(connection, kind, before, key, event, terms, head)
    except NotAllowed as refused:
        return refused
    if step.kind == "late" and (known := _journaled(connection, {key: step.event})):
        # The same seal, tried again after its answer was lost: it is late only because it was in time.
        return _made(connection, before, known[key])
    return step


def _decided(
    connection: Connection, kind: Kind[Any], before: Any, key: str, event: Event, terms: Terms, head: str
) -> guarded.Step[Any]:
    if isinstance(event, Lapsed):
        event = replace(event, lease_until_ms=before.lease_until_ms or event.at_ms)
    if isinstance(before, Obligation):
        inverse = obligation_state.decide(before, event, terms)
        changed = guarded.changed_columns(kind, before, inverse.after)
        return guarded.Step(key, before, inverse.after, changed, inverse.kind, event, terms, head)
    if isinstance(event, Observed):
        event = replace(event, superseded=superseding.is_superseded(connection, before))
        if event.status == "duplicate":
            event = replace(event, others=superseding.records_of_others(connection, before, event.extras))
    decided = state.decide(before, event, terms)
    owed = registering.not_owed_yet(connection, before, event, decided.owed)
    debts = [registering.obligation(decided.after, debt, event) for debt in owed]
    changed = guarded.changed_columns(kind, before, decided.after)
    return guarded.Step(key, before, decided.after, changed, decided.kind, event, terms, head, debts)


def _written(
    connection: Connection, database: Database, kind: Kind[R], steps: Sequence[guarded.Step[R]], together: bool
) -> dict[str, Moved[R]]:
    """Write the steps whose rows still are as they were read, with all that goes with each, and the journal."""
    moved: dict[str, Moved[R]] = {}
    entries: list[dict[str, Any]] = []
    steps = guarded.sealed(kind, steps, database.cipher)
    for group in guarded.alike(steps) if together else [[step] for step in steps]:
        if guarded.write(connection, kind, group):
            for step in group:
                moved[step.key] = _followed(connection, database, step, entries)
        elif together:
            raise _LostRace
    write_journal(connection, entries)
    return moved


def _followed(
    connection: Connection, database: Database, step: guarded.Step[R], entries: list[dict[str, Any]]
) -> Moved[R]:
    """What goes with a row that was written, behind the guard of that write: whoever does not make it makes none."""
    before, after, event = step.before, step.after, step.event
    if isinstance(event, ReissueAsked) and isinstance(before, Effect):
        insert_intent(connection, database, successor_of(before, event.successor), event.actor, 0)
    evidence = to_evidence(event, step.terms)
    if step.debts:
        evidence["owed"] = [debt.external_ref for debt in step.debts]
        connection.execute(insert(obligations), [_row(database, debt) for debt in step.debts])
    entries.append(
        entry(after, step.kind, head=step.head, from_status=before.status, actor=event.actor, evidence=evidence)
    )
    entries.extend(registering.first_entry(debt, event) for debt in step.debts)
    turn = None
    if isinstance(after, Effect) and after.ordering_key and after.status.settled and before.status != after.status:
        turn = orderings.wake_next(connection, database, after)
    keys = tuple(debt.obligation_key for debt in step.debts)
    stuck = tuple(debt for debt in step.debts if debt.status is ObligationStatus.STUCK)
    return Moved(before, after, step.kind, keys, stuck, turn, settle_ms=step.terms.settle_ms)


def _row(database: Database, debt: Obligation) -> dict[str, Any]:
    return OBLIGATIONS.sealed(debt.obligation_key, OBLIGATIONS.columns(debt), database.cipher)
