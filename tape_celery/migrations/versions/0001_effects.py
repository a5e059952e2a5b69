"""Effects, obligations, journal, installation.

Each step finds out whether it was made before: MySQL commits each one by itself, so a migration that was killed has
made some of them.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from tape_celery.intent import new_key
from tape_celery.schema import now_ms

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BYTEWISE = sa.String(200).with_variant(mysql.VARBINARY(800), "mysql")
KEY = sa.String(64).with_variant(mysql.VARBINARY(256), "mysql")
REF = sa.String(512).with_variant(mysql.VARBINARY(2048), "mysql")
WORD = sa.String(24)
BODY = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    op.create_table(
        "tape_effects",
        sa.Column("effect_key", KEY, nullable=False),
        sa.Column("connector", BYTEWISE, nullable=False),
        sa.Column("effect_name", BYTEWISE, nullable=False),
        sa.Column("semantics", WORD, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("reason", BODY, nullable=False),
        sa.Column("idempotency_key", BYTEWISE, nullable=False),
        sa.Column("business_key", BYTEWISE, nullable=False),
        sa.Column("held_business_key", BYTEWISE, nullable=True),
        sa.Column("run_id", BYTEWISE, nullable=False),
        sa.Column("request_json", BODY, nullable=False),
        sa.Column("request_digest", sa.String(length=64), nullable=False),
        sa.Column("response_json", BODY, nullable=False),
        sa.Column("error_json", BODY, nullable=False),
        sa.Column("external_ref", REF, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("unsent", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("watches", sa.Integer(), nullable=False),
        sa.Column("dispatch_token", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("claim_nonce", KEY, nullable=False),
        sa.Column("claimed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("may_have_landed", sa.Boolean(), nullable=False),
        sa.Column("might_before", sa.Boolean(), nullable=False),
        sa.Column("landed", sa.Boolean(), nullable=False),
        sa.Column("landed_ref", REF, nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("absent", sa.Boolean(), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("sweep_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("settled_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("first_sent_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "semantics IN ('non_idempotent', 'idempotent', 'observe_only')",
            name="tape_effects_semantics_is_known",
        ),
        sa.CheckConstraint(
            "status <> 'DISPATCHING' OR (lease_until_ms IS NOT NULL AND claim_nonce <> '')",
            name="tape_effects_dispatching_is_leased",
        ),
        sa.CheckConstraint("status <> 'STUCK' OR reason <> ''", name="tape_effects_stuck_says_why"),
        sa.CheckConstraint(
            "status IN ('CONFIRMED', 'FAILED', 'CANCELLED', 'STUCK') OR sweep_at_ms IS NOT NULL",
            name="tape_effects_unsettled_is_swept",
        ),
        sa.CheckConstraint(
            "status IN ('PENDING', 'DISPATCHING', 'CONFIRMED', 'FAILED', 'UNKNOWN', 'STUCK', 'CANCELLED')",
            name="tape_effects_status_is_known",
        ),
        sa.CheckConstraint(
            "status NOT IN ('FAILED', 'CANCELLED') OR held_business_key IS NULL",
            name="tape_effects_ended_holds_no_key",
        ),
        sa.CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name="tape_effects_attempts_are_bounded"),
        sa.PrimaryKeyConstraint("effect_key"),
        sa.UniqueConstraint("connector", "held_business_key", name="tape_effects_one_live_per_business_key"),
        sa.UniqueConstraint("idempotency_key", name="tape_effects_one_per_idempotency_key"),
        if_not_exists=True,
        **MYSQL,
    )
    _create_index("tape_effects_by_business_key", "tape_effects", ["business_key"])
    _create_index("tape_effects_by_run", "tape_effects", ["run_id"])
    _create_index("tape_effects_by_status", "tape_effects", ["status", "effect_key", "connector"])
    _create_index(
        "tape_effects_due",
        "tape_effects",
        ["connector", "sweep_at_ms"],
        sqlite_where=sa.text("sweep_at_ms IS NOT NULL"),
        postgresql_where=sa.text("sweep_at_ms IS NOT NULL"),
    )
    op.create_table(
        "tape_installation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("installation_id", KEY, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name="tape_installation_is_one_row"),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
        **MYSQL,
    )
    op.create_table(
        "tape_journal",
        sa.Column("key", KEY, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("effect_key", KEY, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("from_status", WORD, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("actor", BYTEWISE, nullable=False),
        sa.Column("evidence_json", BODY, nullable=False),
        sa.CheckConstraint("seq >= 1", name="tape_journal_starts_at_one"),
        sa.PrimaryKeyConstraint("key", "seq"),
        if_not_exists=True,
        **MYSQL,
    )
    _create_index("tape_journal_by_effect", "tape_journal", ["effect_key"])
    op.create_table(
        "tape_obligations",
        sa.Column("obligation_key", KEY, nullable=False),
        sa.Column("effect_key", KEY, nullable=False),
        sa.Column("run_id", BYTEWISE, nullable=False),
        sa.Column("connector", BYTEWISE, nullable=False),
        sa.Column("effect_name", BYTEWISE, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("external_ref", REF, nullable=False),
        sa.Column("payload_json", BODY, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("reason", BODY, nullable=False),
        sa.Column("idempotency_key", BYTEWISE, nullable=False),
        sa.Column("response_json", BODY, nullable=False),
        sa.Column("error_json", BODY, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("unsent", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("dispatch_token", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("claim_nonce", KEY, nullable=False),
        sa.Column("claimed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("may_have_landed", sa.Boolean(), nullable=False),
        sa.Column("might_before", sa.Boolean(), nullable=False),
        sa.Column("landed", sa.Boolean(), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("sweep_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("settled_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("first_sent_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "status <> 'COMPENSATING' OR (lease_until_ms IS NOT NULL AND claim_nonce <> '')",
            name="tape_obligations_compensating_is_leased",
        ),
        sa.CheckConstraint("status <> 'STUCK' OR reason <> ''", name="tape_obligations_stuck_says_why"),
        sa.CheckConstraint(
            "status IN ('COMPENSATED', 'STUCK') OR sweep_at_ms IS NOT NULL",
            name="tape_obligations_unsettled_is_swept",
        ),
        sa.CheckConstraint(
            "status IN ('PENDING', 'COMPENSATING', 'COMPENSATED', 'UNKNOWN', 'STUCK')",
            name="tape_obligations_status_is_known",
        ),
        sa.CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name="tape_obligations_attempts_are_bounded"),
        sa.ForeignKeyConstraint(["effect_key"], ["tape_effects.effect_key"], name="tape_obligations_effect"),
        sa.PrimaryKeyConstraint("obligation_key"),
        sa.UniqueConstraint("effect_key", "external_ref", name="tape_obligations_one_per_record"),
        sa.UniqueConstraint("idempotency_key", name="tape_obligations_one_per_idempotency_key"),
        if_not_exists=True,
        **MYSQL,
    )
    _create_index("tape_obligations_by_run", "tape_obligations", ["run_id"])
    _create_index("tape_obligations_by_status", "tape_obligations", ["status", "connector"])
    _create_index(
        "tape_obligations_due",
        "tape_obligations",
        ["connector", "sweep_at_ms"],
        sqlite_where=sa.text("sweep_at_ms IS NOT NULL"),
        postgresql_where=sa.text("sweep_at_ms IS NOT NULL"),
    )

    table = sa.table("tape_installation", sa.column("id"), sa.column("installation_id"), sa.column("created_at_ms"))
    if op.get_bind().execute(sa.select(table.c.id)).first() is None:
        op.execute(table.insert().values(id=1, installation_id=new_key(), created_at_ms=now_ms()))


def _create_index(name: str, table: str, columns: list[str], **options: Any) -> None:
    # MySQL has no CREATE INDEX IF NOT EXISTS.
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns, **options)
