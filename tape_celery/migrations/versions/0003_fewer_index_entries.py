"""Indexes that keep only what is looked for in them, and serve every list in its order.

On PostgreSQL everybody else waits until it is over; the bound that we set on a statement's time does not hold here. On
MySQL the new ones come first, so that nobody looks without one, and each step finds out whether it was made before: it
is committed by itself, so a migration that was killed has made some of them.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ADDED: list[tuple[str, str, list[str], str]] = [
    ("tape_effects_listed", "tape_effects", ["status", "connector", "effect_key", "created_at_ms"], ""),
    ("tape_effects_in_run", "tape_effects", ["run_id", "status", "effect_key"], "run_id != effect_key"),
    (
        "tape_effects_let_go",
        "tape_effects",
        ["business_key", "effect_key"],
        "held_business_key IS NULL AND business_key != ''",
    ),
    ("tape_obligations_listed", "tape_obligations", ["status", "obligation_key", "connector", "created_at_ms"], ""),
    ("tape_obligations_in_run", "tape_obligations", ["run_id", "status"], ""),
    (
        "tape_runs_not_over",
        "tape_runs",
        ["status", "run_id"],
        "status IN ('CANCELLING', 'COMPENSATING', 'STUCK')",
    ),
]
"""Name, table, columns, and which rows it keeps where the database has partial indexes."""
NARROWED: list[tuple[str, str, list[str], str]] = [
    (
        "tape_effects_by_similarity",
        "tape_effects",
        ["connector", "similar_digest", "created_at_ms"],
        "similar_digest != ''",
    ),
    ("tape_effects_by_end", "tape_effects", ["ended_at_ms"], "ended_at_ms IS NOT NULL"),
    ("tape_journal_by_effect", "tape_journal", ["effect_key"], "key != effect_key"),
]
"""The same, of indexes that kept every row before; on MySQL they stay as they are."""
DROPPED = [
    ("tape_effects_by_status", "tape_effects"),
    ("tape_effects_by_run", "tape_effects"),
    ("tape_effects_by_business_key", "tape_effects"),
    ("tape_obligations_by_status", "tape_obligations"),
    ("tape_obligations_by_run", "tape_obligations"),
]


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute("SET LOCAL statement_timeout = 0")
        # To drop an index takes this lock anyway: whoever has read by then would wait for us, and we for them.
        op.execute("LOCK TABLE tape_effects, tape_obligations, tape_journal, tape_runs IN ACCESS EXCLUSIVE MODE")
    for name, table, columns, kept in ADDED:
        if name not in _indexes(table):
            op.create_index(name, table, columns, **_only_where(kept))
    if dialect in ("postgresql", "sqlite"):
        for name, table, columns, kept in NARROWED:
            op.drop_index(name, table)
            op.create_index(name, table, columns, **_only_where(kept))
    for name, table in DROPPED:
        if name in _indexes(table):
            op.drop_index(name, table)


def _indexes(table: str) -> set[str]:
    return {str(index["name"]) for index in sa.inspect(op.get_bind()).get_indexes(table)}


def _only_where(kept: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(kept), "postgresql_where": sa.text(kept)} if kept else {}
