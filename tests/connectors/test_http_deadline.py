"""`timeout_s` is a deadline for the whole exchange, however slowly anything drips."""

import contextlib
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from tape_celery.connectors import http11
from tests.connectors.conftest import Connect, Serve
from tests.connectors.examples import an_effect, an_obligation
from tests.connectors.upstream import Connection, Request, Script, answer

TIMEOUT = 0.4
GRACE = 1.5
"""For a busy machine; without a total deadline each of these exchanges would last for 3 s at least."""


@contextlib.contextmanager
def ends_in_time() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < TIMEOUT + GRACE


def dripping(data: bytes, after: bytes = b"") -> Script:
    def script(connection: Connection, _: Request) -> None:
        connection.send(after)
        connection.drip(data)

    return script


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 200), id="a header"),
        pytest.param(dripping(b"HTTP/1.1 " + b"2" * 200), id="the status line"),
        pytest.param(dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 10), id="preliminary answers"),
        pytest.param(dripping(b"x" * 200, after=answer(200, b"x" * 200)[:-200]), id="a body"),
        pytest.param(
            dripping(b"1\r\nx\r\n" * 50, after=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), id="chunks"
        ),
        pytest.param(
            dripping(b"1;" + b"x" * 200, after=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            id="the extension of a chunk",
        ),
        pytest.param(dripping(b"x" * 200, after=b"HTTP/1.1 200 OK\r\n\r\n"), id="a body without an end"),
    ],
)
def test_an_answer_that_drips_is_unknown_in_time(serve: Serve, connect: Connect, script: Script) -> None:
    connector = connect(serve(script), timeout_s=TIMEOUT)
    with ThreadPoolExecutor(3) as pool, ends_in_time():
        dispatched = pool.submit(connector.dispatch, an_effect())
        observed = pool.submit(connector.observe, an_effect())
        compensated = pool.submit(connector.compensate, an_obligation())
        assert dispatched.result().status == "unknown"
        assert "sent" not in dispatched.result().error
        assert observed.result().status == "stuck"
        assert compensated.result().error["ambiguous"] is True


def test_a_refusal_whose_body_drips_is_failed_in_time(serve: Serve, connect: Connect) -> None:
    connector = connect(serve(dripping(b"x" * 200, after=answer(400, b"x" * 200)[:-200])), timeout_s=TIMEOUT)
    with ends_in_time():
        assert connector.dispatch(an_effect()).status == "failed"


@pytest.mark.parametrize("piece", [0, 1000])
def test_an_upstream_that_takes_the_request_too_slowly(connect: Connect, piece: int) -> None:
    """Not reading at all, or a little now and then: each single write would be in time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connector = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=TIMEOUT)
        over = threading.Event()

        def read_slowly() -> None:
            sock, _ = listener.accept()
            with sock:
                while not over.wait(0.02):
                    if piece:
                        sock.recv(piece)

        reader = threading.Thread(target=read_slowly)
        reader.start()
        with ends_in_time():
            result = connector.dispatch(an_effect(request_json='"' + "x" * 30_000_000 + '"'))
        over.set()
        reader.join(5)
    assert (result.status, result.error["type"]) == ("unknown", "WriteTimeout")
    assert "sent" not in result.error


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def test_a_handshake_that_drips_is_unsent_in_time(connect: Connect, authority: trustme.CA) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = server.wrap_bio(incoming, outgoing, server_side=True)
    over = threading.Event()

    def shake_hands_slowly(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            while not over.is_set():
                incoming.write(sock.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    handshake.do_handshake()
                for byte in outgoing.read():
                    if over.wait(0.03):
                        return
                    sock.sendall(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as listener, authority.cert_pem.tempfile() as ca_bundle:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        connector = connect(url, timeout_s=TIMEOUT, ca_bundle=ca_bundle)
        thread = threading.Thread(target=shake_hands_slowly, args=(listener,))
        thread.start()
        with ends_in_time():
            result = connector.dispatch(an_effect())
        over.set()
        thread.join(5)
    assert (result.status, result.error["type"], result.error["sent"]) == ("unknown", "ConnectTimeout", False)


def test_an_answer_that_drips_inside_tls_is_unknown_in_time(
    serve: Serve, connect: Connect, authority: trustme.CA
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    upstream = serve(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 200), tls=context)
    with authority.cert_pem.tempfile() as ca_bundle:
        connector = connect(upstream, timeout_s=TIMEOUT, ca_bundle=ca_bundle)
    with ends_in_time():
        assert connector.dispatch(an_effect()).status == "unknown"


def test_a_body_without_end_is_read_no_further_than_the_cap(serve: Serve, connect: Connect) -> None:
    """A gigabyte is offered at full speed; about a socket buffer more than the cap is taken."""
    taken = [0]
    gone = threading.Event()

    def flood(connection: Connection, _: Request) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while taken[0] < 1_000_000_000:
                connection.send(b"x" * 65536)
                taken[0] += 65536
        except OSError:
            gone.set()

    result = connect(serve(flood), timeout_s=20).dispatch(an_effect())
    assert (result.status, result.error["status_code"]) == ("unknown", 200)
    assert "max_response_bytes" in result.error["message"]
    assert gone.wait(10)
    assert taken[0] < 50_000_000


def test_a_head_without_end_is_read_no_further_than_its_cap(serve: Serve, connect: Connect) -> None:
    """One header that does not end, at full speed."""
    assert http11._MOST_BYTES_WITHOUT_BODY == 100 * 1024
    taken = [0]
    gone = threading.Event()

    def flood(connection: Connection, _: Request) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
        try:
            while taken[0] < 1_000_000_000:
                connection.send(b"x" * 65536)
                taken[0] += 65536
        except OSError:
            gone.set()

    result = connect(serve(flood), timeout_s=20).dispatch(an_effect())
    assert (result.status, result.error["type"]) == ("unknown", "RemoteProtocolError")
    assert gone.wait(10)
    assert taken[0] < 50_000_000


def test_a_compressed_body_is_not_unpacked(serve: Serve, connect: Connect) -> None:
    """We ask for none; one that comes all the same is kept as the few bytes that it is."""
    bomb = zlib.compress(b"0" * 50_000_000)
    upstream = serve(lambda connection, _: connection.answer(200, bomb[:60_000], Content_Encoding="deflate"))
    result = connect(upstream).dispatch(an_effect())
    assert upstream.requests[0].headers["accept-encoding"] == "identity"
    assert (result.status, result.external_ref) == ("confirmed", "")
    assert len(str(result.response)) < 2000
