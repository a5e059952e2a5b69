"""Ports for servers that are stopped and started again in mid-test."""

import random
import socket

_FIRST, _LAST = 15_000, 29_999  # below the ports that the kernel hands out to outgoing connections
_random = random.SystemRandom()  # with the tests' own seed, parallel runs would pick the same ports


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` that nothing listens on.

    It is outside the kernel's ephemeral range: while our server is down, no outgoing connection can take
    its port, and a client that tries to connect cannot be given that same port and connect to itself.
    """
    for _ in range(200):
        port = _random.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port on {host} between {_FIRST} and {_LAST}")
