"""A TCP proxy on loopback that can do to a connection what networks do to connections."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from tests.servers.ports import free_port

Mode = Literal["pass", "refuse", "blackhole", "reset", "delay"]
Then = Literal["close", "reset", "hang"]
T = TypeVar("T")


class Cut:
    """A cut that waits for its moment; see `TcpProxy.cut_before` and `cut_after`."""

    def __init__(
        self, match: bytes | Callable[[bytes], bool], *, after: bool, then: Then, times: int, skip: int
    ) -> None:
        self.after = after
        self.then = then
        self.happened = 0  # how many connections were cut
        self._match = match
        self._times = times
        self._skip = skip
        self._first = threading.Event()

    def wait(self, timeout: float = 10.0) -> None:
        """Wait until the first connection was cut."""
        assert self._first.wait(timeout), f"waited {timeout:g} s in vain for a cut at {self._match!r}"

    def disarm(self) -> None:
        """Cut nothing more."""
        self._times = 0

    @property
    def overlap(self) -> int:
        """How many bytes of the last piece are needed to find a match that lies across two pieces."""
        return len(self._match) - 1 if isinstance(self._match, bytes) else 0

    def takes(self, data: bytes) -> bool:
        """Whether this is the message to cut at; uses up one of its times."""
        found = self._match in data if isinstance(self._match, bytes) else self._match(data)
        if not found or self._times <= 0:
            return False
        if self._skip > 0:
            self._skip -= 1
            return False
        self._times -= 1
        return True

    def record(self) -> None:
        self.happened += 1
        self._first.set()


class _Link:
    """One connection of a client, and its way on to the upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client_reader, self.client_writer = reader, writer
        self.upstream_writer: asyncio.StreamWriter | None = None
        self.seen = b""  # the end of what the client sent last
        self.cut: Cut | None = None  # set once the message was forwarded whose answer is not to arrive

    def cut_off(self, *, reset: bool) -> None:
        """Close both sides at once, whatever is on its way; the client is told by RST or by FIN."""
        if reset:
            connection = self.client_writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client_writer.transport.abort()
        if self.upstream_writer is not None:
            self.upstream_writer.transport.abort()

    def finish(self) -> None:
        """Close both sides once everything written has gone out."""
        self.client_writer.close()
        if self.upstream_writer is not None:
            self.upstream_writer.close()


