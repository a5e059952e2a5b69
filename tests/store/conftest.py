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
DatabaseServer = PostgresServer | MariaDBServer


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


@pytest.fixture
def database(ready_url: str, open_database: Open) -> Database:
    """An empty store with its schema, once of each kind."""
    return open_database(ready_url)


@pytest.fixture
def sqlite_store(ready_sqlite_url: str, open_database: Open) -> Database:
    """An empty SQLite store with its schema."""
    return open_database(ready_sqlite_url)


@pytest.fixture
def postgres_store(ready_postgresql_url: str, open_database: Open) -> Database:
    """An empty PostgreSQL store with its schema."""
    return open_database(ready_postgresql_url)


@pytest.fixture
def mariadb_store(ready_mariadb_url: str, open_database: Open) -> Database:
    """An empty MariaDB store with its schema."""
    return open_database(ready_mariadb_url)


SERVERS = {"postgresql": "postgres", "postgresql15": "postgres15", "mariadb": "mariadb"}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """A database server, once of each kind."""
    found: DatabaseServer = request.getfixturevalue(SERVERS[request.param])
    return found


@pytest.fixture
def server_store(server: DatabaseServer, open_database: Open, request: pytest.FixtureRequest) -> Database:
    """An empty store on that server."""
    return open_database(request.getfixturevalue(f"ready_{request.node.callspec.params['server']}_url"))


@pytest.fixture
def proxy(server: DatabaseServer) -> Iterator[TcpProxy]:
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
