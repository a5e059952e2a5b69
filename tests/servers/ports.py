"""Ports for servers that are stopped and started again in mid-test."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_FIRST, _LAST = 15_000, 29_999  # below the ports that the kernel hands out to outgoing connections
_random = random.SystemRandom()  # with the tests' own seed, parallel runs would pick the same ports
_taken: set[int] = set()
_locks: int | None = None


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` that nothing listens on, for as long as this process lives.

    It is outside the kernel's ephemeral range: while our server is down, no outgoing connection can take
    its port, and a client that tries to connect cannot be given that same port and connect to itself. Nor can
    another run of the tests be given it, before our server listens or while it is down.
    """
    for _ in range(200):
        port = _random.randint(_FIRST, _LAST)
        if port not in _taken and _lock(port) and _can_listen(host, port):
            _taken.add(port)
            return port
    raise RuntimeError(f"no free port on {host} between {_FIRST} and {_LAST}")


def _lock(port: int) -> bool:
    """Lock the byte that stands for `port` in a file that all runs share; the lock ends with this process."""
    global _locks
    if _locks is None:
        path = Path(tempfile.gettempdir()) / f"tape-test-ports-{os.getuid()}"
        _locks = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _can_listen(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
