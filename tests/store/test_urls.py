"""Which URLs name a store, how one that cannot be used is told, and that no password is shown on the way."""

from __future__ import annotations

import subprocess
import sys
import time
import traceback

import pytest

from tape_celery.errors import SettingsError, StoreUnavailable
from tape_celery.store.database import Database
from tests.servers import PostgresServer, TcpProxy
from tests.servers.ports import free_port
from tests.store.conftest import MakeTape, Open, url_of
from tests.store.steps import claim, count, recorded, scalar

SECRET = "hunter2-is-secret"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql+mysqldb://user:{SECRET}@host/name",
        f"mysql+aiomysql://user:{SECRET}@host/name",
        f"mariadb+mariadbconnector://user:{SECRET}@host/name",
        f"oracle+oracledb://user:{SECRET}@host/name",
        f"mssql+pyodbc://user:{SECRET}@host/name",
        f"mongodb://user:{SECRET}@host/name",
        f"redis://:{SECRET}@host/0",
        f"postgresql+asyncpg://user:{SECRET}@host/name",
        f"postgresql+psycopg2://user:{SECRET}@host/name",
        "sqlite+aiosqlite:///tape.db",
        "sqlite+pysqlcipher:///tape.db",
        f"mysql+mysqlconnector://host/name?password={SECRET}",
        f"http://host/?token={SECRET}",
    ],
)
def test_an_unsupported_kind_is_refused_by_name(url: str) -> None:
    """With what is supported beside it, before anything is opened, and without the password."""
    expected = "unsupported kind; expected sqlite:///path, postgresql://host/name or mysql://"
    with pytest.raises(SettingsError, match=expected) as refused:
        Database(url)
    assert url.partition(":")[0] in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "nonsense",
        SECRET,
        "sqlite",
        "://",
        f"postgresql://user:{SECRET}@host:port/name",
        f"postgresql://{SECRET}:word/name",
    ],
)
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    """Nobody can tell which part of it is the password."""
    with pytest.raises(SettingsError, match="tape_store_url") as refused:
        Database(url)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+pysqlite:///:memory:",
        "sqlite:///file::memory:?cache=shared&uri=true",
        "sqlite:///file:shared?mode=memory&cache=shared&uri=true",
        "sqlite:///tape.db?mode=memory&uri=true",
    ],
)
def test_a_store_in_memory_is_refused(url: str) -> None:
    """An intent would not outlive the process that recorded it."""
    with pytest.raises(SettingsError, match="in memory"):
        Database(url)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///tape.db", "sqlite"),
        ("sqlite+pysqlite:////var/lib/tape.db", "sqlite"),
        ("postgresql://host/name", "postgresql"),
        ("postgres://host/name", "postgresql"),
        ("postgresql+psycopg://user@host:5433/name?sslmode=require", "postgresql"),
        ("postgresql://user:p%40ss@/name?host=/var/run/postgresql", "postgresql"),
        ("mysql://user@host/name", "mysql"),
        ("mysql+pymysql://user@host:3307/name?ssl_ca=ca.pem", "mysql"),
        ("mariadb://user@host/name", "mysql"),
        ("mariadb+pymysql://user@host/name", "mysql"),
    ],
)
def test_these_name_a_store(url: str, driver: str) -> None:
    """Nothing is opened for it."""
    assert Database(url).url.get_backend_name() == driver


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@host/name",
        f"postgresql://user@host/name?password={SECRET}",
        f"postgresql://user@host/name?sslpassword={SECRET}",
        f"postgresql://user@host/name?passfile=/etc/{SECRET}",
    ],
)
def test_a_store_does_not_show_its_password(url: str) -> None:
    """Wherever in the URL it stands."""
    assert SECRET not in repr(Database(url))
    assert "host" in repr(Database(url))


def test_a_postgresql_that_nobody_listens_at_is_told_at_once(open_database: Open) -> None:
    """With host and database, without the password, anywhere in the chain of causes."""
    database = open_database(f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/shop")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1.*shop.*Connection refused") as refused:
        recorded(database)
    assert time.monotonic() - began < 2
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_a_host_that_does_not_exist_is_told_at_once(open_database: Open) -> None:
    """A name that no resolver has."""
    database = open_database(f"postgresql://user:{SECRET}@no-such-host.invalid/shop")
    with pytest.raises(StoreUnavailable, match=r"no-such-host\.invalid") as refused:
        count(database)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_a_password_in_the_query_is_not_shown_by_an_error(open_database: Open) -> None:
    """libpq takes it there, and so may whoever writes the URL."""
    database = open_database(f"postgresql://user@127.0.0.1:{free_port()}/shop?password={SECRET}")
    with pytest.raises(StoreUnavailable) as refused:
        recorded(database)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("part", ["password", "database", "user"])
