"""What Alembic runs: the migrations, on the connection that `tape_celery.migrations.upgrade` was given."""

from alembic import context

from tape_celery.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
