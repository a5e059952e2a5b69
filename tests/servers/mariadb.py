"""A real MariaDB 10.11 from Debian's package, unpacked or installed.

The server is a child process of ours, on a data directory of its own that the server itself makes from the SQL
of its package. Under root it starts as root, so that it can read its files wherever they lie, and goes on as
`nobody`, who owns the data.
"""

import itertools
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pymysql
from pymysql.cursors import Cursor

from tests.servers import debian
from tests.servers.local_server import LocalServer

_USER = "tape"
_TABLES = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
_ZONES = Path("/usr/share/zoneinfo")


class MariaDBServer(LocalServer):
    """MariaDB on loopback, with one user who may do everything and has a random password.

    What was committed survives `kill9`, but not the loss of power: nothing is synced, unless `durable`. Its
    defaults are those that users have, not those that suit us: letters compare without case and accents,
    transactions are REPEATABLE READ, and the time zone is the machine's: `time_zone`, an offset (`+05:30`) or
    a zone with summer time (`Europe/Berlin`).
    """

    name = "mariadb"
    refuses_root = True

    def __init__(self, *, durable: bool = False, time_zone: str = "UTC") -> None:
        self._install = debian.installation(debian.MARIADB)
        self._durable = durable
        self._time_zone = time_zone
        self._password = secrets.token_urlsafe(12)
        self._numbers = itertools.count(1)
        if not self._is_offset and not (_ZONES / time_zone).exists():
            raise ValueError(f"{_ZONES} has no {time_zone}, and MariaDB would silently take UTC")
        super().__init__()
        self._data = self.directory / "data"
        self._temporary = self.directory / "tmp"

    @property
    def url(self) -> str:
        """A database that is always there, as SQLAlchemy takes it. Tests use `fresh_database`."""
        return self.database_url("mysql")

    def database_url(self, database: str) -> str:
        """A database of this server, as SQLAlchemy takes it."""
        return f"mysql+pymysql://{_USER}:{self._password}@{self.host}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, on a data directory that is made the first time."""
        if not self._data.exists():
            self._initialise()
        super().start()

    def fresh_database(self) -> str:
        """Create an empty database and return its URL."""
        database = f"tape_{next(self._numbers)}"
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {database}")
        return self.database_url(database)

    def drop_database(self, url: str) -> None:
        """Drop the database of `url`, ending the connections that are still open to it."""
        database = url.rpartition("/")[2]
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET lock_wait_timeout = 20")
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (database,))
            for (number,) in cursor.fetchall():
                self.end_connection(cursor, number)
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")

    def connect(self, url: str | None = None) -> pymysql.Connection:
        """A plain PyMySQL connection in autocommit mode, to look at things behind the code under test."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=_USER,
            password=self._password,
            database=(url or self.url).rpartition("/")[2],
            autocommit=True,
            connect_timeout=5,
            ssl_disabled=True,  # else each connection reads the certificates of all authorities first
        )

    @staticmethod
    def end_connection(cursor: Cursor, number: int) -> None:
        """End a connection of the server by its number; it may have ended by itself."""
        try:
            cursor.execute(f"KILL CONNECTION {number}")
        except pymysql.err.OperationalError as error:
            if error.args[0] != pymysql.constants.ER.NO_SUCH_THREAD:
                raise

    @property
    def _is_offset(self) -> bool:
        return self._time_zone.startswith(("+", "-"))

    def _initialise(self) -> None:
        """Make the data directory: the system tables, and our user instead of those that may come in without."""
        for directory in (self._data, self._temporary):
            directory.mkdir(mode=0o700, exist_ok=True)
            if self.account is not None:
                os.chown(directory, self.account.pw_uid, self.account.pw_gid)
        tables = "\n".join(self._install.file(f"usr/share/mysql/{name}").read_text() for name in _TABLES)
        done = subprocess.run(
            [*self._program(), "--bootstrap"],
            input=f"""
CREATE DATABASE mysql;
USE mysql;
SET @auth_root_socket = NULL;
{tables}
DELETE FROM global_priv WHERE user = 'root';
DELETE FROM proxies_priv;
FLUSH PRIVILEGES;
CREATE USER '{_USER}'@'{self.host}' IDENTIFIED BY '{self._password}';
GRANT ALL ON *.* TO '{_USER}'@'{self.host}' WITH GRANT OPTION;
""",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            cwd=self.directory,
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise RuntimeError(f"mariadbd --bootstrap ended with {done.returncode}:\n{done.stdout}")

    def _command(self) -> list[str | Path]:
        return [
            *self._program(),
            f"--bind-address={self.host}",
            f"--port={self.port}",
            "--socket=mariadb.sock",  # in the data directory: the path to it may be longer than a socket's may be
            "--skip-name-resolve",
        ]

    def _program(self) -> list[str | Path]:
        """The server and the settings that hold for its data directory."""
        settings = {
            "user": self.account.pw_name if self.account is not None else None,
            "basedir": self._install.root / "usr",
            "datadir": self._data,
            "tmpdir": self._temporary,  # when it starts it removes every temporary table there, whosever it is
            "default-time-zone": self._time_zone if self._is_offset else "SYSTEM",
            "character-set-server": "utf8mb4",
            "collation-server": "utf8mb4_general_ci",
            "transaction-isolation": "REPEATABLE-READ",
            "max-connections": 150,
            "table-open-cache": 400,
            "key-buffer-size": "1M",
            "aria-pagecache-buffer-size": "8M",
            "innodb-buffer-pool-size": "32M",
            "innodb-buffer-pool-dump-at-shutdown": "OFF",
            "innodb-data-file-path": "ibdata1:4M:autoextend",
            "innodb-temp-data-file-path": "ibtmp1:1M:autoextend",
            "innodb-autoextend-increment": 1,
            "innodb-log-file-size": "8M",
            "innodb-use-native-aio": "OFF",  # containers may forbid it
            "innodb-flush-log-at-trx-commit": 1 if self._durable else 2,
            "innodb-doublewrite": "ON" if self._durable else "OFF",
            "innodb-flush-method": "fsync" if self._durable else "nosync",
        }
        options = [f"--{name}={value}" for name, value in settings.items() if value is not None]
        return [self._install.file("usr/sbin/mariadbd"), "--no-defaults", *options]

    def _environment(self) -> dict[str, str]:
        zone = "UTC" if self._is_offset else self._time_zone
        return {**super()._environment(), **self._install.environment, "TZ": zone}

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True
