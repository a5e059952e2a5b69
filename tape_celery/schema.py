"""The tables, their constraints and indexes, and the database's clock.

A column has the name of the record's field (`tape_celery.records`), but for ``held_business_key``: NULL when the key
is free again, so that a full unique index holds "one live effect per business key" on every database.

One index serves every sweep: ``sweep_at_ms`` is when a sweep has to act on a row, and NULL on a row that is over, so
the cost of a sweep follows what is due and not what is kept.

A claim and a seal change what indexes know, so each writes an entry into every index of the row: an index keeps only
the rows that are looked for in it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    false,
    literal_column,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement, FunctionElement

from tape_celery.records import EffectStatus, ObligationStatus, Semantics

metadata = MetaData()


class _Bytes(TypeDecorator[str]):
    """Text that MySQL keeps and compares as its UTF-8 bytes.

    Every collation that both MySQL and MariaDB have merges some keys: by default "inv-1" with "Inv-1" and "Ínv-1", and
    even the binary ones "inv-1" with "inv-1 ".
    """

    impl = mysql.VARBINARY
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.encode()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else value.decode()


def _compared_by_bytes(characters: int) -> String:
    return String(characters).with_variant(_Bytes(characters * 4), "mysql", "mariadb")


_BYTEWISE = _compared_by_bytes(200)
_KEY = _compared_by_bytes(64)
_REF = _compared_by_bytes(512)
_WORD = String(24)
_BODY = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
"""What each table says of itself there, whatever the database's defaults are."""


class now_ms(FunctionElement[int]):  # noqa: N801 - it reads as the SQL function that it is
    """Now on the database's clock, in epoch milliseconds, in a form that an index can use."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _sqlite_now(element: now_ms, compiler: SQLCompiler, **kw: Any) -> str:
    # SQLite 3.40 has no unixepoch('subsec').
    return "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)"


@compiles(now_ms, "postgresql")
def _postgresql_now(element: now_ms, compiler: SQLCompiler, **kw: Any) -> str:
    # now() is the start of the transaction, and clock_timestamp() is volatile: it would filter every row.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "mysql", "mariadb")
def _mysql_now(element: now_ms, compiler: SQLCompiler, **kw: Any) -> str:
    # By UTC: an app's session may be in a time zone whose clocks are put back each autumn.
    return "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000"


EMPTY = literal_column("''", String)
"""The empty string, written into a statement: a plan that is kept for any parameter uses no partial index."""


def _ms(name: str, *, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _text(name: str) -> Column[str]:
    return Column(name, _BODY, nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _added_count(name: str, kind: type[Integer] = Integer) -> Column[int]:
    """A number that rows of an older schema have as 0."""
    return Column(name, kind, nullable=False, server_default="0")


def _added_key(name: str, kind: String) -> Column[str]:
    """A key that rows of an older schema have as ``""``."""
    return Column(name, kind, nullable=False, server_default="")


def _spans() -> tuple[Column[str], Column[str]]:
    """The spans of who asked for a row and of its last call, as W3C's ``traceparent`` of version 00 has them."""
    return _added_key("traceparent", String(55)), _added_key("dispatch_traceparent", String(55))


def _only_where(condition: ColumnElement[bool]) -> dict[str, Any]:
    """What makes an index a partial one: where MySQL, which has none, keeps every row, the others keep these."""
    return {"sqlite_where": condition, "postgresql_where": condition}


