"""Upstreams without an end, a sense or a stop: bounded time, bounded memory, one request, and the others go on."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from collections.abc import Callable

import pytest

from tests.connectors.upstream import Connection, Request, answer
from tests.hostile.wire import Wire

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SOUND = "sound"
TIMEOUT = 3.0
MOST_MEMORY = 32 * 1024 * 1024
Way = Callable[[Connection], None]


def endless(start: bytes, again: bytes) -> Way:
    """``start``, and then ``again`` until the client has gone."""

    def way(connection: Connection) -> None:
        connection.send(start)
        piece = again * max(1, 16_384 // len(again))
        while not connection.over.wait(0.002):  # the others have a processor to share
            connection.send(piece)

    return way


def once(data: bytes) -> Way:
    return lambda connection: connection.send(data)


WAYS: dict[str, Way] = {
    "a flood of 1xx": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a status line without an end": endless(b"HTTP/1.1 200 ", b"O"),
    "headers without an end": endless(OK, b"X-A: b\r\n"),
    "a header without an end": endless(OK + b"X-A: ", b"b"),
    "a body without an end": endless(OK + b"\r\n", b"x"),
    "a length that no body has": endless(OK + b"Content-Length: 99999999999999999999\r\n\r\n", b"x"),
    "chunks without an end": endless(CHUNKED, b"1\r\nx\r\n"),
    "a chunk extension without an end": endless(CHUNKED + b"1;", b"x"),
    "trailers without an end": endless(CHUNKED + b"0\r\n", b"X-A: b\r\n"),
    "white space without an end": endless(b"", b"\r\n"),
    "a drip": lambda connection: connection.drip(answer(200, {"id": "w-1", "status": "confirmed", "pad": "x" * 200})),
    "silence": lambda connection: connection.hold(),
    "a head, then silence": lambda connection: (connection.send(OK), connection.hold())[0],
    "a reset": lambda connection: connection.reset(),
    "a redirect to itself": once(answer(307, b"", Location="/wires")),
    "an upgrade": once(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n\x00\x00\x12\x04"),
    "a bomb in a refusal": once(answer(300, gzip.compress(b"\0" * 20_000_000), Content_Encoding="gzip")),
}


@pytest.fixture
def keys(wire: Wire) -> dict[str, str]:
    """An effect for each way, and before, between and behind them some whose upstream is sound."""
    wire.connector.timeout_s = TIMEOUT
    names = [f"{SOUND} {number}" if number % 6 == 0 else "" for number in range(len(WAYS))]
    ways = [name for sound, way in zip(names, WAYS, strict=True) for name in (sound, way) if name]
    made = {way: wire.effect(way=way) for way in ways}
    ways_of = {wire.stage.get(key).idempotency_key: way for way, key in made.items()}

    def script(connection: Connection, request: Request) -> None:
        asked = request.headers.get("idempotency-key") or request.target.partition("key=")[2].partition("&")[0]
        way = ways_of.get(asked, SOUND)
        if way.startswith(SOUND):
            connection.send(answer(200, {"id": way, "status": "confirmed"}))
        else:
            WAYS[way](connection)

    wire.upstream.script = script
    return made


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
def test_calls_end_in_time_and_in_bounds_and_the_others_are_confirmed(wire: Wire, keys: dict[str, str]) -> None:
    """All of them at once, in one pass; then the looks at what is UNKNOWN, in another."""
    for verb in ("dispatch", "observe"):
        wire.upstream.requests.clear()
        open_ones = [key for key in keys.values() if wire.stage.get(key).status in ("PENDING", "UNKNOWN")]
        tracemalloc.start()
        began = time.monotonic()
        outcomes = getattr(wire.tape, verb)(*open_ones)
        took, (_, peak) = time.monotonic() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert took < TIMEOUT + 7
        assert peak < MOST_MEMORY
        assert set(outcomes) == set(open_ones)
        asked = [request.headers.get("x-tape-effect-key", request.target) for request in wire.upstream.requests]
        assert len(asked) == len(set(asked)), "nothing is sent twice"
        for way, key in keys.items():
            wanted = "CONFIRMED" if way.startswith(SOUND) else "UNKNOWN"
            assert (way, wire.stage.get(key).status) == (way, wanted)
