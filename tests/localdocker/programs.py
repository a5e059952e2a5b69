"""What runs in a container: a server of `tests.servers`, or a command under this Python."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.servers import ForkServer, LocalServer, Process, RabbitMQServer, RedisServer
from tests.servers.processes import clean_environment


class Program(Protocol):
    """It may be started again once it has ended; its output goes on in the same file."""

    log: Path
    stop_signal: int

    def start(self) -> Process:
        """Start it."""

    def end(self) -> None:
        """SIGKILL whatever is left of it."""

    def discard(self) -> None:
        """End it, and remove its files."""


class GuestRabbitMQ(RabbitMQServer):
    """With the user that its image has."""

    def _environment(self) -> dict[str, str]:
        config = self.directory / "guest.config"
        config.write_text(f"""
[{{rabbit, [
    {{tcp_listeners, [{{"{self.host}", {self.port}}}]}},
    {{default_user, <<"guest">>}},
    {{default_pass, <<"guest">>}},
    {{disk_free_limit, 1000000}}
]}}].
""")
        return {**super()._environment(), "RABBITMQ_CONFIG_FILE": str(config)}

    def _answers(self) -> bool:
        try:
            return self.evaluate("rabbit:is_running().") == "true"
        except OSError:
            return False


_SERVERS: dict[str, tuple[type[LocalServer], int]] = {"redis": (RedisServer, 6379), "rabbitmq": (GuestRabbitMQ, 5672)}
"""By the image's repository: the server, and the port that it has in a container."""


class Server:
    """A server that listens on its container's address."""

    def __init__(self, server: LocalServer, address: str, port: int) -> None:
        server.host, server.port = address, port
        self.log, self.stop_signal = server.log, server.stop_signal
        self._server = server
        self._running = False

    def start(self) -> Process:
        self._server.start()
        self._running = True
        return self._server.process

    def end(self) -> None:
        if self._running:
            self._server.kill9()
            self._running = False

    def discard(self) -> None:
        self._server.close()
        self._running = False


_ABOUT_IMAGES = ("PYTHONDONTWRITEBYTECODE",)
"""Variables that keep an image small."""


class Command:
    """A command, in the directory that its image would have as the working directory.

    With a `forkserver`, Celery's commands are forked by it wherever it takes them.
    """

    stop_signal = LocalServer.stop_signal

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
        forkserver: ForkServer | None = None,
    ) -> None:
        environment = {name: value for name, value in environment.items() if name not in _ABOUT_IMAGES}
        if forkserver is None:
            environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = clean_environment(environment)
        self._forkserver = forkserver
        self.directory = directory
        self.log = log
        self._argv = self.argv(argv)
        self._process: Process | None = None

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The same with the program's whole path, this Python's own where it has one of that name.

        For Celery that is its script, not `python -m`: pytest-celery finds the process by the name.
        """
        program = Path(sys.executable).with_name(argv[0])
        return [str(program) if program.exists() else argv[0], *argv[1:]]

    def start(self) -> Process:
        argv, forkserver = self._argv, None
        if Path(argv[0]).name == "celery" and self._forkserver is not None and self._forkserver.takes(self.environment):
            argv, forkserver = [sys.executable, "-m", "celery", *argv[1:]], self._forkserver
        how: dict[str, Any] = {"log": self.log, "env": self.environment, "cwd": self.directory}
        self._process = Process(argv, forkserver=forkserver, **how)
        return self._process

    def end(self) -> None:
        if self._process is not None:
            self._process.close()

    def discard(self) -> None:
        self.end()


def server_of(image: str, address: str) -> Server | None:
    """The server that an image is known for; raises `MissingServerError` where it is not installed."""
    repository = image.partition(":")[0]
    if repository not in _SERVERS:
        return None
    server, port = _SERVERS[repository]
    return Server(server(), address, port)
