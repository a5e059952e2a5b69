"""What is proved never to have been sent: `error["sent"]` is False before the first byte, and only then."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from tape_celery.connectors import http
from tape_celery.connectors.base import DispatchResult
from tape_celery.connectors.endpoint import tls_context
from tape_celery.connectors.http import HTTPConnector
from tape_celery.records import Semantics
from tests.connectors.conftest import Connect, Serve
from tests.connectors.examples import an_effect, an_obligation
from tests.connectors.upstream import Connection, Request

BOTH = pytest.mark.parametrize("semantics", [Semantics.IDEMPOTENT, Semantics.NON_IDEMPOTENT])


def assert_unsent(result: DispatchResult, error_type: str) -> None:
    assert (result.status, result.retry_at_ms) == ("unknown", 0)
    assert result.error["sent"] is False
    assert result.error["type"] == error_type


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else gets it, and not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@BOTH
def test_refused(connect: Connect, closed_port: int, semantics: Semantics) -> None:
    connector = connect(f"http://127.0.0.1:{closed_port}")
    assert_unsent(connector.dispatch(an_effect(semantics=semantics)), "ConnectError")


@BOTH
def test_a_name_that_does_not_exist(semantics: Semantics) -> None:
    connector = HTTPConnector("bank.wire", "https://no-such-bank.invalid/wires")
    assert_unsent(connector.dispatch(an_effect(semantics=semantics)), "ConnectError")


def test_a_name_that_cannot_exist() -> None:
    connector = HTTPConnector("bank.wire", f"https://{'x' * 64}.example/wires")
    assert_unsent(connector.dispatch(an_effect()), "ConnectError")


def test_a_resolver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`getaddrinfo` has no timeout of its own; the call has one all the same."""
    over = threading.Event()

    def never(*_: object, **__: object) -> None:
        over.wait(30)

    monkeypatch.setattr(socket, "getaddrinfo", never)
    connector = HTTPConnector("bank.wire", "https://bank.example/wires", timeout_s=0.2)
    assert_unsent(connector.dispatch(an_effect()), "ConnectTimeout")
    over.set()


def test_a_listener_that_takes_no_connection() -> None:
    """With its backlog full, the kernel answers no SYN."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        connector = HTTPConnector("bank.wire", f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=0.3)
        assert_unsent(connector.dispatch(an_effect()), "ConnectTimeout")


def test_no_free_place_among_the_connections(serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = threading.Event()

    def script(connection: Connection, _: Request) -> None:
        may_answer.wait(30)
        connection.answer(200)

    upstream = serve(script)
    connector = connect(upstream, max_connections=1)
    first: list[DispatchResult] = []
    under_way = threading.Thread(target=lambda: first.append(connector.dispatch(an_effect())))
    under_way.start()
    assert upstream.received.acquire(timeout=5)
    monkeypatch.setattr(http, "CONNECT_SECONDS", 0.2)
    assert_unsent(connector.dispatch(an_effect(effect_key="effect-2")), "PoolTimeout")
    may_answer.set()
    under_way.join(5)
    assert first[0].status == "confirmed"
    assert len(upstream.requests) == 1


def server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_bundle(authority: trustme.CA) -> Iterator[str]:
    with authority.cert_pem.tempfile() as path:
        yield path


def test_a_trusted_certificate_is_accepted(
    serve: Serve, connect: Connect, authority: trustme.CA, ca_bundle: str
) -> None:
    upstream = serve(tls=server_context(authority))
    assert connect(upstream, ca_bundle=ca_bundle).dispatch(an_effect()).status == "confirmed"


@BOTH
def test_a_certificate_of_an_unknown_authority(
    serve: Serve, connect: Connect, authority: trustme.CA, semantics: Semantics
) -> None:
    upstream = serve(tls=server_context(authority))
    result = connect(upstream).dispatch(an_effect(semantics=semantics))
    assert_unsent(result, "ConnectError")
    assert "certificate" in result.error["message"].lower()
    assert upstream.requests == []


def test_a_certificate_of_somebody_else(serve: Serve, connect: Connect, authority: trustme.CA, ca_bundle: str) -> None:
    upstream = serve(tls=server_context(authority, "other-bank.example"))
    assert_unsent(connect(upstream, ca_bundle=ca_bundle).dispatch(an_effect()), "ConnectError")
    assert upstream.requests == []


def test_tls_older_than_1_2(serve: Serve, connect: Connect, authority: trustme.CA, ca_bundle: str) -> None:
    """Whatever the OpenSSL of this machine would take by itself."""
    assert tls_context("", "").minimum_version is ssl.TLSVersion.TLSv1_2
    context = server_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    upstream = serve(tls=context)
    assert_unsent(connect(upstream, ca_bundle=ca_bundle).dispatch(an_effect()), "ConnectError")


def test_an_upstream_that_speaks_no_tls(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        connector = connect(f"https://127.0.0.1:{listener.getsockname()[1]}")
        result = pool.submit(connector.dispatch, an_effect())
        sock, _ = listener.accept()
        with sock:
            sock.sendall(b"220 mail.example ESMTP\r\n")
            assert_unsent(result.result(10), "ConnectError")


def test_an_upstream_that_never_shakes_hands(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connector = connect(f"https://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2)
        assert_unsent(connector.dispatch(an_effect()), "ConnectTimeout")


def test_a_compensation_that_was_not_sent_says_so(connect: Connect, closed_port: int) -> None:
    result = connect(f"http://127.0.0.1:{closed_port}").compensate(an_obligation())
    assert (result.status, result.error["sent"]) == ("failed", False)
    assert "ambiguous" not in result.error
    assert "final" not in result.error


def test_a_second_address_is_tried_when_the_first_does_not_answer(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with an address that refuses and one that answers is reached."""
    upstream = serve()
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", upstream.port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", upstream.port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    connector = connect(f"http://localhost:{upstream.port}")
    assert connector.dispatch(an_effect()).status == "confirmed"
