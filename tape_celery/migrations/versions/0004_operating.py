"""Digests that chain the journal, acts that wait for a second person, what workers say of themselves, pauses.

Each step finds out whether it was made before: MySQL commits each one by itself, so a migration that was killed has
made some of them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BYTEWISE = sa.String(200).with_variant(mysql.VARBINARY(800), "mysql")
KEY = sa.String(64).with_variant(mysql.VARBINARY(256), "mysql")
WORD = sa.String(24)
BODY = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    _add_column("tape_installation", sa.Column("swept_at_ms", sa.BigInteger(), nullable=True))
    _add_column("tape_journal", sa.Column("digest", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "tape_proposals",
        sa.Column("proposal_key", KEY, nullable=False),
        sa.Column("subject_key", BYTEWISE, nullable=False),
        sa.Column("open_subject", BYTEWISE, nullable=True),
        sa.Column("act", WORD, nullable=False),
        sa.Column("arguments_json", BODY, nullable=False),
        sa.Column("reason", BODY, nullable=False),
        sa.Column("actor", BYTEWISE, nullable=False),
        sa.Column("seen_version", sa.Integer(), nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("decided_by", BYTEWISE, nullable=False),
        sa.Column("decided_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('OPEN', 'CONFIRMED', 'WITHDRAWN')", name="tape_proposals_status_is_known"),
        sa.CheckConstraint(
            "(status = 'OPEN' AND open_subject IS NOT NULL) OR (status <> 'OPEN' AND open_subject IS NULL)",
            name="tape_proposals_open_holds_its_subject",
        ),
        sa.PrimaryKeyConstraint("proposal_key"),
        sa.UniqueConstraint("open_subject", name="tape_proposals_one_open_per_subject"),
        if_not_exists=True,
        **MYSQL,
    )
    if "tape_proposals_of_subject" not in _indexes("tape_proposals"):
        op.create_index("tape_proposals_of_subject", "tape_proposals", ["subject_key", "created_at_ms"])
    op.create_table(
        "tape_workers",
        sa.Column("worker_name", BYTEWISE, nullable=False),
        sa.Column("version", WORD, nullable=False),
        sa.Column("connectors_json", BODY, nullable=False),
        sa.Column("queues_json", BODY, nullable=False),
        sa.Column("clock_ahead_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker_name"),
        if_not_exists=True,
        **MYSQL,
    )
    op.create_table(
        "tape_connectors",
        sa.Column("connector", BYTEWISE, nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("reason", BODY, nullable=False),
        sa.Column("actor", BYTEWISE, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("connector"),
        if_not_exists=True,
        **MYSQL,
    )


def _add_column(table: str, column: sa.Column[object]) -> None:
    if column.name not in {known["name"] for known in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def _indexes(table: str) -> set[str]:
    return {str(index["name"]) for index in sa.inspect(op.get_bind()).get_indexes(table)}