class TcpProxy:
    """Forwards `host:port` to an upstream, in one of these modes, which may change at any time:

    pass        forward
    refuse      as if the server were gone: nothing listens, open connections are reset
    blackhole   accept, and hold every byte in both directions; it is delivered when the mode is left
    reset       reset open connections, and new ones as soon as they are accepted
    delay       forward each piece `delay_seconds` late

    It runs in one thread of its own, and every method may be called from any thread.
    """

    def __init__(self, upstream_host: str, upstream_port: int, *, delay_seconds: float = 0.2) -> None:
        self.upstream = (upstream_host, upstream_port)
        self.host = "127.0.0.1"
        self.port = free_port()
        self.delay_seconds = delay_seconds
        self.accepted = 0  # connections so far
        self._mode: Mode = "pass"
        self._cuts: list[Cut] = []
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()  # set while bytes may flow
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start to listen."""
        self._thread.start()
        self._call(self._enter("pass"))

    def close(self) -> None:
        """Drop every connection, stop to listen, end the thread. May be called again."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            self._call(self._shut_down())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            assert not self._thread.is_alive(), "the proxy's thread did not end"
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    @property
    def mode(self) -> Mode:
        """What happens to connections now; assign to change it."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        assert mode in get_args(Mode), f"no such mode: {mode!r}"
        self._call(self._enter(mode))

    def url(self, url: str) -> str:
        """`url` of the upstream, led through this proxy."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{credentials}{at}{self.host}:{self.port}").geturl()

    def drop_connections(self) -> None:
        """Reset the connections that are open now; new ones are served."""
        self._call(self._drop())

    def cut_before(
        self, match: bytes | Callable[[bytes], bool], *, then: Then = "close", times: int = 1, skip: int = 0
    ) -> Cut:
        """Cut at a message of the client that holds `match` (or for which it is true), without forwarding it.

        The upstream never sees that message. The first `skip` such messages pass, the next `times` are cut.
        `then` is what the client sees: the connection closed, reset, or open without an answer for ever.
        """
        return self._arm(Cut(match, after=False, then=then, times=times, skip=skip))

    def cut_after(
        self, match: bytes | Callable[[bytes], bool], *, then: Then = "close", times: int = 1, skip: int = 0
    ) -> Cut:
        """Cut once the upstream has answered such a message, before the answer gets to the client.

        The upstream did what was asked, and the client cannot know: `cut_after(b"COMMIT")` is a commit
        whose answer is lost. Otherwise like `cut_before`.
        """
        return self._arm(Cut(match, after=True, then=then, times=times, skip=skip))

    # Below here: in the thread of the loop.

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _arm(self, cut: Cut) -> Cut:
        self._cuts.append(cut)
        return cut

    async def _enter(self, mode: Mode) -> None:
        self._mode = mode
        if mode in ("refuse", "reset"):
            await self._drop()
        if mode == "refuse":
            self._stop_listening()
        elif self._listener is None:
            self._listener = await asyncio.start_server(self._serve, self.host, self.port)
        if mode == "blackhole":
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _drop(self) -> None:
        for link in list(self._links):
            link.cut_off(reset=True)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _shut_down(self) -> None:
        self._stop_listening()
        await self._drop()
        # Also those of connections that were taken a moment ago, and have not begun yet.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its last."""
        task = asyncio.current_task()
        assert task is not None
        link = _Link(reader, writer)
        self._tasks.add(task)
        self._links.add(link)
        self.accepted += 1
        pumps: list[asyncio.Task[None]] = []
        broken = True
        try:
            if self._mode in ("reset", "refuse"):
                return
            await self._flowing.wait()
            upstream_reader, link.upstream_writer = await asyncio.open_connection(*self.upstream)
            pumps = [
                asyncio.create_task(self._forward_requests(link, link.upstream_writer)),
                asyncio.create_task(self._forward_answers(link, upstream_reader)),
            ]
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            broken = any(pump.exception() is not None for pump in done)
        except OSError:
            pass  # the upstream is not there: the client is reset
        except asyncio.CancelledError:
            pass  # the proxy is being closed
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            if broken:
                link.cut_off(reset=True)
            else:
                link.finish()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _forward_requests(self, link: _Link, upstream: asyncio.StreamWriter) -> None:
        """From the client to the upstream, looking for messages to cut at."""
        while data := await link.client_reader.read(65536):
            await self._pace()
            cut = self._cut_for(link, data)
            if cut is not None and not cut.after:
                self._cut(link, cut)
                while await link.client_reader.read(65536):
                    pass  # whatever else it sends is lost as well
                break
            link.cut = link.cut or cut  # a pipeline sends on before the answer
            upstream.write(data)
            await upstream.drain()
        upstream.write_eof()

    async def _forward_answers(self, link: _Link, upstream: asyncio.StreamReader) -> None:
        """From the upstream to the client, unless this is the answer that is not to arrive."""
        while data := await upstream.read(65536):
            if link.cut is not None:
                self._cut(link, link.cut)
                return
            await self._pace()
            link.client_writer.write(data)
            await link.client_writer.drain()
        link.client_writer.write_eof()

    async def _pace(self) -> None:
        await self._flowing.wait()
        if self._mode == "delay":
            await asyncio.sleep(self.delay_seconds)

    def _cut_for(self, link: _Link, data: bytes) -> Cut | None:
        for cut in self._cuts:
            if cut.takes((link.seen[-cut.overlap :] if cut.overlap else b"") + data):
                link.seen = b""
                return cut
        link.seen = (link.seen + data)[-1024:]
        return None

    def _cut(self, link: _Link, cut: Cut) -> None:
        if cut.then != "hang":
            link.cut_off(reset=cut.then == "reset")
        cut.record()
