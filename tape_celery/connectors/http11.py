"""One HTTP/1.1 connection, and one exchange after the other on it.

What an upstream may send is h11's to understand; what is sent is simple, and written here. A client of general use does
more for each exchange than the protocol asks for, and a short one then costs several times as much.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import h11
import httpx

from tape_celery.connectors.deadline import DeadlineStream
from tape_celery.connectors.references import HEADER_VALUE

_READ_BYTES = 64 * 1024
_MOST_HEAD_BYTES = 100 * 1024
"""Of an answer; what is longer counts as none."""
_ASKED = {method: h11.Request(method=method, target="/", headers=[("Host", "")]) for method in ("GET", "POST")}
"""What h11 is told of a request: how an answer is to be read depends on its method only."""
_END = h11.EndOfMessage()


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    """As it is looked up: without brackets, and in ASCII."""
    port: int


class Request(NamedTuple):
    """What is sent."""

    method: str
    """GET or POST."""
    target: str
    """Path and query, which are visible ASCII."""
    headers: Mapping[str, str]
    """All but ``Content-Length``. Their names were checked before."""
    body: bytes | None

    def head(self) -> bytes:
        """The request line and the headers; raises `LocalProtocolError` for a value that could end a header."""
        headers = dict(self.headers)
        if self.body is not None:
            headers["Content-Length"] = str(len(self.body))
        for name, value in headers.items():
            if not HEADER_VALUE.fullmatch(value):
                raise httpx.LocalProtocolError(f"the value of the header {name} cannot be sent")
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        return f"{self.method} {self.target} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("ascii")


class HTTPConnection:
    """A connection that is open; what it raises is httpx's."""

    def __init__(self, origin: Origin, stream: DeadlineStream) -> None:
        self.origin = origin
        self._stream = stream
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD_BYTES)
        self._is_whole = True
        self._idle_since = time.monotonic()

    def send(self, request: Request, until: float) -> None:
        """Hand head and body over, in one packet where they fit.

        Where the upstream does not take it all, it may have answered all the same: that is no error here. Raises
        `WriteTimeout`, and `LocalProtocolError` for what cannot be sent.
        """
        sent = request.head() + (request.body or b"")
        self._protocol.send(_ASKED[request.method])
        self._protocol.send(_END)
        self._is_whole = False
        try:
            self._stream.write(sent, until)
            self._is_whole = True
        except httpx.WriteError:
            return

    def head(self, until: float) -> h11.Response:
        """The status line and headers of the answer. Raises `ReadTimeout`, `ReadError`, `RemoteProtocolError`."""
        while True:
            event = self._next(until)
            if isinstance(event, h11.Response):
                return event

    @property
    def heard(self) -> bool:
        """Whether anything was read since the request was handed over."""
        return self._stream.heard

    def body(self, until: float) -> Iterator[bytes]:
        """The body as it comes, not unpacked; raises what `head` does."""
        while isinstance(event := self._next(until), h11.Data):
            yield event.data

    def end(self) -> bool:
        """End the exchange; whether another may follow on this connection."""
        protocol = self._protocol
        if not self._is_whole or protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
            return False
        protocol.start_next_cycle()
        self._idle_since = time.monotonic()
        return True

    def is_older(self, idle_seconds: float) -> bool:
        """Whether it has been idle for longer than that."""
        return time.monotonic() - self._idle_since > idle_seconds

    def is_readable(self) -> bool:
        """Whether there is something to read: of one that is idle its end, or what nobody asked for."""
        return self._stream.is_readable()

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def _next(self, until: float) -> object:
        while True:
            try:
                event = self._protocol.next_event()
            except h11.RemoteProtocolError as error:
                raise httpx.RemoteProtocolError(str(error)) from error
            if event is not h11.NEED_DATA:
                return event
            data = self._stream.read(_READ_BYTES, until)
            if not data and self._protocol.their_state is h11.SEND_RESPONSE:
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
            self._protocol.receive_data(data)