def _one_of(column: str, words: type[EffectStatus | ObligationStatus | Semantics], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


installation = Table(
    "tape_installation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("installation_id", _KEY, nullable=False),
    _ms("created_at_ms", nullable=False),
    _ms("swept_at_ms"),
    CheckConstraint("id = 1", name="tape_installation_is_one_row"),
    **MYSQL,
)
"""The one row of the store itself; ``swept_at_ms`` is when a sweep began last."""

effects = Table(
    "tape_effects",
    metadata,
    Column("effect_key", _KEY, primary_key=True),
    Column("connector", _BYTEWISE, nullable=False),
    Column("effect_name", _BYTEWISE, nullable=False),
    Column("semantics", _WORD, nullable=False),
    Column("status", _WORD, nullable=False),
    _text("reason"),
    Column("idempotency_key", _BYTEWISE, nullable=False),
    Column("business_key", _BYTEWISE, nullable=False),
    Column("held_business_key", _BYTEWISE),
    Column("run_id", _BYTEWISE, nullable=False),
    _text("request_json"),
    Column("request_digest", String(64), nullable=False),
    _text("response_json"),
    _text("error_json"),
    Column("external_ref", _REF, nullable=False),
    _count("attempt"),
    _count("max_attempts"),
    _count("unsent"),
    _count("looks"),
    _count("watches"),
    # Before ``token``: MySQL assigns from left to right, and a claim sets this to the token that it takes.
    _count("dispatch_token"),
    _count("token"),
    Column("claim_nonce", _KEY, nullable=False),
    _ms("claimed_at_ms"),
    _ms("lease_until_ms"),
    _flag("may_have_landed"),
    _flag("might_before"),
    _flag("landed"),
    Column("landed_ref", _REF, nullable=False),
    _flag("cancel_requested"),
    _flag("absent"),
    _ms("due_at_ms"),
    _ms("sweep_at_ms"),
    _ms("expires_at_ms"),
    _ms("settled_at_ms"),
    _ms("first_sent_at_ms"),
    _ms("ended_at_ms"),
    _ms("created_at_ms", nullable=False),
    _ms("updated_at_ms", nullable=False),
    _count("version"),
    _added_count("priority"),
    _added_key("ordering_key", _BYTEWISE),
    _added_count("order_number", BigInteger),
    _added_key("reissue_of", _KEY),
    _added_key("reissued_as", _KEY),
    _added_key("similar_digest", String(64)),
    Column("shared", Boolean, nullable=False, server_default=false()),
    *_spans(),
    UniqueConstraint("idempotency_key", name="tape_effects_one_per_idempotency_key"),
    UniqueConstraint("connector", "held_business_key", name="tape_effects_one_live_per_business_key"),
    _one_of("status", EffectStatus, "tape_effects_status_is_known"),
    _one_of("semantics", Semantics, "tape_effects_semantics_is_known"),
    CheckConstraint(
        "status <> 'DISPATCHING' OR (lease_until_ms IS NOT NULL AND claim_nonce <> '')",
        name="tape_effects_dispatching_is_leased",
    ),
    CheckConstraint(
        "status IN ('CONFIRMED', 'FAILED', 'CANCELLED', 'STUCK', 'HELD') OR sweep_at_ms IS NOT NULL",
        name="tape_effects_unsettled_is_swept",
    ),
    CheckConstraint(
        "status NOT IN ('FAILED', 'CANCELLED') OR held_business_key IS NULL",
        name="tape_effects_ended_holds_no_key",
    ),
    CheckConstraint("status <> 'STUCK' OR reason <> ''", name="tape_effects_stuck_says_why"),
    CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name="tape_effects_attempts_are_bounded"),
    **MYSQL,
)
Index(
    "tape_effects_due",
    effects.c.connector,
    effects.c.sweep_at_ms,
    **_only_where(effects.c.sweep_at_ms.is_not(None)),
)
# For lists: of a state and a connector, newest first. With the time at its end, it also tells what `counts` asks.
Index(
    "tape_effects_listed",
    effects.c.status,
    effects.c.connector,
    effects.c.effect_key,
    effects.c.created_at_ms,
)
# An effect that nobody put into a run has one of its own, which its primary key finds.
Index(
    "tape_effects_in_run",
    effects.c.run_id,
    effects.c.status,
    effects.c.effect_key,
    **_only_where(effects.c.run_id != effects.c.effect_key),
)
# Those that hold their key are found by the unique index.
Index(
    "tape_effects_let_go",
    effects.c.business_key,
    effects.c.effect_key,
    **_only_where(and_(effects.c.held_business_key.is_(None), effects.c.business_key != "")),
)
Index(
    "tape_effects_by_order",
    effects.c.ordering_key,
    effects.c.status,
    effects.c.order_number,
    **_only_where(effects.c.ordering_key != ""),
)
Index(
    "tape_effects_by_similarity",
    effects.c.connector,
    effects.c.similar_digest,
    effects.c.created_at_ms,
    **_only_where(effects.c.similar_digest != ""),
)
Index("tape_effects_by_end", effects.c.ended_at_ms, **_only_where(effects.c.ended_at_ms.is_not(None)))

