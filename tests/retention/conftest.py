from tests.store.conftest import (
    database,
    make_tape,
    open_database,
    postgres_store,
    server,
    server_store,
    sqlite_store,
    tape,
)

__all__ = ["database", "make_tape", "open_database", "postgres_store", "server", "server_store", "sqlite_store", "tape"]
