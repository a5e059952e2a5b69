"""The upstream of the benchmarks: answers every POST at once, or after a while, on loopback, in a process of its own.

    python -m benchmarks.upstream          how many requests a second it can answer here

It parses no more of HTTP than it needs to, so that it is never what is measured. It keeps when each number came first,
and how many POSTs it had at once.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from tests.servers import Process
from tests.servers.ports import free_port
from tests.servers.processes import clean_environment

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BODY = b'{"id": "w-1"}'
_MADE = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class _Book:
    """What it was asked: how often, and when first, by the number in the body."""

    def __init__(self) -> None:
        self.requests = 0
        self.seen: dict[int, float] = {}
        self.now = 0
        """POSTs that are not answered yet."""
        self.most = 0
        """The most of them that there were."""

    def note(self, body: bytes, at: float) -> None:
        self.requests += 1
        self.seen.setdefault(json.loads(body)["number"], at)
        self.now += 1
        self.most = max(self.most, self.now)

    def told(self) -> dict[str, int]:
        return {"requests": self.requests, "distinct": len(self.seen), "now": self.now, "most": self.most}


class _Exchanges(asyncio.Protocol):
    """One connection, kept open."""

    def __init__(self, book: _Book, hold: float) -> None:
        self._book = book
        self._hold = hold
        self._got = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        at = time.monotonic()
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._got, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._got) < whole:
                return
            head, body, self._got = self._got[:end], self._got[end + 4 : whole], self._got[whole:]
            if not head.startswith(b"POST "):
                self._transport.write(self._told(head))
                continue
            self._book.note(body, at)
            if self._hold:
                asyncio.get_running_loop().call_later(self._hold, self._made)
            else:
                self._made()

    def _made(self) -> None:
        self._book.now -= 1
        self._transport.write(_MADE)

    def _told(self, head: bytes) -> bytes:
        told: Any = self._book.seen if head.startswith(b"GET /seen") else self._book.told()
        answer = json.dumps(told).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)


async def serve(port: int, hold: float) -> None:
    """Answer until the process ends."""
    book, loop = _Book(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Exchanges(book, hold), "127.0.0.1", port, backlog=1024)
    print("serving", flush=True)
    await server.serve_forever()


class Upstream:
    """It, running; it holds each POST for so many seconds."""

    def __init__(self, directory: Path, *, hold: float = 0.0) -> None:
        self._port = free_port()
        self._directory = directory
        self._hold = hold

    @property
    def url(self) -> str:
        """What is POSTed to."""
        return f"http://127.0.0.1:{self._port}/wires"

    def __enter__(self) -> Self:
        options = ("--serve", str(self._port), "--hold", str(self._hold))
        command = [sys.executable, "-m", "benchmarks.upstream", *options]
        self._process = Process(command, log=self._directory / "upstream.log", env=clean_environment())
        self._process.wait_for("serving")
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.close()

    def counts(self) -> dict[str, int]:
        """``requests``, the ``distinct`` numbers in them, how many there are ``now``, and the ``most`` at once."""
        return self._ask("count")

    def seen(self) -> dict[int, float]:
        """When each number came first, on this machine's monotonic clock."""
        return {int(number): at for number, at in self._ask("seen").items()}

    def _ask(self, what: str) -> Any:
        self._connection.request("GET", f"/{what}")  # kept open: a run asks often
        return json.load(self._connection.getresponse())


def ceiling(directory: Path, *, requests: int = 20_000, connections: int = 8) -> float:
    """How many requests a second it answers to a client that does next to nothing."""
    with Upstream(directory) as upstream:
        return asyncio.run(_hammer(upstream._port, requests // connections, connections))


async def _hammer(port: int, each: int, connections: int) -> float:
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    body = b'{"number": 1}'
    asked = b"POST /wires HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(each):
            writer.write(asked)
            await reader.readexactly(len(_MADE))
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one(*stream) for stream in streams))
    return each * connections / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve on this port")
    parser.add_argument("--hold", type=float, default=0.0, metavar="SECONDS", help="before each POST is answered")
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(serve(asked.serve, asked.hold))
        return
    with tempfile.TemporaryDirectory() as directory:
        print(f"{ceiling(Path(directory)):,.0f} requests/s")


if __name__ == "__main__":
    main()
