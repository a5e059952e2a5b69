"""The PostgreSQL of the tests is a real one: of version 18, killed and restarted without losing a commit."""

import os

import psycopg
import pytest
import sqlalchemy

from tests.servers import PostgresServer, lives, until


def test_it_is_the_version_that_we_promise_to_test_on(postgres: PostgresServer) -> None:
    with postgres.connect() as connection:
        assert connection.info.server_version // 10_000 == 18


def test_it_does_not_run_as_root(postgres: PostgresServer) -> None:
    with postgres.connect() as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        assert os.stat(f"/proc/{row[0]}").st_uid != 0


def test_fresh_databases_are_empty_and_apart(postgres: PostgresServer) -> None:
    urls = [postgres.fresh_database(), postgres.fresh_database()]
    with postgres.connect(urls[0]) as connection:
        connection.execute("CREATE TABLE only_here (id int)")
    with postgres.connect(urls[1]) as connection:
        tables = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == []
    for url in urls:
        postgres.drop_database(url)


def test_a_fresh_database_can_be_a_copy(postgres: PostgresServer) -> None:
    original = postgres.fresh_database()
    with postgres.connect(original) as connection:
        connection.execute("CREATE TABLE copied AS SELECT 7 AS id")
    copy = postgres.fresh_database(template=original)
    with postgres.connect(copy) as connection:
        assert connection.execute("SELECT id FROM copied").fetchall() == [(7,)]
    postgres.drop_database(copy)
    postgres.drop_database(original)


def test_dropping_ends_open_connections(postgres: PostgresServer) -> None:
    url = postgres.fresh_database()
    with postgres.connect(url) as left_open:
        postgres.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")


def test_a_commit_survives_kill9_and_restart(own_postgres: PostgresServer) -> None:
    engine = sqlalchemy.create_engine(own_postgres.fresh_database())
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT 1 AS id")
    own_postgres.kill9()
    with pytest.raises(sqlalchemy.exc.OperationalError), engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    own_postgres.start()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM kept").scalar_one() == 1
    own_postgres.restart()
    engine.dispose()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM kept").scalar_one() == 1
    engine.dispose()


def test_a_paused_server_keeps_connections_and_answers_later(own_postgres: PostgresServer) -> None:
    with own_postgres.connect() as connection:
        own_postgres.pause()
        connection.pgconn.send_query(b"SELECT 1")
        assert {child.status() for child in own_postgres.process.children()} == {"stopped"}
        assert connection.pgconn.is_busy()
        own_postgres.resume()

        def answered() -> bool:
            connection.pgconn.consume_input()
            return not connection.pgconn.is_busy()

        until(answered, what="the answer after the pause")
        while connection.pgconn.get_result():
            pass


def test_close_leaves_nothing() -> None:
    server = PostgresServer()
    server.start()
    process, children = server.process, server.process.children()
    assert children
    server.close()
    assert not server.directory.exists()
    assert not any(map(lives, children))
    assert not process.alive
    server.close()
