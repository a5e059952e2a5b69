"""Stores that are ready to be used, and what a test needs to meddle with their connections."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from tape_celery import Tape
from tape_celery.errors import SettingsError
from tape_celery.store.database import Database
from tests.servers import MariaDBServer, PostgresServer, TcpProxy

Open = Callable[[str], Database]
MakeTape = Callable[..., Tape]


@pytest.fixture
def open_database() -> Iterator[Open]:
    """Opens a store by its URL; what was opened is closed with the test."""
    opened: list[Database] = []

    def open_one(url: str) -> Database:
        database = Database(url)
        opened.append(database)
        return database

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Database:
    """An empty store with its schema, once of each kind."""
    stores = {"sqlite": "sqlite_store", "postgresql": "postgres_store", "mariadb": "mariadb_store"}
    found: Database = request.getfixturevalue(stores[request.param])
    return found


@pytest.fixture
def sqlite_store(sqlite_url: str, open_database: Open) -> Database:
    """An empty SQLite store with its schema."""
    database = open_database(sqlite_url)
    database.ready()
    return database


@pytest.fixture
def postgres_store(postgres: PostgresServer, migrated_postgres_url: str, open_database: Open) -> Database:
    """An empty PostgreSQL store with its schema: one for the session, emptied before each test."""
    name = migrated_postgres_url.rpartition("/")[2]
    with postgres.connect(migrated_postgres_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        )
        connection.execute("TRUNCATE tape_effects, tape_obligations, tape_journal")
    return open_database(migrated_postgres_url)


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres: PostgresServer) -> str:
    """A PostgreSQL database with the schema."""
    url = postgres.fresh_database()
    database = Database(url)
    database.migrate()
    database.close()
    return url


@pytest.fixture
def mariadb_store(mariadb: MariaDBServer, migrated_mariadb_url: str, open_database: Open) -> Database:
    """An empty MariaDB store with its schema: one for the session, emptied before each test."""
    name = migrated_mariadb_url.rpartition("/")[2]
    with mariadb.connect(migrated_mariadb_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()", [name])
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")
        for table in ("tape_journal", "tape_obligations", "tape_effects"):
            cursor.execute(f"DELETE FROM {table}")
    return open_database(migrated_mariadb_url)


@pytest.fixture(scope="session")
def migrated_mariadb_url(mariadb: MariaDBServer) -> str:
    """A MariaDB database with the schema."""
    url = mariadb.fresh_database()
    database = Database(url)
    database.migrate()
    database.close()
    return url


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> PostgresServer | MariaDBServer:
    """A database server, once of each kind."""
    fixture = "postgres" if request.param == "postgresql" else "mariadb"
    found: PostgresServer | MariaDBServer = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def server_store(server: PostgresServer | MariaDBServer, request: pytest.FixtureRequest) -> Database:
    """An empty store on that server."""
    fixture = "postgres_store" if isinstance(server, PostgresServer) else "mariadb_store"
    found: Database = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def proxy(server: PostgresServer | MariaDBServer) -> Iterator[TcpProxy]:
    """A way to that server that can be cut."""
    with TcpProxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture
def far_store(server_store: Database, proxy: TcpProxy, open_database: Open) -> Database:
    """The store of `server_store`, seen by somebody behind `proxy`."""
    database = open_database(proxy.url(url_of(server_store)))
    database.ready()
    return database


@pytest.fixture
def make_tape() -> Iterator[MakeTape]:
    """Makes a Tape over a store, with a broker inside this process."""
    made: list[Tape] = []

    def make(url: str, **settings: object) -> Tape:
        app = Celery(f"store-{len(made)}", broker="memory://", set_as_current=False)
        made.append(Tape(app, store_url=url, **settings))
        return made[-1]

    yield make
    for tape in made:
        with contextlib.suppress(SettingsError):
            tape.database.close()


@pytest.fixture
def tape(database: Database, make_tape: MakeTape) -> Tape:
    """A Tape over an empty store with its schema, once of each kind."""
    return make_tape(url_of(database))


def url_of(database: Database) -> str:
    """Its URL with the password in it."""
    return database.url.render_as_string(hide_password=False)
