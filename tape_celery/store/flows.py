"""The table of what people have said of connectors at run time: pauses, places, rates, breakers, and where they stand.

A connector of which nothing is said pays one look at a table of a few rows, inside its claim's own statement. Of one
with a limit, the row of its flow is locked for each claim, before any row of an effect: so all workers count as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Update,
    bindparam,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from tape_celery import flow
from tape_celery.errors import StaleView
from tape_celery.flow import Breaker, Flow, Probe, Trouble, Verb, What
from tape_celery.records import EffectStatus, ObligationStatus, Pause
from tape_celery.schema import flows
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind

_HELD = or_(flows.c.paused.is_(true()), flows.c.controlled.is_(true()))
_SAID = or_(_HELD, flows.c.most_waiting > 0)
_NAMES = tuple(field.name for field in dataclasses.fields(Flow))
_STATE = (
    "full_at_us", "breaker", "breaker_at_ms", "probe_key", "window_at_ms", "calls", "unknown_calls", "failed_calls",
)  # fmt: skip
"""What calls change, and people do not."""


def passes_freely(connector: ColumnElement[str], verb: Verb) -> ColumnElement[bool]:
    """The guard of a claim: its connector is neither paused nor under any control."""
    return not_(exists().where(flows.c.connector == connector, flows.c.verb == verb, _HELD))


def held(verb: Verb) -> Select[Any]:
    """The names of the connectors that do not pass freely."""
    return select(flows.c.connector).where(flows.c.verb == verb, _HELD)


def is_held(database: Database, connector: str, verb: Verb) -> bool:
    """Whether one connector does not pass freely."""
    return database.read(lambda connection: connection.execute(_held_of(verb), {"of": connector}).first() is not None)


@cache
def _held_of(verb: Verb) -> Select[Any]:
    return held(verb).where(flows.c.connector == bindparam("of"))


def every(database: Database) -> list[Flow]:
    """All that was ever said, by name; one of which all was taken back is there too."""
    statement = select(flows).order_by(flows.c.connector, flows.c.verb)
    return [_read(row) for row in database.read(lambda connection: connection.execute(statement).mappings().all())]


def held_ones(database: Database) -> dict[tuple[str, Verb], Flow]:
    """The flows that do not pass freely, by connector and verb."""
    return {(found.connector, found.verb): found for found in database.read(held_by)}


def held_by(connection: Connection) -> list[Flow]:
    """The same, by name, in the caller's transaction."""
    return _read_all(connection, _HELD)


def said_of(connection: Connection) -> list[Flow]:
    """The flows of which anything holds, by name; a bound on what may wait holds back nothing that does."""
    return _read_all(connection, _SAID)


def _read_all(connection: Connection, which: ColumnElement[bool]) -> list[Flow]:
    return [_read(row) for row in connection.execute(_by_name(which)).mappings().all()]


@cache
def _by_name(which: ColumnElement[bool]) -> Select[Any]:
    return select(flows).where(which).order_by(flows.c.connector, flows.c.verb)


def pauses(database: Database) -> list[Pause]:
    """The connectors that are paused, by name."""
    return [as_pause(one) for one in every(database) if one.paused]


def as_pause(one: Flow) -> Pause:
    """What people have said of a paused connector."""
    said = one.said("pause")
    return Pause(
        connector=one.connector,
        reason=said.reason,
        actor=said.actor,
        since_ms=said.at_ms,
        version=one.version,
        looks=one.verb == "look",
    )


def _read(row: Any) -> Flow:
    values = {name: row[name] for name in _NAMES}
    made = {"paused": bool(values["paused"]), "breaker": Breaker(values["breaker"])}
    return Flow(**values | made | {"said_json": values["said_json"] or ""})


def _columns(one: Flow) -> dict[str, Any]:
    return vars(one) | {"breaker": one.breaker.value, "controlled": one.controlled}


@cache
def _of(lock: bool) -> Select[Any]:
    one = select(flows).where(flows.c.connector == bindparam("of_connector"), flows.c.verb == bindparam("of_verb"))
    return one.with_for_update() if lock else one


def get(connection: Connection, connector: str, verb: Verb, *, lock: bool = False) -> Flow | None:
    """One flow; with ``lock``, nobody else claims of it, or changes it, until the caller's transaction is over."""
    row = connection.execute(_of(lock), _asked(connector, verb)).mappings().first()
    return None if row is None else _read(row)


def _asked(connector: str, verb: Verb) -> dict[str, Any]:
    return {"of_connector": connector, "of_verb": verb}


def say(
    database: Database,
    connector: str,
    verb: Verb,
    what: What,
    change: Callable[[Flow, int], Flow],
    *,
    reason: str,
    actor: str,
    seen_version: int | None = None,
) -> tuple[Flow, Flow]:
    """Let ``change`` make of a flow what a person wants, by the database's time; returns it as it was, and is.

    It waits for a claim or a sweep that has it locked. Raises `StoreUnavailable`, and `StaleView` where a person has
    said something of it since ``seen_version``.
    """

    def write(connection: Connection) -> tuple[Flow, Flow]:
        before = get(connection, connector, verb, lock=True)
        if before is None:
            try:
                with connection.begin_nested():
                    connection.execute(insert(flows), _columns(Flow(connector=connector, verb=verb)))
            except IntegrityError:
                pass  # another person was first
            before = _read(connection.execute(_of(True), _asked(connector, verb)).mappings().one())
        if seen_version not in (None, before.version):
            changed, act = f"changed by {before.actor} ({before.reason})", f"{what} for {verb}s"
            raise StaleView(connector, changed, act, seen_version or 0, before.version)
        now = database.read_now(connection)
        after = change(before, now).saying(what, reason, actor, now)
        connection.execute(_saying(), _parameters(after, _columns(after).keys() - {"connector", "verb"}))
        return before, after

    return database.write(write)


