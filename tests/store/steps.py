"""The steps that an effect takes through the store, by the store's own verbs, without an engine."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event, text

from tape_celery import intent
from tape_celery.errors import NotAllowed
from tape_celery.events import Answered, CancelAsked, ClaimEnd, Event, Unobservable
from tape_celery.intent import Intent
from tape_celery.migrations import append_only
from tape_celery.policy import Terms
from tape_celery.records import Effect, EffectStatus, JournalEntry, Obligation, Semantics
from tape_celery.store import chains, claims, inspection, intents, moves, pipelining
from tape_celery.store.claims import Reach
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, Kind, R

T = TypeVar("T")

BANK = "bank.wire"
REACH = Reach({BANK: 30_000})
TERMS = Terms(settle_ms=0)
S = EffectStatus


def COMMIT(message: bytes) -> bool:  # noqa: N802 - it stands for the statement
    """Whether a message of a client is a COMMIT on its way to PostgreSQL or MariaDB, or a claim that is one statement
    and so commits itself.

    The word alone would be found in BEGIN ... READ COMMITTED too.
    """
    return b"COMMIT\0" in message or message.endswith(b"\x03COMMIT") or b"WITH claimed AS" in message


# --- recording ---


def an_intent(
    request: dict[str, Any] | None = None, *, connector: str = BANK, business_key: str = "", **given: Any
) -> Intent:
    """An intent as the client makes it, with a fresh effect key."""
    request_json = intent.canonical_json({"amount": 100} if request is None else request)
    key = given.pop("effect_key", None) or intent.new_key()
    chosen = {
        "idempotency_key": key,
        "run_id": key,
        "max_attempts": 5,
        **given,
        "semantics": Semantics(given.get("semantics", "non_idempotent")),
    }
    return Intent(
        effect_key=key,
        connector=connector,
        request_json=request_json,
        request_digest=intent.digest_of(request_json),
        business_key=business_key,
        **chosen,
    )


def recorded(database: Database, request: dict[str, Any] | None = None, **given: Any) -> Effect:
    """An effect that was recorded just now."""
    return record(database, an_intent(request, **given)).effect


def record(database: Database, asked: Intent, *, hint_ms: int = 0) -> intents.Recorded:
    """Record ``asked``; a sweep finds it at once."""
    return intents.record(database, asked, actor="test", hint_ms=hint_ms)


# --- claiming, sealing, moving ---


def claim(
    database: Database,
    *keys: str,
    kind: Kind[Any] = EFFECTS,
    verb: claims.Verb = "call",
    reach: Reach = REACH,
    actor: str = "test",
) -> list[Any]:
    """What a worker with ``reach`` gets of ``keys``."""
    return claims.claim(database, kind, keys, verb=verb, reach=reach, actor=actor)


def claimed(database: Database, key: str, **given: Any) -> Any:
    """The row under a claim of its own."""
    (record,) = claim(database, key, **given)
    return record


def answer(record: Effect | Obligation, status: str = "confirmed", **given: Any) -> Answered:
    """The end of the call that was claimed as ``record``."""
    return Answered(token=record.token, nonce=record.claim_nonce, actor="test", status=status, **given)  # type: ignore[arg-type]


def seal(database: Database, record: R, event_: ClaimEnd, *, kind: Kind[R], terms: Terms = TERMS) -> moves.Moved[R]:
    """Apply the end of a claim."""
    return moved(moves.move(database, kind, [moves.Move(kind.key_of(record), event_, terms, record)]))


def seal_effect(database: Database, record: Effect, status: str = "confirmed", **given: Any) -> moves.Moved[Effect]:
    """Apply the end of the call that was claimed as ``record``."""
    return seal(database, record, answer(record, status, **given), kind=EFFECTS)


def act(database: Database, key: str, event_: Event, *, terms: Terms = TERMS) -> moves.Moved[Effect]:
    """Apply an event that ends no claim."""
    return moves.act(database, EFFECTS, key, event_, terms)


def moved(results: dict[str, moves.Moved[R] | moves.Refused]) -> moves.Moved[R]:
    """The one result, which is no refusal."""
    (result,) = results.values()
    assert isinstance(result, moves.Moved), result
    return result


def refused(results: dict[str, moves.Moved[R] | moves.Refused]) -> NotAllowed:
    """The one result, which is a refusal."""
    (result,) = results.values()
    assert isinstance(result, NotAllowed), result
    return result


def in_state(database: Database, status: EffectStatus, **given: Any) -> Effect:
    """An effect that was brought into ``status`` by what happens to effects."""
    if status is S.HELD:
        alike = {"similar_digest": intent.digest_of(intent.new_key())}
        recorded(database, **alike)
        return recorded(database, **alike, hold_within_ms=60_000, **given)
    effect = recorded(database, **given)
    if status is S.PENDING:
        return effect
    if status is S.CANCELLED:
        return act(database, effect.effect_key, CancelAsked(actor="test", reason="not wanted")).after
    mine = claimed(database, effect.effect_key)
    if status is S.DISPATCHING:
        return mine
    if status is S.CONFIRMED:
        return seal_effect(database, mine, "confirmed", external_ref="ref-1").after
    if status is S.FAILED:
        return seal_effect(database, mine, "failed", reason="refused").after
    unknown = seal_effect(database, mine, "unknown").after
    if status is S.UNKNOWN:
        return unknown
    assert status is S.STUCK
    look = claimed(database, effect.effect_key, verb="look")
    return seal(
        database, look, Unobservable(token=look.token, nonce=look.claim_nonce, actor="test"), kind=EFFECTS
    ).after


# --- looking ---


def row(database: Database, key: str) -> Effect:
    """The effect as its row stands."""
    effect = inspection.get_effect(database, key)
    assert effect is not None, key
    return effect


def journal(database: Database, key: str) -> list[JournalEntry]:
    """The history of one row."""
    return inspection.read_journal(database, key)


def kinds(database: Database, key: str) -> list[str]:
    """What happened to one row, in a word an entry."""
    return [entry.kind for entry in journal(database, key)]


def violations(database: Database) -> list[object]:
    """What the chains of digests say of all journals."""
    return [broken for batch in chains.batches(database) for broken in batch.violations]


def count(database: Database, table: str = "tape_effects") -> int:
    """How many rows a table has."""
    return int(scalar(database, f"SELECT COUNT(*) FROM {table}"))


def scalar(database: Database, statement: str) -> Any:
    """The one value that a statement gives."""
    return as_text(database.read(lambda connection: connection.execute(text(statement)).scalar_one()))


def as_text(value: Any) -> Any:
    """What a statement in plain SQL gave: MySQL keeps keys as bytes, which only the schema's types decode."""
    return value.decode() if isinstance(value, bytes) else value


