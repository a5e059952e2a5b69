"""The MariaDB of the tests is a real one, with the defaults that users have, killed without losing a commit."""

import datetime

import psutil
import pymysql
import pytest
import sqlalchemy

from tests.servers import MariaDBServer, lives, until


def value(server: MariaDBServer, expression: str, url: str | None = None) -> object:
    with server.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {expression}")
        (found,) = cursor.fetchone()
        return found


def test_it_is_a_version_that_we_promise_to_test_on(mariadb: MariaDBServer) -> None:
    version = str(value(mariadb, "@@version"))
    assert "MariaDB" in version
    assert tuple(map(int, version.split(".")[:2])) >= (10, 11)


def test_its_defaults_are_those_that_users_have(mariadb: MariaDBServer, mariadb_url: str) -> None:
    assert value(mariadb, "@@collation_database", mariadb_url) == "utf8mb4_general_ci"
    assert value(mariadb, "'Wire-É' = 'wire-e'", mariadb_url) == 1
    assert value(mariadb, "@@tx_isolation") == "REPEATABLE-READ"
    assert "STRICT_TRANS_TABLES" in str(value(mariadb, "@@sql_mode"))


def test_the_machine_it_runs_on_may_have_another_time_zone(mariadb: MariaDBServer) -> None:
    def ahead(server: MariaDBServer) -> object:
        noon = "'2026-07-01 12:00:00'"
        return value(server, f"TIMEDIFF({noon}, CONVERT_TZ({noon}, @@time_zone, '+00:00'))")

    assert ahead(mariadb) == datetime.timedelta(0)
    for zone, hours in (("+05:30", 5.5), ("America/New_York", -4)):
        with MariaDBServer(time_zone=zone) as server:
            assert ahead(server) == datetime.timedelta(hours=hours)


@pytest.mark.usefixtures("mariadb")  # which skips without the server
def test_a_time_zone_that_it_would_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="Mars/Olympus"):
        MariaDBServer(time_zone="Mars/Olympus")


def test_it_does_not_run_as_root(mariadb: MariaDBServer) -> None:
    assert psutil.Process(mariadb.process.pid).uids().effective != 0


def test_it_listens_on_loopback_alone(mariadb: MariaDBServer) -> None:
    listeners = [c.laddr for c in psutil.Process(mariadb.process.pid).net_connections() if c.status == "LISTEN"]
    assert listeners == [("127.0.0.1", mariadb.port)]


def test_nobody_comes_in_without_the_password(mariadb: MariaDBServer) -> None:
    for user in ("root", "tape", ""):
        with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
            pymysql.connect(host=mariadb.host, port=mariadb.port, user=user, password="")


def test_fresh_databases_are_empty_and_apart(mariadb: MariaDBServer) -> None:
    urls = [mariadb.fresh_database(), mariadb.fresh_database()]
    with mariadb.connect(urls[0]) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE only_here (id int)")
    with mariadb.connect(urls[1]) as connection, connection.cursor() as cursor:
        assert cursor.execute("SHOW TABLES") == 0
    for url in urls:
        mariadb.drop_database(url)


def test_dropping_ends_open_connections_and_their_transactions(mariadb: MariaDBServer) -> None:
    url = mariadb.fresh_database()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE locked (id int)")
    left_open = engine.connect()
    left_open.exec_driver_sql("INSERT INTO locked VALUES (1)")
    mariadb.drop_database(url)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        left_open.exec_driver_sql("SELECT 1")
    left_open.close()
    engine.dispose()


def test_another_that_starts_leaves_its_temporary_tables_alone(mariadb: MariaDBServer) -> None:
    """At its start a server removes the temporary tables that it finds: it must not find those of others."""
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE kept ENGINE = MyISAM SELECT 1 AS id")
        with MariaDBServer():
            pass
        cursor.execute("FLUSH TABLES")
        cursor.execute("SELECT id FROM kept")
        assert cursor.fetchall() == ((1,),)
        cursor.execute("DROP TEMPORARY TABLE kept")


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.usefixtures("mariadb")  # which skips without the server
def test_a_commit_survives_kill9_and_restart(durable: bool) -> None:
    with MariaDBServer(durable=durable) as server:
        engine = sqlalchemy.create_engine(server.fresh_database())
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE kept (id int)")
            connection.exec_driver_sql("INSERT INTO kept VALUES (1)")
        server.kill9()
        with pytest.raises(sqlalchemy.exc.OperationalError), engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        for start in (server.start, server.restart):
            start()
            engine.dispose()
            with engine.connect() as connection:
                assert connection.exec_driver_sql("SELECT id FROM kept").scalar_one() == 1
        engine.dispose()


def test_a_paused_server_keeps_connections_and_answers_later(own_mariadb: MariaDBServer) -> None:
    with own_mariadb.connect() as connection, connection.cursor() as cursor:
        own_mariadb.pause()
        assert psutil.Process(own_mariadb.process.pid).status() == psutil.STATUS_STOPPED
        with pytest.raises(pymysql.err.OperationalError, match="timed out"):
            pymysql.connect(host=own_mariadb.host, port=own_mariadb.port, read_timeout=0.1)
        own_mariadb.resume()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@pytest.mark.usefixtures("mariadb")  # which skips without the server
def test_close_leaves_nothing() -> None:
    server = MariaDBServer()
    server.start()
    process = psutil.Process(server.process.pid)
    server.close()
    until(lambda: not lives(process), what="the server's end")
    assert not server.directory.exists()
    server.close()