@cache
def _saying() -> Update:
    return _updating(tuple(sorted(_columns(Flow(connector="")).keys() - {"connector", "verb"})))


@cache
def _updating(names: tuple[str, ...]) -> Update:
    mine = (flows.c.connector == bindparam("of_connector"), flows.c.verb == bindparam("of_verb"))
    return update(flows).where(*mine).values({name: bindparam(f"new_{name}") for name in names})


def _parameters(one: Flow, names: Iterable[str]) -> dict[str, Any]:
    columns = _columns(one)
    return {f"new_{name}": columns[name] for name in names} | {"of_connector": one.connector, "of_verb": one.verb}


def save(connection: Connection, before: Flow, after: Flow) -> None:
    """Write where the limits stand; the flow is locked by the caller."""
    if after != before:
        connection.execute(_updating(_STATE), _parameters(after, _STATE))


# --- what is under way ---


def in_flight(connection: Connection, connector: str, verb: Verb, now: ColumnElement[int], lease_ms: int) -> int:
    """How many of a connector are under a lease that is not over, over all workers, for this verb.

    Whoever wants to rely on it holds the lock of the flow.
    """
    asked = {"of_connector": connector, **({"lease_ms": max(lease_ms, 60_000)} if verb == "look" else {})}
    return sum(connection.execute(_in_flight(kind, verb, now), asked).scalar_one() for kind in (EFFECTS, OBLIGATIONS))


@cache
def _in_flight(kind: Kind[Any], verb: Verb, now: ColumnElement[int]) -> Select[Any]:
    columns = kind.table.c
    counted = select(func.count()).select_from(kind.table).where(columns.connector == bindparam("of_connector"))
    leased = counted.where(columns.lease_until_ms > now)
    if verb == "call":
        return leased.where(columns.status == kind.calling)
    # By the index of sweeps, in which a leased row stands at the end of its lease; what sleeps stands far behind it.
    until = now + bindparam("lease_ms", type_=BigInteger)
    near = leased.where(columns.sweep_at_ms.is_not(None), columns.sweep_at_ms > now, columns.sweep_at_ms <= until)
    return near.where(columns.status.in_(kind.looking))


def probe_of(connection: Connection, one: Flow, now_ms: int) -> Probe:
    """What has become of the probe of a half-open breaker, as its row tells it."""
    if one.breaker is not Breaker.HALF_OPEN:
        return Probe.GONE
    for kind in (EFFECTS, OBLIGATIONS):
        row = connection.execute(_probed(kind), {"probe_key": one.probe_key}).first()
        if row is None:
            continue
        if one.verb == "look" or row.status == kind.calling:
            return Probe.OUT if (row.lease_until_ms or 0) > now_ms or row.status == kind.calling else Probe.GONE
        if row.status == EffectStatus.UNKNOWN:
            return Probe.OUT
        if row.status == EffectStatus.FAILED:
            return Probe.FAILED
        # What its own answer said is believed only when the upstream was asked, by who got the answer.
        landed = row.status in (EffectStatus.CONFIRMED, ObligationStatus.COMPENSATED)
        return Probe.SEEN if landed and row.token > row.dispatch_token else Probe.GONE
    return Probe.GONE


@cache
def _probed(kind: Kind[Any]) -> Select[Any]:
    columns = kind.table.c
    wanted = (columns.status, columns.token, columns.dispatch_token, columns.lease_until_ms)
    return select(*wanted).where(columns[kind.key] == bindparam("probe_key"))


# --- what calls say of the upstream ---


def count(
    database: Database, connector: str, verb: Verb, results: Sequence[tuple[str, Trouble]]
) -> tuple[Flow, Flow] | None:
    """Count how calls or looks ended, for the breaker; the flow before and after it, ``None`` where there is none."""
    return _change(database, connector, verb, lambda one, now: flow.after(one, results, now))


def end_probe(database: Database, connector: str, verb: Verb, key: str, *, seen: bool) -> tuple[Flow, Flow] | None:
    """Close the breaker whose probe was ``seen`` at the upstream, else open it again; nothing if it has another."""

    def end(one: Flow, now: int) -> Flow:
        is_mine = one.breaker is Breaker.HALF_OPEN and one.probe_key == key
        return flow.turned(one, now, Probe.SEEN if seen else Probe.FAILED) if is_mine else one

    return _change(database, connector, verb, end)


def look_after_probe(database: Database, connector: str, verb: Verb) -> tuple[Flow, Flow] | None:
    """Turn a half-open breaker by what has become of its probe meanwhile."""

    def write(connection: Connection) -> tuple[Flow, Flow] | None:
        if (one := get(connection, connector, verb, lock=True)) is None:
            return None
        now = database.read_now(connection)
        after = flow.turned(one, now, probe_of(connection, one, now))
        save(connection, one, after)
        return one, after

    return database.write(write)


def _change(
    database: Database, connector: str, verb: Verb, change: Callable[[Flow, int], Flow]
) -> tuple[Flow, Flow] | None:
    def write(connection: Connection) -> tuple[Flow, Flow] | None:
        if (one := get(connection, connector, verb, lock=True)) is None:
            return None
        after = change(one, database.read_now(connection))
        save(connection, one, after)
        return one, after

    return database.write(write)
