"""A container as docker-py shows it, over a process group of this machine."""

import contextlib
import io
import secrets
import shlex
import signal as signals
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.errors import APIError

from tests.localdocker.addresses import listening, own_address
from tests.localdocker.programs import Command, Program, server_of
from tests.servers import ForkServer, Process, TcpProxy, until

PACE_SECONDS = 0.2
"""A round trip to a daemon. Without it, a second SIGQUIT would reach a worker before Python has handled the first, and
the two would count as one."""


class LocalContainer:
    """As in docker-py, `attrs` and `status` are what they were at the last `reload`."""

    def __init__(
        self,
        image: str,
        command: Sequence[str | None] | None,
        *,
        environment: Mapping[str, str],
        mounts: Mapping[str, Path],
        ports: Mapping[str, Any],
        network: str,
        labels: Mapping[str, str],
        name: str,
        directory: Path,
        forkserver: ForkServer | None = None,
    ) -> None:
        self.id = secrets.token_hex(32)
        self.name = name or f"local_{self.id[:12]}"
        self.labels = dict(labels)
        self.address = own_address()
        self._image, self._network = image, network
        self._mounts = mounts
        self._forkserver = forkserver
        self._environment = {name: str(mounts.get(value, value)) for name, value in environment.items()}
        self._ports = ports
        self._proxies: dict[str, TcpProxy] = {}
        self._program = self._program_for(command, directory)
        self._process: Process | None = None
        self._paused = False
        self._signalled_at = 0.0
        self.attrs: dict[str, Any] = {}
        self.reload()

    # What can be seen of it.

    @property
    def status(self) -> str:
        return str(self.attrs["State"]["Status"])

    def reload(self) -> None:
        """See it as it is now."""
        status = self._status()
        up = status in ("running", "paused")
        published = {port: [{"HostIp": p.host, "HostPort": str(p.port)}] for port, p in self._proxies.items()}
        self.attrs = {
            "Id": self.id,
            "Name": f"/{self.name}",
            "State": {"Status": status, "ExitCode": 0 if self._process is None else self._process.returncode},
            "Config": {
                "Hostname": self.address,
                "Env": [f"{name}={value}" for name, value in self._environment.items()],
                "Labels": self.labels,
                "Image": self._image,
            },
            "HostConfig": {"PortBindings": dict(self._ports)},
            "NetworkSettings": {
                "Networks": {self._network: {"IPAddress": self.address if up else ""}},
                "Ports": published if up else {},
            },
            "Mounts": [],
        }

    def logs(self) -> bytes:
        """All that it has written since it was made."""
        return self._program.log.read_bytes() if self._program.log.exists() else b""

    def wait(self, timeout: float = 60) -> dict[str, int]:
        """Wait for its end."""
        assert self._process is not None, f"{self.name} was never started"
        code = self._process.wait(timeout)
        self._status()
        return {"StatusCode": code if code >= 0 else 128 - code}

    def exec_run(self, cmd: str | Sequence[str]) -> tuple[int, bytes]:
        """Run a command beside it, and return its exit code and its output."""
        argv = shlex.split(cmd) if isinstance(cmd, str) else list(cmd)
        if argv[:2] == ["cat", "/proc/net/tcp"]:
            return 0, listening(self.address)
        if not isinstance(self._program, Command):
            return 126, f"{self._image} runs no other command here".encode()
        time.sleep(PACE_SECONDS)
        done = subprocess.run(
            self._program.argv(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._program.environment,
            cwd=self._program.directory,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    def proxy(self, port: str) -> TcpProxy:
        """What carries a published port to it: a network that a test may break."""
        return self._proxies[port]

    # What can be done to it.

    def start(self) -> None:
        """Start it, for the first time or again; a server answers when this returns."""
        self._process = self._program.start()
        self._paused = False
        for port, published in self._ports.items():
            if port in self._proxies:
                self._proxies[port].mode = "pass"
            else:
                self._proxies[port] = _published(self.address, port, published)

    def kill(self, signal: str | int | None = None) -> None:
        """Send a signal: SIGKILL ends it and all that came from it, any other goes to its main process alone."""
        number = _number(signal or "SIGKILL")
        process = self._running()
        if number == signals.SIGKILL:
            self._end()
            return
        time.sleep(max(0.0, self._signalled_at + PACE_SECONDS - time.monotonic()))
        process.kill(number)
        self._signalled_at = time.monotonic()

    def stop(self, timeout: float = 10) -> None:
        """End it in its own orderly way, and by force when the time is over."""
        if self._status() not in ("running", "paused"):
            return
        process = self._running()
        process.resume()
        process.kill(self._program.stop_signal)
        with contextlib.suppress(AssertionError):  # it had its time
            process.wait(timeout)
        self._end()

    def restart(self, timeout: float = 10) -> None:
        """Stop it if it runs, and start it at the same address."""
        self.stop(timeout)
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing is done."""
        self._running().pause()
        self._paused = True

    def unpause(self) -> None:
        """Let it go on."""
        self._running().resume()
        self._paused = False

    def put_archive(self, path: str, data: io.BytesIO) -> bool:
        """Unpack a tar file into a mounted directory."""
        with tarfile.open(fileobj=data, mode="r:*") as archive:
            archive.extractall(self._mounts[path], filter="data")
        return True

    def remove(self, force: bool = False, v: bool = False) -> None:
        """End it, with `force`, and forget all about it."""
        if not force and self._status() in ("running", "paused"):
            raise APIError(f"container {self.name} is running: stop it first, or remove it by force")
        self._end()
        self._program.discard()
        while self._proxies:
            _, proxy = self._proxies.popitem()
            until(lambda proxy=proxy: proxy.connections == 0, what="the end of the connections to it")
            proxy.close()

    def _status(self) -> str:
        if self._process is None:
            return "created"
        if self._process.alive:
            return "paused" if self._paused else "running"
        self._end()  # with its first process, a container loses all others
        return "exited"

    def _running(self) -> Process:
        if self._status() not in ("running", "paused") or self._process is None:
            raise APIError(f"container {self.name} is not running")
        return self._process

    def _end(self) -> None:
        self._program.end()
        for proxy in self._proxies.values():
            proxy.mode = "refuse"

    def _program_for(self, command: Sequence[str | None] | None, directory: Path) -> Program:
        server = server_of(self._image, self.address)
        if server is not None:
            return server
        # pytest-docker-tools makes None of an empty text; and a worker's %h is the container's short id.
        argv = [(part or "").replace("%h", self.id[:12]) for part in command or ["true"]]
        where = next(iter(self._mounts.values()), directory)
        return Command(argv, self._environment, where, directory / f"{self.name}.log", self._forkserver)


def _published(address: str, port: str, published: Any) -> TcpProxy:
    """Publish a port as Docker's `ports` say: on a free port, a port, or a host and port."""
    proxy = TcpProxy(address, int(port.partition("/")[0]))
    if isinstance(published, tuple):
        proxy.host, proxy.port = published[0], int(published[1])
    elif published is not None:
        proxy.port = int(published)
    proxy.start()
    return proxy


def _number(signal: str | int) -> int:
    if isinstance(signal, int):
        return signal
    return signals.Signals[signal if signal.startswith("SIG") else f"SIG{signal}"]
