"""A bound on how many effects of a connector may wait; who has said each thing of a flow, and why.

Each step finds out whether it was made before: MySQL commits each one by itself, so a migration that was killed has
made some of them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BODY = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("tape_flows")}
    if "most_waiting" not in known:
        op.add_column("tape_flows", sa.Column("most_waiting", sa.Integer(), nullable=False, server_default="0"))
    if "said_json" not in known:
        op.add_column("tape_flows", sa.Column("said_json", BODY, nullable=True))