obligations = Table(
    "tape_obligations",
    metadata,
    Column("obligation_key", _KEY, primary_key=True),
    Column("effect_key", _KEY, ForeignKey("tape_effects.effect_key", name="tape_obligations_effect"), nullable=False),
    Column("run_id", _BYTEWISE, nullable=False),
    Column("connector", _BYTEWISE, nullable=False),
    Column("effect_name", _BYTEWISE, nullable=False),
    Column("kind", _WORD, nullable=False),
    Column("external_ref", _REF, nullable=False),
    _text("payload_json"),
    Column("status", _WORD, nullable=False),
    _text("reason"),
    Column("idempotency_key", _BYTEWISE, nullable=False),
    _text("response_json"),
    _text("error_json"),
    _count("attempt"),
    _count("max_attempts"),
    _count("unsent"),
    _count("looks"),
    _count("dispatch_token"),
    _count("token"),
    Column("claim_nonce", _KEY, nullable=False),
    _ms("claimed_at_ms"),
    _ms("lease_until_ms"),
    _flag("may_have_landed"),
    _flag("might_before"),
    _flag("landed"),
    _ms("due_at_ms"),
    _ms("sweep_at_ms"),
    _ms("settled_at_ms"),
    _ms("first_sent_at_ms"),
    _ms("created_at_ms", nullable=False),
    _ms("updated_at_ms", nullable=False),
    _count("version"),
    *_spans(),
    UniqueConstraint("idempotency_key", name="tape_obligations_one_per_idempotency_key"),
    UniqueConstraint("effect_key", "external_ref", name="tape_obligations_one_per_record"),
    _one_of("status", ObligationStatus, "tape_obligations_status_is_known"),
    CheckConstraint(
        "status <> 'COMPENSATING' OR (lease_until_ms IS NOT NULL AND claim_nonce <> '')",
        name="tape_obligations_compensating_is_leased",
    ),
    CheckConstraint(
        "status IN ('COMPENSATED', 'STUCK') OR sweep_at_ms IS NOT NULL",
        name="tape_obligations_unsettled_is_swept",
    ),
    CheckConstraint("status <> 'STUCK' OR reason <> ''", name="tape_obligations_stuck_says_why"),
    CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name="tape_obligations_attempts_are_bounded"),
    **MYSQL,
)
Index(
    "tape_obligations_due",
    obligations.c.connector,
    obligations.c.sweep_at_ms,
    **_only_where(obligations.c.sweep_at_ms.is_not(None)),
)
Index(
    "tape_obligations_listed",
    obligations.c.status,
    obligations.c.obligation_key,
    obligations.c.connector,
    obligations.c.created_at_ms,
)
Index("tape_obligations_in_run", obligations.c.run_id, obligations.c.status)

