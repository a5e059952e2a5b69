"""Connections for httpcore whose timeouts are instants, so that an exchange ends in time, however it drips.

httpcore's own give each single read the whole timeout: an answer that drips one byte a second never times out. Here a
timeout is an instant of `time.monotonic`, and each operation (name lookup, connect, TLS handshake, write, read) gets
what is left until then. The protocol is httpcore's; the sockets are ours, and so is the pool.
"""

from __future__ import annotations

import ipaddress
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpcore

_Wall = Mapping[type[Exception], type[Exception]]
"""Exceptions of the one side, and what each is raised as on the other. The first that fits counts."""

_CONNECTING: _Wall = {TimeoutError: httpcore.ConnectTimeout, OSError: httpcore.ConnectError}
_READING: _Wall = {TimeoutError: httpcore.ReadTimeout, OSError: httpcore.ReadError}
_WRITING: _Wall = {TimeoutError: httpcore.WriteTimeout, OSError: httpcore.WriteError}


class DeadlineBackend(httpcore.NetworkBackend):
    """Opens TCP connections; ``timeout`` is an instant."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of ``host`` that answers. Raises `ConnectTimeout` or `ConnectError`."""
        with _raised_as(_CONNECTING):
            return DeadlineStream(_connected(host, port, timeout))


class DeadlineStream(httpcore.NetworkStream):
    """One connection; every ``timeout`` is an instant.

    What is written first after what was read, the head of a request, waits for the next write, or read: so head and
    body go together, in one packet where they fit.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._head: bytes | None = None
        """What waits; ``None``: nothing was written yet."""
        self.heard = False
        """Whether anything was read since the last write."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, at most ``max_bytes``; empty at the end. Raises `ReadTimeout` or `ReadError`, and what
        `write` does."""
        if self._head:
            self.write(b"", timeout)
        with _raised_as(_READING):
            self._sock.settimeout(_left(timeout))
            received = self._sock.recv(max_bytes)
        self._head = None
        self.heard = True
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand all of ``buffer`` over, at once or together with what follows. Raises `WriteTimeout` or `WriteError`; a
        part may have gone by then."""
        self.heard = False
        if self._head is None:
            self._head = buffer
            return
        rest, self._head = memoryview(self._head + buffer), b""
        with _raised_as(_WRITING):
            while rest:
                self._sock.settimeout(_left(timeout))
                rest = rest[self._sock.send(rest) :]

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection under TLS. Raises `ConnectTimeout` or `ConnectError`, and then it is closed."""
        with _raised_as(_CONNECTING):
            try:
                self._sock.settimeout(_left(timeout))
                return DeadlineStream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname))
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: the TLS object, and whether an idle connection has something to read."""
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        if info == "is_readable":
            return _is_readable(self._sock)
        return None


def _left(instant: float | None) -> float:
    """The seconds left until ``instant``; raises `TimeoutError` when there are none, or no instant was given."""
    left = (instant or 0.0) - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the exchange is over")
    return left


@contextmanager
def _raised_as(wall: _Wall) -> Iterator[None]:
    try:
        yield
    except tuple(wall) as error:
        raised = next(raised for kind, raised in wall.items() if isinstance(error, kind))
        raise raised(str(error)) from error


def _connected(host: str, port: int, instant: float | None) -> socket.socket:
    addresses = _resolved(host, port, instant)
    failure = OSError(f"{host} has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            # A share of the time for each: an address that never answers must leave some for the next.
            return _opened(family, kind, protocol, address, _left(instant) / (len(addresses) - tried))
        except OSError as error:
            failure = error
    raise failure


def _opened(family: int, kind: int, protocol: int, address: Any, seconds: float) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _resolved(host: str, port: int, instant: float | None) -> list[Any]:
    """The addresses of ``host``. `getaddrinfo` knows no timeout, so names are looked up in a thread.

    The thread is left behind when the time is over; it ends when the resolver gives up.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.put(error)
        except UnicodeError as error:  # a label that is empty or longer than 63 characters
            found.put(OSError(f"{host} is no host name: {error}"))

    threading.Thread(target=look_up, name="tape-name-lookup", daemon=True).start()
    try:
        addresses = found.get(timeout=_left(instant))
    except queue.Empty:
        raise TimeoutError(f"the name {host} was not resolved in time") from None
    if isinstance(addresses, OSError):
        raise addresses
    return addresses


def _is_readable(sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
