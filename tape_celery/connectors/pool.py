"""The connections of one process to one upstream. Each belongs to one exchange at a time.

httpcore's own pool hands out an idle connection before it is in use, so that another thread may find it idle for too
long and close it under the request: an answer that nobody but ourselves lost. It also looks at each of its connections
for each request, which is slow with hundreds of them.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import httpcore


class ConnectionPool:
    """Up to ``max_connections`` HTTP/1.1 connections, those that are idle among them.

    A connection idle for over ``idle_seconds`` is not used again. The one used last is used next, so the rest can go.
    """

    def __init__(
        self, tls: ssl.SSLContext, max_connections: int, idle_seconds: float, backend: httpcore.NetworkBackend
    ) -> None:
        self._tls = tls
        self._most = max_connections
        self._idle_seconds = idle_seconds
        self._backend = backend
        self._changed = threading.Condition()
        self._in_use = 0
        self._idle: list[httpcore.HTTPConnection] = []
        """The longest idle first."""
        self._closed = False

    @contextmanager
    def exchange(self, request: httpcore.Request) -> Iterator[httpcore.Response]:
        """One exchange, once: yields the answer, whose body is still to be read.

        Raises `PoolTimeout` when no connection becomes free, and what httpcore does.
        """
        connection = self._take(request.url.origin, request.extensions["timeout"]["pool"])
        try:
            with closing(connection.handle_request(request)) as answer:
                yield answer
        finally:
            self._put_back(connection)

    def close(self) -> None:
        """Close the idle connections now, and those in use when their exchanges end."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
        _close(idle)

    def _take(self, origin: httpcore.Origin, seconds: float) -> httpcore.HTTPConnection:
        with self._changed:
            if not self._changed.wait_for(lambda: self._in_use < self._most, seconds):
                raise httpcore.PoolTimeout(f"all {self._most} connections are in use")
            self._in_use += 1
            connection, left = self._find(origin)
        _close(left)
        return connection or httpcore.HTTPConnection(
            origin,
            ssl_context=self._tls,
            keepalive_expiry=self._idle_seconds,
            retries=0,
            network_backend=self._backend,
        )

    def _find(self, origin: httpcore.Origin) -> tuple[httpcore.HTTPConnection | None, list[httpcore.HTTPConnection]]:
        """An idle connection, if there is one, and those that are of no use any more."""
        left = []
        while self._idle and self._idle[0].has_expired():
            left.append(self._idle.pop(0))
        for place in reversed(range(len(self._idle))):
            if self._idle[place].can_handle_request(origin):
                connection = self._idle.pop(place)
                if not connection.has_expired():
                    return connection, left
                left.append(connection)
        if self._idle and self._in_use + len(self._idle) > self._most:
            left.append(self._idle.pop(0))  # it leads elsewhere, and takes the place of the one to be opened
        return None, left

    def _put_back(self, connection: httpcore.HTTPConnection) -> None:
        with self._changed:
            self._in_use -= 1
            kept = connection.is_available() and not self._closed
            if kept:
                self._idle.append(connection)
            self._changed.notify()
        if not kept:
            connection.close()


def _close(connections: Iterable[httpcore.HTTPConnection]) -> None:
    for connection in connections:
        connection.close()
