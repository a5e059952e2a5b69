"""Limits, rates and circuit breakers of connectors, in one table with their pauses.

Each step finds out whether it was made before: MySQL commits each one by itself, so a migration that was killed has
made some of them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BYTEWISE = sa.String(200).with_variant(mysql.VARBINARY(800), "mysql")
KEY = sa.String(64).with_variant(mysql.VARBINARY(256), "mysql")
WORD = sa.String(24)
BODY = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

NUMBERS = (
    "at_once", "rate_count", "rate_ms", "trouble_percent", "least_calls", "window_ms", "open_ms", "full_at_us",
    "breaker_at_ms", "window_at_ms", "calls", "unknown_calls", "failed_calls",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "tape_flows",
        sa.Column("connector", BYTEWISE, nullable=False),
        sa.Column("verb", sa.String(8), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("controlled", sa.Boolean(), nullable=False),
        sa.Column("at_once", sa.Integer(), nullable=False),
        sa.Column("rate_count", sa.Integer(), nullable=False),
        sa.Column("rate_ms", sa.BigInteger(), nullable=False),
        sa.Column("trouble_percent", sa.Integer(), nullable=False),
        sa.Column("least_calls", sa.Integer(), nullable=False),
        sa.Column("window_ms", sa.BigInteger(), nullable=False),
        sa.Column("open_ms", sa.BigInteger(), nullable=False),
        sa.Column("full_at_us", sa.BigInteger(), nullable=False),
        sa.Column("breaker", WORD, nullable=False),
        sa.Column("breaker_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("probe_key", KEY, nullable=False),
        sa.Column("window_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("unknown_calls", sa.Integer(), nullable=False),
        sa.Column("failed_calls", sa.Integer(), nullable=False),
        sa.Column("reason", BODY, nullable=False),
        sa.Column("actor", BYTEWISE, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint("verb IN ('call', 'look')", name="tape_flows_verb_is_known"),
        sa.CheckConstraint("breaker IN ('CLOSED', 'OPEN', 'HALF_OPEN')", name="tape_flows_breaker_is_known"),
        sa.PrimaryKeyConstraint("connector", "verb"),
        if_not_exists=True,
        **MYSQL,
    )
    if sa.inspect(op.get_bind()).has_table("tape_connectors"):
        _move_pauses()
        op.drop_table("tape_connectors")


def _move_pauses() -> None:
    old = sa.table("tape_connectors", *map(sa.column, ("connector", "paused", "reason", "actor", "updated_at_ms")))
    old.append_column(sa.column("version"))
    new = sa.table("tape_flows", sa.column("connector"))
    said = [old.c.connector, old.c.paused, old.c.reason, old.c.actor, old.c.updated_at_ms, old.c.version]
    rest = [sa.literal_column("'call'"), sa.false(), sa.literal_column("'CLOSED'"), sa.literal_column("''")]
    names = ["connector", "paused", "reason", "actor", "updated_at_ms", "version", "verb", "controlled", "breaker"]
    zeros: list[sa.ColumnElement[int]] = [sa.literal_column("0")] * len(NUMBERS)
    missing = sa.not_(sa.exists().where(new.c.connector == old.c.connector))
    moved = sa.select(*said, *rest, *zeros).where(missing)
    op.execute(
        sa.insert(sa.table("tape_flows", *map(sa.column, [*names, "probe_key", *NUMBERS]))).from_select(
            [*names, "probe_key", *NUMBERS], moved
        )
    )
