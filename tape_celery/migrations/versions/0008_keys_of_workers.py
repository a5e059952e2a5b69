"""The ids of the encryption keys that each worker holds.

The step finds out whether it was made before: MySQL commits it by itself, so a migration that was killed may have made
it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if "key_ids" not in {known["name"] for known in sa.inspect(op.get_bind()).get_columns("tape_workers")}:
        op.add_column("tape_workers", sa.Column("key_ids", sa.String(500), nullable=False, server_default=""))
