"""The connections of one process to one upstream. Each belongs to one exchange at a time.

A pool that hands out an idle connection before it is in use lets another thread find it idle for too long and close it
under the request: an answer that nobody but ourselves lost.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx

from tape_celery.connectors.deadline import connected
from tape_celery.connectors.http11 import HTTPConnection, Origin


class ConnectionPool:
    """Up to ``max_connections`` HTTP/1.1 connections, those that are idle among them.

    A connection idle for over ``idle_seconds`` is not used again. The one used last is used next, so the rest can go.
    """

    def __init__(self, tls: ssl.SSLContext, max_connections: int, idle_seconds: float) -> None:
        self._tls = tls
        self._most = max_connections
        self._idle_seconds = idle_seconds
        self._changed = threading.Condition()
        self._in_use = 0
        self._idle: list[HTTPConnection] = []
        """The longest idle first."""
        self._closed = False

    @contextmanager
    def connection(self, origin: Origin, seconds: float, until: float) -> Iterator[HTTPConnection]:
        """A connection to ``origin`` for one exchange: an idle one, or one that is open at the instant ``until``.

        Raises `PoolTimeout` of httpx when none becomes free within ``seconds``, `ConnectTimeout` and `ConnectError`.
        """
        found = self._take(origin, seconds)
        kept = None
        try:
            if found is None:
                tls = self._tls if origin.scheme == "https" else None
                found = HTTPConnection(origin, connected(origin.host, origin.port, tls, until))
            yield found
            if found.end():
                kept = found
        finally:
            self._give_back(kept)
            if kept is None and found is not None:
                found.close()

    def close(self) -> None:
        """Close the idle connections now, and those in use when their exchanges end."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
        _close(idle)

    def _take(self, origin: Origin, seconds: float) -> HTTPConnection | None:
        """A place, and an idle connection for it if there is one."""
        with self._changed:
            if self._in_use >= self._most and not self._changed.wait_for(lambda: self._in_use < self._most, seconds):
                raise httpx.PoolTimeout(f"all {self._most} connections are in use")
            self._in_use += 1
            connection, left = self._find(origin)
        _close(left)
        return connection

    def _find(self, origin: Origin) -> tuple[HTTPConnection | None, list[HTTPConnection]]:
        """An idle connection, if there is one, and those that are of no use any more."""
        left = []
        while self._idle and self._idle[0].is_older(self._idle_seconds):
            left.append(self._idle.pop(0))
        for place in reversed(range(len(self._idle))):
            if self._idle[place].origin == origin:
                connection = self._idle.pop(place)
                if not connection.is_readable():
                    return connection, left
                left.append(connection)
        if self._idle and self._in_use + len(self._idle) > self._most:
            left.append(self._idle.pop(0))  # it leads elsewhere, and takes the place of the one to be opened
        return None, left

    def _give_back(self, connection: HTTPConnection | None) -> None:
        with self._changed:
            self._in_use -= 1
            if connection is not None and not self._closed:
                self._idle.append(connection)
                connection = None
            self._changed.notify()
        if connection is not None:
            connection.close()


def _close(connections: Iterable[HTTPConnection]) -> None:
    for connection in connections:
        connection.close()