def test_a_server_that_refuses_us_is_told_with_its_reason(
    postgres: PostgresServer, open_database: Open, part: str
) -> None:
    """Wrong password, no such database, no such role: the server's own words, and not the password."""
    url = open_database(postgres.url).url
    wrong = {
        "password": url.set(password=SECRET),
        "database": url.set(database="no_such_database"),
        "user": url.set(username="no_such_role", password=SECRET),
    }[part]
    reason = "does not exist" if part == "database" else "password authentication failed"
    with pytest.raises(StoreUnavailable, match=reason) as refused:
        recorded(open_database(wrong.render_as_string(hide_password=False)))
    told = "".join(traceback.format_exception(refused.value))
    assert SECRET not in told
    assert str(url.password) not in told


def test_a_server_that_accepts_and_never_answers_is_given_up(
    postgres_store: Database, proxy: TcpProxy, open_database: Open
) -> None:
    """After the connect timeout, 5 s: a caller is not kept for ever."""
    proxy.mode = "blackhole"
    database = open_database(proxy.url(url_of(postgres_store)))
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="timeout"):
        count(database)
    assert 3 < time.monotonic() - began < 15


def test_what_the_url_says_of_the_connection_stands(postgres_store: Database, open_database: Open) -> None:
    """Its own options are added to ours, and its own values go before ours."""
    query = "?options=-c%20search_path%3Dpublic,pg_catalog%20-c%20lock_timeout%3D3s&application_name=shop"
    database = open_database(url_of(postgres_store) + query)
    assert scalar(database, "SHOW search_path") == "public,pg_catalog"
    assert scalar(database, "SHOW application_name") == "shop"
    assert scalar(database, "SHOW lock_timeout") == "3s"
    assert scalar(database, "SHOW statement_timeout") == "30s"


def test_a_role_without_rights_is_told_by_name(postgres_store: Database, open_database: Open) -> None:
    """A worker's role that may not write: the database's own words."""
    postgres_store.write(lambda connection: connection.exec_driver_sql("DROP ROLE IF EXISTS reader"))
    postgres_store.write(lambda connection: connection.exec_driver_sql("CREATE ROLE reader LOGIN PASSWORD 'reader'"))
    for table in ("tape_effects", "tape_alembic_version"):
        postgres_store.write(lambda connection, t=table: connection.exec_driver_sql(f"GRANT SELECT ON {t} TO reader"))
    try:
        reader = postgres_store.url.set(username="reader", password="reader")
        database = open_database(reader.render_as_string(hide_password=False))
        assert count(database) == 0
        with pytest.raises(StoreUnavailable, match="permission denied for table tape_effects"):
            recorded(database)
        with pytest.raises(StoreUnavailable, match="permission denied for table tape_effects"):
            claim(database, "any")
    finally:
        postgres_store.write(lambda connection: connection.exec_driver_sql("DROP OWNED BY reader"))
        postgres_store.write(lambda connection: connection.exec_driver_sql("DROP ROLE reader"))


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_driver_that_is_not_installed_is_told_with_its_extra(kind: str) -> None:
    """Where psycopg or PyMySQL cannot be imported, the SQLite store works all the same."""
    code = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("psycopg", "psycopg2", "psycopg_binary", "pymysql"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from tape_celery.errors import MissingExtra
from tape_celery.store.database import Database
Database("sqlite:///tape.db")
try:
    Database("KIND://user:word@host/name")
except MissingExtra as error:
    print(error)
""".replace("KIND", kind)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"pip install 'tape-celery[{kind}]'" in done.stdout
    assert "word" not in done.stdout


def test_a_tape_names_a_bad_url_when_it_is_first_used(make_tape: MakeTape) -> None:
    """Not when it is constructed: nothing is read then."""
    tape = make_tape(f"mongodb://user:{SECRET}@host/name")
    with pytest.raises(SettingsError, match="unsupported kind") as refused:
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    assert SECRET not in str(refused.value)


def test_a_database_without_an_encoding_is_refused_by_name(postgres: PostgresServer) -> None:
    """Its texts would come as bytes; one whose client says UTF8 is a store like any other."""
    with postgres.connect() as connection:
        connection.execute(
            "CREATE DATABASE no_encoding ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    url = postgres.database_url("no_encoding")
    refused, told = Database(url), Database(f"{url}?client_encoding=utf8")
    try:
        with pytest.raises(
            SettingsError, match=r"database 'no_encoding', whose encoding is SQL_ASCII .* ENCODING 'UTF8'"
        ):
            refused.migrate()
        told.migrate()
        told.ready()
    finally:
        told.close()
        postgres.drop_database(url)
