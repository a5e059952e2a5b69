"""TCP connections whose timeouts are instants, so that an exchange ends in time, however it drips.

A timeout for each single read would never end an answer that drips one byte a second. Here each operation (name lookup,
connect, TLS handshake, write, read) gets what is left until an instant of `time.monotonic`.
"""

from __future__ import annotations

import ipaddress
import queue
import select
import socket
import ssl
import threading
import time
from typing import Any

import httpx


def connected(host: str, port: int, tls: ssl.SSLContext | None, until: float) -> DeadlineStream:
    """A connection to the first address of ``host`` that answers, under TLS where ``tls`` is given.

    Raises `ConnectTimeout` or `ConnectError` of httpx.
    """
    try:
        sock = _connected(host, port, until)
        return DeadlineStream(sock if tls is None else _secured(sock, host, tls, until))
    except TimeoutError as error:
        raise httpx.ConnectTimeout(str(error)) from error
    except OSError as error:
        raise httpx.ConnectError(str(error)) from error


class DeadlineStream:
    """One connection; what it raises is httpx's."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)

    def read(self, most_bytes: int, until: float) -> bytes:
        """What has come, at most ``most_bytes``; empty at the end. Raises `ReadTimeout` or `ReadError`."""
        try:
            self._sock.settimeout(_left(until))
            received = self._sock.recv(most_bytes)
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        return received

    def write(self, data: bytes, until: float) -> None:
        """Hand all of ``data`` over. Raises `WriteTimeout` or `WriteError`; a part may have gone by then."""
        rest = memoryview(data)
        try:
            while rest:
                self._sock.settimeout(_left(until))
                rest = rest[self._sock.send(rest) :]
        except TimeoutError as error:
            raise httpx.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpx.WriteError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def is_readable(self) -> bool:
        """Whether there is something to read, were it the end."""
        return self._sock.fileno() < 0 or bool(self._readable.poll(0))


def _left(instant: float) -> float:
    """The seconds left until ``instant``; raises `TimeoutError` when there are none."""
    left = instant - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the exchange is over")
    return left


def _connected(host: str, port: int, instant: float) -> socket.socket:
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


def _secured(sock: socket.socket, host: str, tls: ssl.SSLContext, instant: float) -> ssl.SSLSocket:
    try:
        sock.settimeout(_left(instant))
        return tls.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


def _resolved(host: str, port: int, instant: float) -> list[Any]:
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
