"""An address for each container. All of 127.0.0.0/8 is this machine, so every Redis of a run may listen on 6379."""

import random
import socket
import sys
from pathlib import Path

_random = random.SystemRandom()  # with the tests' own seed, parallel runs would pick the same addresses


def own_address() -> str:
    """A loopback address that nobody else uses, but for a chance of one in four million."""
    return f"127.{_random.randint(64, 127)}.{_random.randint(0, 255)}.{_random.randint(1, 254)}"


def listening(address: str) -> bytes:
    """What a container sees in its `/proc/net/tcp`: the sockets that listen on its address."""
    number = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return "\n".join(row for row in rows if row.split()[1].startswith(f"{number:08X}:")).encode()