def execute(database: Database, statement: str, **values: Any) -> None:
    """One statement, committed; by whoever owns the tables, and may change even the journal."""

    def unit(connection: Connection) -> None:
        with unprotected_journal(connection) if "tape_journal" in statement else nullcontext():
            connection.execute(text(statement), values)

    database.write(unit)


@contextmanager
def unprotected_journal(connection: Connection) -> Iterator[None]:
    """What keeps the journal append-only is away: for good in a file, which is the test's own.

    MariaDB commits what was done before, and what is done within.
    """
    if connection.dialect.name == "sqlite":
        for name in ("tape_journal_is_not_changed", "tape_journal_is_kept"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS {name}"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE tape_journal DISABLE TRIGGER USER"))
    if connection.dialect.name == "mysql":
        for name in append_only.TRIGGERS:
            connection.execute(text(f"DROP TRIGGER IF EXISTS {name}"))
    try:
        yield
    finally:
        if connection.dialect.name == "mysql":
            append_only.protect(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE tape_journal ENABLE TRIGGER USER"))


# --- races ---


def together(works: Sequence[Callable[[], T]]) -> list[T]:
    """What ``works`` return, each on a thread of its own, all let go at the same moment."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], T]) -> T:
        barrier.wait(30)
        return work()

    with ThreadPoolExecutor(len(works), thread_name_prefix="store-test") as executor:
        return list(executor.map(run, works))


def commits_of_a_read(database: Database) -> int:
    """How many COMMITs a read sends: on PostgreSQL it goes without a transaction around it."""
    return 0 if database.url.get_backend_name() == "postgresql" else 1


def engine_of(database: Database) -> Engine:
    """The engine of a store, to listen in on its statements."""
    return database._engine


@contextmanager
def before_statement(
    database: Database, begins: str, work: Callable[[], object], *, times: int = 1
) -> Iterator[list[str]]:
    """Run ``work`` in this store's way, just before each of the first ``times`` statements that begin so.

    Yields the list of statements that were met; it is complete when the block is left. A claim or a move that is one
    statement with its entries begins as the UPDATE in it.
    """
    met: list[str] = []

    def heard(statement: str, parameters: Any) -> None:
        if re.sub(r"^WITH (claimed|moved) AS \n\(", "", statement).lstrip().startswith(begins) and len(met) < times:
            met.append(statement)
            work()

    with _heard(database, heard):
        yield met


@contextmanager
def unreadable_numbers(database: Database) -> Iterator[list[bytes]]:
    """The first number that psycopg reads on the first connection that is used in the block cannot be read by it.

    Yields the list of what it was.
    """
    from psycopg.adapt import Loader
    from psycopg.errors import DataError

    met: list[bytes] = []

    class Unreadable(Loader):
        def load(self, data: Any) -> int:
            if not met:
                met.append(bytes(data))
                raise DataError("not a number")
            return int(bytes(data))

    def lent(driver: Any, *_: Any) -> None:
        driver.adapters.register_loader("int8", Unreadable)

    event.listen(engine_of(database), "checkout", lent, once=True)
    yield met


@contextmanager
def statements(database: Database, *, pipelined: bool = True) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that the store executes in the block, with its parameters; ``pipelined``: also those that do not
    go by SQLAlchemy."""
    seen: list[tuple[str, Any]] = []
    with _heard(database, lambda statement, parameters: seen.append((statement, parameters)), pipelined=pipelined):
        yield seen


@contextmanager
def _heard(database: Database, heard: Callable[[str, Any], object], *, pipelined: bool = True) -> Iterator[None]:
    """Tell ``heard`` each statement, as SQLAlchemy writes it, and its parameters, just before it is executed."""
    execute_at_once = pipelining._execute

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        heard(statement, parameters)

    def listen_at_once(driver: Any, dialect: Any, statement: Any, parameters: Any) -> Any:
        compiled = statement.compile(dialect=dialect)
        given = {name: json.dumps(value) if isinstance(value, list) else value for name, value in parameters.items()}
        heard(str(compiled), {**compiled.params, **given})
        return execute_at_once(driver, dialect, statement, parameters)

    event.listen(engine_of(database), "before_cursor_execute", listen)
    if pipelined:
        pipelining._execute = listen_at_once
    try:
        yield
    finally:
        pipelining._execute = execute_at_once
        event.remove(engine_of(database), "before_cursor_execute", listen)
