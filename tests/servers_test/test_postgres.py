"""The PostgreSQL of the tests is a real one: 18 and 15, killed and restarted without losing a commit."""

import os
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy

from tests.servers import PostgresServer, lives, until

VERSIONS = {18: "postgres", 15: "postgres15"}


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    """Each version that we promise to test on."""
    found: int = request.param
    return found


@pytest.fixture
def server(version: int, request: pytest.FixtureRequest) -> PostgresServer:
    """The server of that version."""
    found: PostgresServer = request.getfixturevalue(VERSIONS[version])
    return found


@pytest.fixture
def own_server(server: PostgresServer) -> Iterator[PostgresServer]:
    """Another of that version, for this test alone."""
    with type(server)() as own:
        yield own


def test_it_is_the_version_that_we_promise_to_test_on(server: PostgresServer, version: int) -> None:
    with server.connect() as connection:
        assert connection.info.server_version // 10_000 == version


def test_it_does_not_run_as_root(server: PostgresServer) -> None:
    with server.connect() as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        assert os.stat(f"/proc/{row[0]}").st_uid != 0


def test_fresh_databases_are_empty_and_apart(server: PostgresServer) -> None:
    urls = [server.fresh_database(), server.fresh_database()]
    with server.connect(urls[0]) as connection:
        connection.execute("CREATE TABLE only_here (id int)")
    with server.connect(urls[1]) as connection:
        tables = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == []
    for url in urls:
        server.drop_database(url)


def test_a_fresh_database_can_be_a_copy(server: PostgresServer) -> None:
    original = server.fresh_database()
    with server.connect(original) as connection:
        connection.execute("CREATE TABLE copied AS SELECT 7 AS id")
    copy = server.fresh_database(template=original)
    with server.connect(copy) as connection:
        assert connection.execute("SELECT id FROM copied").fetchall() == [(7,)]
    server.drop_database(copy)
    server.drop_database(original)


def test_dropping_ends_open_connections(server: PostgresServer) -> None:
    url = server.fresh_database()
    with server.connect(url) as left_open:
        server.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")


def test_a_commit_survives_kill9_and_restart(own_server: PostgresServer) -> None:
    engine = sqlalchemy.create_engine(own_server.fresh_database())
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT 1 AS id")
    own_server.kill9()
    with pytest.raises(sqlalchemy.exc.OperationalError), engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    own_server.start()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM kept").scalar_one() == 1
    own_server.restart()
    engine.dispose()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM kept").scalar_one() == 1
    engine.dispose()


def test_a_paused_server_keeps_connections_and_answers_later(own_server: PostgresServer) -> None:
    with own_server.connect() as connection:
        own_server.pause()
        connection.pgconn.send_query(b"SELECT 1")
        assert {child.status() for child in own_server.process.children()} == {"stopped"}
        assert connection.pgconn.is_busy()
        own_server.resume()

        def answered() -> bool:
            connection.pgconn.consume_input()
            return not connection.pgconn.is_busy()

        until(answered, what="the answer after the pause")
        while connection.pgconn.get_result():
            pass


def test_close_leaves_nothing(own_server: PostgresServer) -> None:
    process, children = own_server.process, own_server.process.children()
    assert children
    own_server.close()
    assert not own_server.directory.exists()
    assert not any(map(lives, children))
    assert not process.alive
    own_server.close()