journal = Table(
    "tape_journal",
    metadata,
    Column("key", _KEY, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("effect_key", _KEY, nullable=False),
    _ms("at_ms", nullable=False),
    Column("kind", _WORD, nullable=False),
    Column("from_status", _WORD, nullable=False),
    Column("status", _WORD, nullable=False),
    _count("token"),
    Column("actor", _BYTEWISE, nullable=False),
    _text("evidence_json"),
    _added_key("digest", String(64)),
    CheckConstraint("seq >= 1", name="tape_journal_starts_at_one"),
    **MYSQL,
)
# The entries of an effect itself are found by the primary key.
Index("tape_journal_by_effect", journal.c.effect_key, **_only_where(journal.c.key != journal.c.effect_key))

callbacks = Table(
    "tape_callbacks",
    metadata,
    Column("callback_key", _KEY, primary_key=True),
    Column("effect_key", _KEY, ForeignKey("tape_effects.effect_key", name="tape_callbacks_effect"), nullable=False),
    Column("event", _WORD, nullable=False),
    _text("signature_json"),
    Column("status", _WORD, nullable=False),
    _ms("sweep_at_ms"),
    _ms("created_at_ms", nullable=False),
    _ms("updated_at_ms", nullable=False),
    CheckConstraint("status IN ('WAITING', 'DUE', 'SENT', 'DROPPED')", name="tape_callbacks_status_is_known"),
    CheckConstraint("status <> 'DUE' OR sweep_at_ms IS NOT NULL", name="tape_callbacks_due_is_swept"),
    **MYSQL,
)
"""What is to be sent when an effect gets to where ``event`` says; it is DUE in the transaction that brings it there."""
Index("tape_callbacks_by_effect", callbacks.c.effect_key)
Index(
    "tape_callbacks_due",
    callbacks.c.sweep_at_ms,
    **_only_where(callbacks.c.sweep_at_ms.is_not(None)),
)

orderings = Table(
    "tape_orderings",
    metadata,
    Column("ordering_key", _BYTEWISE, primary_key=True),
    _ms("last_number", nullable=False),
    **MYSQL,
)
"""The last number of each ordering key. Its row is locked until the intent that took a number is committed, so that
numbers become visible in their order."""

runs = Table(
    "tape_runs",
    metadata,
    Column("run_id", _BYTEWISE, primary_key=True),
    Column("status", _WORD, nullable=False),
    _text("reason"),
    _text("closing_reason"),
    Column("actor", _BYTEWISE, nullable=False),
    _ms("sweep_at_ms"),
    _ms("created_at_ms", nullable=False),
    _ms("updated_at_ms", nullable=False),
    _count("version"),
    CheckConstraint(
        "status IN ('OPEN', 'CANCELLING', 'COMPENSATING', 'CANCELLED', 'COMPENSATED', 'STUCK')",
        name="tape_runs_status_is_known",
    ),
    CheckConstraint(
        "status NOT IN ('CANCELLING', 'COMPENSATING') OR sweep_at_ms IS NOT NULL", name="tape_runs_walked_is_swept"
    ),
    **MYSQL,
)
"""The runs of which more is known than their effects: a run that is not here is open."""
Index(
    "tape_runs_due",
    runs.c.sweep_at_ms,
    **_only_where(runs.c.sweep_at_ms.is_not(None)),
)
run_is_not_over = runs.c.status.in_([literal_column(f"'{word}'") for word in ("CANCELLING", "COMPENSATING", "STUCK")])
"""The condition that a run is walked, or waits for a person; as its index has it."""
Index("tape_runs_not_over", runs.c.status, runs.c.run_id, **_only_where(run_is_not_over))

tombstones = Table(
    "tape_tombstones",
    metadata,
    Column("effect_key", _KEY, primary_key=True),
    Column("connector", _BYTEWISE, nullable=False),
    Column("idempotency_key", _BYTEWISE, nullable=False),
    Column("business_key", _BYTEWISE, nullable=False),
    Column("held_business_key", _BYTEWISE),
    Column("run_id", _BYTEWISE, nullable=False),
    Column("request_digest", String(64), nullable=False),
    Column("status", _WORD, nullable=False),
    Column("external_ref", _REF, nullable=False),
    _ms("created_at_ms", nullable=False),
    _ms("ended_at_ms", nullable=False),
    _ms("pruned_at_ms", nullable=False),
    UniqueConstraint("idempotency_key", name="tape_tombstones_one_per_idempotency_key"),
    UniqueConstraint("connector", "held_business_key", name="tape_tombstones_one_per_business_key"),
    **MYSQL,
)
"""What is left of an effect that was pruned: its keys, which stay taken, and what became of it."""

proposals = Table(
    "tape_proposals",
    metadata,
    Column("proposal_key", _KEY, primary_key=True),
    Column("subject_key", _BYTEWISE, nullable=False),
    Column("open_subject", _BYTEWISE),
    Column("act", _WORD, nullable=False),
    _text("arguments_json"),
    _text("reason"),
    Column("actor", _BYTEWISE, nullable=False),
    _count("seen_version"),
    Column("status", _WORD, nullable=False),
    Column("decided_by", _BYTEWISE, nullable=False),
    _ms("decided_at_ms"),
    _ms("created_at_ms", nullable=False),
    UniqueConstraint("open_subject", name="tape_proposals_one_open_per_subject"),
    CheckConstraint("status IN ('OPEN', 'CONFIRMED', 'WITHDRAWN')", name="tape_proposals_status_is_known"),
    CheckConstraint(
        "(status = 'OPEN' AND open_subject IS NOT NULL) OR (status <> 'OPEN' AND open_subject IS NULL)",
        name="tape_proposals_open_holds_its_subject",
    ),
    **MYSQL,
)
"""Acts on an effect, an obligation or a run that one person has asked for and a second one has to confirm."""
Index("tape_proposals_of_subject", proposals.c.subject_key, proposals.c.created_at_ms)

workers = Table(
    "tape_workers",
    metadata,
    Column("worker_name", _BYTEWISE, primary_key=True),
    Column("version", _WORD, nullable=False),
    _text("connectors_json"),
    _text("queues_json"),
    _ms("clock_ahead_ms", nullable=False),
    _ms("started_at_ms", nullable=False),
    _ms("seen_at_ms", nullable=False),
    Column("key_ids", String(500), nullable=False, server_default=""),
    **MYSQL,
)
"""What each worker said of itself last: its connectors, its queues, how far its clock is ahead of the database's, and
the ids of its encryption keys."""

flows = Table(
    "tape_flows",
    metadata,
    Column("connector", _BYTEWISE, primary_key=True),
    Column("verb", String(8), primary_key=True),
    _flag("paused"),
    _flag("controlled"),
    _count("at_once"),
    _count("rate_count"),
    _ms("rate_ms", nullable=False),
    _count("trouble_percent"),
    _count("least_calls"),
    _ms("window_ms", nullable=False),
    _ms("open_ms", nullable=False),
    _ms("full_at_us", nullable=False),
    Column("breaker", _WORD, nullable=False),
    _ms("breaker_at_ms", nullable=False),
    Column("probe_key", _KEY, nullable=False),
    _ms("window_at_ms", nullable=False),
    _count("calls"),
    _count("unknown_calls"),
    _count("failed_calls"),
    _text("reason"),
    Column("actor", _BYTEWISE, nullable=False),
    _ms("updated_at_ms", nullable=False),
    _count("version"),
    _added_count("most_waiting"),
    Column("said_json", _BODY),
    CheckConstraint("verb IN ('call', 'look')", name="tape_flows_verb_is_known"),
    CheckConstraint("breaker IN ('CLOSED', 'OPEN', 'HALF_OPEN')", name="tape_flows_breaker_is_known"),
    **MYSQL,
)
"""What people have said of a connector's calls and looks at run time, and where its limits stand; what is not here is
as its settings say. A few rows."""
