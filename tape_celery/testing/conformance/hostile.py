"""The hostile upstream: a server on loopback that does to each request what a scenario says, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tape_celery.testing.conformance.upstream import Booking, Request, Upstream

MOST_HEADER_LINES = 200
MOVED = "/moved-by-the-hostile-upstream"


class Connection:
    """What a scenario may do with the connection that a request came on. It is closed after each answer."""

    def __init__(self, sock: socket.socket, over: threading.Event) -> None:
        self._sock = sock
        self.over = over
        """Set when the scenario is over."""

    def send(self, data: bytes) -> None:
        """All of ``data`` at once."""
        self._sock.sendall(data)

    def drip(self, data: bytes, every: float = 0.05) -> None:
        """One byte after another, until the client has gone or the scenario is over."""
        for position in range(len(data)):
            if self.over.wait(every):
                return
            self.send(data[position : position + 1])

    def hold(self) -> None:
        """Say nothing until the scenario is over."""
        self.over.wait(120)

    def reset(self) -> None:
        """Close with RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


Play = Callable[["Hostile", Connection, Request], None]


@dataclass
class Hostile:
    """The server of one scenario. ``play`` answers a request; without it connections are closed unread."""

    upstream: Upstream
    play: Play | None = None
    bookings: list[Booking] = field(default_factory=list)
    undone: list[Booking] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    """Those that ask for a change, and those that followed a redirect."""
    asked: list[Request] = field(default_factory=list)
    """Every request."""
    looking: bool = False
    """Whether requests come from a look: then none of them asks for a change."""

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="hostile-upstream", daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def book(self, request: Request) -> Booking:
        """One more record."""
        booking = Booking(self.upstream.reference(len(self.bookings) + 1), request)
        self.bookings.append(booking)
        return booking

    def begin(self, play: Play | None, *, looking: bool = False) -> None:
        """Go on with another scenario: the records stay, what was asked so far is forgotten."""
        self.play, self.looking = play, looking
        self.requests, self.asked = [], []

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), name="hostile-connection", daemon=True)
            self._threads.append(thread)
            self._open.add(sock)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        # Whatever a client does, gone or garbled, is a matter of what the scenario then sees of it.
        play = self.play
        with contextlib.suppress(OSError, ValueError):
            if play is not None:
                connection = Connection(sock, self._over)
                with sock.makefile("rb") as stream:
                    request = _read(stream)
                if request is not None:
                    self._answer(play, connection, request)
        self._open.discard(sock)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        sock.close()

    def _answer(self, play: Play, connection: Connection, request: Request) -> None:
        self.asked.append(request)
        followed = request.path == MOVED
        if self.looking or followed or self.upstream.books(request):
            self.requests.append(request)
            play(self, connection, request)
            return
        answer = self.upstream.beside(request)
        connection.send(answer.head + answer.payload)


def _read(stream: Any) -> Request | None:
    line = stream.readline(65_536).decode("latin-1")
    if not line.strip():
        return None
    method, target, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    for _ in range(MOST_HEADER_LINES):
        given = stream.readline(65_536).decode("latin-1").rstrip("\r\n")
        if not given:
            break
        name, _, value = given.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Request(method, target, headers, _read_chunks(stream))
    return Request(method, target, headers, stream.read(int(headers.get("content-length", "0"))))


def _read_chunks(stream: Any) -> bytes:
    body = b""
    while size := int(stream.readline(1024).split(b";")[0].strip() or b"0", 16):
        body += stream.read(size)
        stream.readline(16)
    stream.readline(16)
    return body
