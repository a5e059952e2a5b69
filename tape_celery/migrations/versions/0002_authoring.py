"""Priorities, orderings, reissues, holds, callbacks, runs, tombstones.

Each step finds out whether it was made before: MySQL commits each one by itself, so a migration that was killed has
made some of them.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BYTEWISE = sa.String(200).with_variant(mysql.VARBINARY(800), "mysql")
KEY = sa.String(64).with_variant(mysql.VARBINARY(256), "mysql")
REF = sa.String(512).with_variant(mysql.VARBINARY(2048), "mysql")
WORD = sa.String(24)
BODY = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

CHECKS = {
    "tape_effects_status_is_known": (
        "status IN ('PENDING', 'DISPATCHING', 'CONFIRMED', 'FAILED', 'UNKNOWN', 'STUCK', 'CANCELLED')",
        "status IN ('PENDING', 'DISPATCHING', 'CONFIRMED', 'FAILED', 'UNKNOWN', 'STUCK', 'CANCELLED', 'HELD')",
    ),
    "tape_effects_unsettled_is_swept": (
        "status IN ('CONFIRMED', 'FAILED', 'CANCELLED', 'STUCK') OR sweep_at_ms IS NOT NULL",
        "status IN ('CONFIRMED', 'FAILED', 'CANCELLED', 'STUCK', 'HELD') OR sweep_at_ms IS NOT NULL",
    ),
}
"""Before and after."""


def upgrade() -> None:
    for column in (
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("ordering_key", BYTEWISE, nullable=False, server_default=""),
        sa.Column("order_number", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("reissue_of", KEY, nullable=False, server_default=""),
        sa.Column("reissued_as", KEY, nullable=False, server_default=""),
        sa.Column("similar_digest", sa.String(length=64), nullable=False, server_default=""),
        sa.Column("shared", sa.Boolean(), nullable=False, server_default=sa.false()),
    ):
        if column.name not in {known["name"] for known in sa.inspect(op.get_bind()).get_columns("tape_effects")}:
            op.add_column("tape_effects", column)
    _change_checks()
    ordered = sa.text("ordering_key != ''")
    _create_index(
        "tape_effects_by_order",
        "tape_effects",
        ["ordering_key", "status", "order_number"],
        sqlite_where=ordered,
        postgresql_where=ordered,
    )
    _create_index("tape_effects_by_similarity", "tape_effects", ["connector", "similar_digest", "created_at_ms"])
    _create_index("tape_effects_by_end", "tape_effects", ["ended_at_ms"])
    _create_callbacks()
    op.create_table(
        "tape_orderings",
        sa.Column("ordering_key", BYTEWISE, nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ordering_key"),
        if_not_exists=True,
        **MYSQL,
    )
    _create_runs()
    op.create_table(
        "tape_tombstones",
        sa.Column("effect_key", KEY, nullable=False),
        sa.Column("connector", BYTEWISE, nullable=False),
        sa.Column("idempotency_key", BYTEWISE, nullable=False),
        sa.Column("business_key", BYTEWISE, nullable=False),
        sa.Column("held_business_key", BYTEWISE, nullable=True),
        sa.Column("run_id", BYTEWISE, nullable=False),
        sa.Column("request_digest", sa.String(length=64), nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("external_ref", REF, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("pruned_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("effect_key"),
        sa.UniqueConstraint("idempotency_key", name="tape_tombstones_one_per_idempotency_key"),
        sa.UniqueConstraint("connector", "held_business_key", name="tape_tombstones_one_per_business_key"),
        if_not_exists=True,
        **MYSQL,
    )


def _create_callbacks() -> None:
    op.create_table(
        "tape_callbacks",
        sa.Column("callback_key", KEY, nullable=False),
        sa.Column("effect_key", KEY, nullable=False),
        sa.Column("event", WORD, nullable=False),
        sa.Column("signature_json", BODY, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("sweep_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('WAITING', 'DUE', 'SENT', 'DROPPED')", name="tape_callbacks_status_is_known"),
        sa.CheckConstraint("status <> 'DUE' OR sweep_at_ms IS NOT NULL", name="tape_callbacks_due_is_swept"),
        sa.ForeignKeyConstraint(["effect_key"], ["tape_effects.effect_key"], name="tape_callbacks_effect"),
        sa.PrimaryKeyConstraint("callback_key"),
        if_not_exists=True,
        **MYSQL,
    )
    _create_index("tape_callbacks_by_effect", "tape_callbacks", ["effect_key"])
    _create_index("tape_callbacks_due", "tape_callbacks", ["sweep_at_ms"], **_where_swept())


def _create_runs() -> None:
    op.create_table(
        "tape_runs",
        sa.Column("run_id", BYTEWISE, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("reason", BODY, nullable=False),
        sa.Column("closing_reason", BODY, nullable=False),
        sa.Column("actor", BYTEWISE, nullable=False),
        sa.Column("sweep_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "status IN ('OPEN', 'CANCELLING', 'COMPENSATING', 'CANCELLED', 'COMPENSATED', 'STUCK')",
            name="tape_runs_status_is_known",
        ),
        sa.CheckConstraint(
            "status NOT IN ('CANCELLING', 'COMPENSATING') OR sweep_at_ms IS NOT NULL",
            name="tape_runs_walked_is_swept",
        ),
        sa.PrimaryKeyConstraint("run_id"),
        if_not_exists=True,
        **MYSQL,
    )
    _create_index("tape_runs_due", "tape_runs", ["sweep_at_ms"], **_where_swept())


def _where_swept() -> dict[str, Any]:
    where = sa.text("sweep_at_ms IS NOT NULL")
    return {"sqlite_where": where, "postgresql_where": where}


def _change_checks() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _change_checks_of_sqlite()
        return
    for name, (_, after) in CHECKS.items():
        listed = {check["name"] for check in sa.inspect(op.get_bind()).get_check_constraints("tape_effects")}
        if name in listed:
            op.drop_constraint(name, "tape_effects", type_="check")
        op.create_check_constraint(name, "tape_effects", sa.text(after))


def _change_checks_of_sqlite() -> None:
    """A CHECK that allows more changes nothing that is on disk, so its text is changed where SQLite keeps it.

    That is the way which SQLite's page on ALTER TABLE names; to build the table anew would take its rows from under
    the foreign keys that lead to it.
    """
    bind = op.get_bind()
    version = bind.exec_driver_sql("PRAGMA schema_version").scalar_one()
    bind.exec_driver_sql("PRAGMA writable_schema=ON")
    for before, after in CHECKS.values():
        changed = sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :before, :after) "
            "WHERE type = 'table' AND name = 'tape_effects'"
        )
        bind.execute(changed, {"before": before, "after": after})
    bind.exec_driver_sql(f"PRAGMA schema_version={int(version) + 1}")
    bind.exec_driver_sql("PRAGMA writable_schema=OFF")


def _create_index(name: str, table: str, columns: list[str], **options: Any) -> None:
    # MySQL has no CREATE INDEX IF NOT EXISTS.
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns, **options)
