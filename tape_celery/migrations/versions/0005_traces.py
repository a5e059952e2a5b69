"""The spans of who asked for an effect, and of its last call.

Each step finds out whether it was made before: MySQL commits each one by itself, so a migration that was killed has
made some of them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("tape_effects", "tape_obligations"):
        for name in ("traceparent", "dispatch_traceparent"):
            if name not in {known["name"] for known in sa.inspect(op.get_bind()).get_columns(table)}:
                op.add_column(table, sa.Column(name, sa.String(55), nullable=False, server_default=""))
