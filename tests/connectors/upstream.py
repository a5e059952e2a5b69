"""A small HTTP server over real sockets that does to each request exactly what a test says, byte by byte."""

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

Body = bytes | str | Mapping[str, Any]
"""The bytes or the text of a body, or an object to send as JSON."""


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    """Lower-case names."""
    names: tuple[str, ...]
    """The names as they came, in order."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[["Connection", Request], None]


class Connection:
    """What a script may do with the connection that a request came on. It is closed unless the script keeps it."""

    def __init__(self, sock: socket.socket, over: threading.Event) -> None:
        self.sock = sock
        self.over = over
        """Set when the test is over."""
        self.kept = False

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, code: int, body: Body = b"", **headers: str) -> None:
        """A whole answer; the connection stays open."""
        self.send(answer(code, body, **headers))
        self.kept = True

    def drip(self, data: bytes, every: float = 0.03) -> None:
        """Send ``data`` one byte at a time, until the client has gone."""
        for position in range(len(data)):
            if self.over.wait(every):
                return
            self.send(data[position : position + 1])

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def hold(self) -> None:
        """Stay silent until the test is over."""
        self.over.wait(30)


def answer(code: int, body: Body = b"", **headers: str) -> bytes:
    """The bytes of a whole answer; ``Retry_After="5"`` is the header Retry-After."""
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    data = text if isinstance(text, bytes) else text.encode()
    lines = [f"HTTP/1.1 {code} Whatever", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if code not in (204, 304):
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


class Upstream:
    """Listens on loopback; each connection has a thread, which reads requests and hands them to ``script``."""

    def __init__(self, script: Script | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.script: Script = script or (lambda connection, _: connection.answer(200, {}))
        self.requests: list[Request] = []
        self.accepted = 0
        self.received = threading.Semaphore(0)
        """Released once for each request read."""
        self._tls = tls
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a script of the upstream did not end"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # the test is over
            self.accepted += 1
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        self._open.add(sock)
        with contextlib.suppress(OSError, ssl.SSLError):  # the client has gone, or the test is over
            if self._tls is not None:
                plain, sock = sock, self._tls.wrap_socket(sock, server_side=True)
                self._open.remove(plain)
                self._open.add(sock)
            connection = Connection(sock, self._over)
            with sock.makefile("rb") as stream:
                while (request := _read(stream)) is not None:
                    self.requests.append(request)
                    self.received.release()
                    connection.kept = False
                    self.script(connection, request)
                    if not connection.kept:
                        break
        self._open.discard(sock)
        sock.close()


def _read(stream: Any) -> Request | None:
    line = stream.readline().decode("latin-1")
    if not line:
        return None
    method, target, _ = line.split(" ", 2)
    pairs = []
    while (field := stream.readline().decode("latin-1").rstrip("\r\n")) != "":
        name, _, value = field.partition(":")
        pairs.append((name, value.strip()))
    headers = {name.lower(): value for name, value in pairs}
    body = stream.read(int(headers.get("content-length", "0")))
    return Request(method, target, headers, tuple(name for name, _ in pairs), body)
