"""One HTTP/1.1 connection, and one exchange after the other on it.

What an upstream may send is httptools' to understand, which is llhttp, the parser of Node.js; what is sent is simple,
and written here. A client of general use does more for each exchange than the protocol asks for, and a short one then
costs several times as much.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import httptools
import httpx

from tape_celery.connectors.deadline import DeadlineStream
from tape_celery.connectors.references import HEADER_VALUE

_READ_BYTES = 64 * 1024
_MOST_BYTES_WITHOUT_BODY = 100 * 1024
"""That an answer may go on without bringing any of its body: of its head, say, or of what follows its last chunk."""


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


class Head(NamedTuple):
    """Status line and headers of an answer."""

    status_code: int
    http_version: str
    """``1.1``, say."""
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""


class _Answer:
    """One answer, as httptools tells of it; 1xx are no answers, and trailers no headers."""

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # "A recipient MAY recognize a single LF as a line terminator" (RFC 9112, 2.2).
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        self.head: Head | None = None
        self.is_whole = False
        self.trouble = ""
        """Why it goes on in no way that can be understood; of one that is whole, of what follows."""
        self.has_more = False
        """Something follows it that nobody asked for."""
        self.leaves_open = False
        """The connection is good for another exchange by what the head says."""
        self._bytes_without_body = 0
        self._pieces: list[bytes] = []
        self._headers: list[tuple[bytes, bytes]] = []

    def feed(self, data: bytes) -> None:
        """Have ``data`` understood, which has come; empty is the end."""
        if self._parser is None or not data:
            self._end_with_connection()
            return
        self._bytes_without_body += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.trouble = f"this is no answer in HTTP/1.1: {error}"
        if self._bytes_without_body > _MOST_BYTES_WITHOUT_BODY:
            self.trouble = f"over {_MOST_BYTES_WITHOUT_BODY} bytes came without a part of the body"

    def taken(self) -> Iterator[bytes]:
        """What of the body nobody has taken yet."""
        pieces, self._pieces = self._pieces, []
        yield from pieces

    def let_go(self) -> None:
        """Of the parser, which holds it too: so that neither waits for Python to look for such circles."""
        self._parser = None

    def _end_with_connection(self) -> None:
        if self.head is None:
            self.trouble = "Server disconnected without sending a response."
        elif {name for name, _ in self.head.headers} & {b"content-length", b"transfer-encoding"}:
            self.trouble = "the connection was closed before the body was whole"
        else:
            self.is_whole = True

    # --- called by httptools ---

    def on_message_begin(self) -> None:
        self.has_more = self.is_whole

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:
            self._headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if self.head is not None or parser is None:
            return
        code, headers = parser.get_status_code(), self._headers
        self._headers = []
        if not 100 <= code < 200:
            self.head = Head(code, parser.get_http_version(), headers)
            self.leaves_open = parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if not self.is_whole:
            self._pieces.append(data)
            self._bytes_without_body = 0

    def on_message_complete(self) -> None:
        self.is_whole = self.head is not None


class HTTPConnection:
    """A connection that is open; what it raises is httpx's."""

    def __init__(self, origin: Origin, stream: DeadlineStream) -> None:
        self.origin = origin
        self._stream = stream
        self._answer = _Answer()
        self._is_sent = True
        self._idle_since = time.monotonic()

    def send(self, request: Request, until: float) -> None:
        """Hand head and body over, in one packet where they fit.

        Where the upstream does not take it all, it may have answered all the same: that is no error here. Raises
        `WriteTimeout`, and `LocalProtocolError` for what cannot be sent.
        """
        sent = request.head() + (request.body or b"")
        self._answer = _Answer()
        self._is_sent = False
        try:
            self._stream.write(sent, until)
            self._is_sent = True
        except httpx.WriteError:
            return

    def head(self, until: float) -> Head:
        """The status line and headers of the answer. Raises `ReadTimeout`, `ReadError`, `RemoteProtocolError`."""
        while self._answer.head is None:
            self._hear(until)
        return self._answer.head

    def body(self, until: float) -> Iterator[bytes]:
        """The body as it comes, not unpacked; raises what `head` does, after what had come."""
        answer = self._answer
        while not answer.is_whole:
            yield from answer.taken()
            self._hear(until)
        yield from answer.taken()

    def end(self) -> bool:
        """End the exchange; whether another may follow on this connection."""
        answer, self._idle_since = self._answer, time.monotonic()
        answer.let_go()
        return self._is_sent and answer.is_whole and answer.leaves_open and not answer.has_more

    def is_older(self, idle_seconds: float) -> bool:
        """Whether it has been idle for longer than that."""
        return time.monotonic() - self._idle_since > idle_seconds

    def is_readable(self) -> bool:
        """Whether there is something to read: of one that is idle its end, or what nobody asked for."""
        return self._stream.is_readable()

    def close(self) -> None:
        """Close it."""
        self._answer.let_go()
        self._stream.close()

    def _hear(self, until: float) -> None:
        """Read once more, if what came so far could be understood."""
        if self._answer.trouble:
            raise httpx.RemoteProtocolError(self._answer.trouble)
        self._answer.feed(self._stream.read(_READ_BYTES, until))
