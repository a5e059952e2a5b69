"""The journal is append-only for whoever does not own it: no entry is changed, and none goes but with a tombstone.

On SQLite and PostgreSQL. On MariaDB and MySQL a trigger takes a right that nobody else of ours needs. Whoever writes a
migration that changes entries drops these triggers first, and makes them again.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SQLITE = (
    """
    CREATE TRIGGER tape_journal_is_not_changed BEFORE UPDATE ON tape_journal
    BEGIN SELECT RAISE(ABORT, 'tape_journal is append-only: no entry is changed'); END
    """,
    """
    CREATE TRIGGER tape_journal_is_kept BEFORE DELETE ON tape_journal
    WHEN NOT EXISTS (SELECT 1 FROM tape_tombstones WHERE effect_key = OLD.effect_key)
    BEGIN SELECT RAISE(ABORT, 'tape_journal is append-only: entries go with a tombstone alone'); END
    """,
)
POSTGRESQL = (
    """
    CREATE FUNCTION tape_journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            RAISE EXCEPTION 'tape_journal is append-only: no entry is changed';
        ELSIF NOT EXISTS (SELECT 1 FROM tape_tombstones WHERE effect_key = OLD.effect_key) THEN
            RAISE EXCEPTION 'tape_journal is append-only: entries go with a tombstone alone';
        END IF;
        RETURN OLD;
    END $$
    """,
    """
    CREATE TRIGGER tape_journal_is_append_only BEFORE UPDATE OR DELETE ON tape_journal
    FOR EACH ROW EXECUTE FUNCTION tape_journal_is_append_only()
    """,
)


def upgrade() -> None:
    for statement in {"sqlite": SQLITE, "postgresql": POSTGRESQL}.get(op.get_bind().dialect.name, ()):
        op.execute(statement)
