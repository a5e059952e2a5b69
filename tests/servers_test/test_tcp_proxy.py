"""The proxy does to connections what it says, and to a COMMIT what networks do."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy

from tests.servers import PostgresServer, TcpProxy, until


class Echo(socketserver.BaseRequestHandler):
    """Answers every piece with itself in upper case."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.server.heard.append(data)
                self.request.sendall(data.upper())


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Echo)


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[TcpProxy]:
    with TcpProxy(*echo.server_address) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: TcpProxy) -> Iterator[Callable[[], socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection((proxy.host, proxy.port), timeout=5))


Connect = Callable[[], socket.socket]


def ask(connection: socket.socket, question: bytes) -> bytes:
    connection.sendall(question)
    return connection.recv(65536)


def test_pass_forwards_and_counts(proxy: TcpProxy, connect: Connect) -> None:
    first, second = connect(), connect()
    assert ask(first, b"one") == b"ONE"
    assert ask(second, b"two") == b"TWO"
    assert (proxy.accepted, proxy.connections) == (2, 2)
    first.close()
    until(lambda: proxy.connections == 1, what="the end of one connection")


def test_pass_forwards_a_lot_and_the_end_of_it(proxy: TcpProxy, connect: Connect) -> None:
    sent = b"x" * 3_000_000
    connection = connect()

    def send() -> None:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=send).start()
    received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received == sent.upper()


def test_refuse_is_a_server_that_is_gone(proxy: TcpProxy, connect: Connect) -> None:
    old = connect()
    assert ask(old, b"one") == b"ONE"
    proxy.mode = "refuse"
    with pytest.raises(ConnectionResetError):
        ask(old, b"two")
    with pytest.raises(ConnectionRefusedError):
        connect()
    proxy.mode = "pass"
    assert ask(connect(), b"three") == b"THREE"


def test_reset_resets_open_and_new_connections(proxy: TcpProxy, connect: Connect) -> None:
    old = connect()
    assert ask(old, b"one") == b"ONE"
    proxy.mode = "reset"
    with pytest.raises(ConnectionError):
        ask(old, b"two")
    with pytest.raises(ConnectionError):
        ask(connect(), b"three")  # the reset may even come while it connects


def test_blackhole_accepts_and_holds_what_was_sent(proxy: TcpProxy, connect: Connect, echo: EchoServer) -> None:
    old = connect()
    assert ask(old, b"one") == b"ONE"
    proxy.mode = "blackhole"
    new = connect()
    for connection, question in ((old, b"late"), (new, b"later")):
        connection.settimeout(0.15)
        with pytest.raises(TimeoutError):
            ask(connection, question)
    assert echo.heard == [b"one"]
    proxy.mode = "pass"
    for connection, answer in ((old, b"LATE"), (new, b"LATER")):
        connection.settimeout(5)
        assert connection.recv(100) == answer


def test_delay_is_late_both_ways(proxy: TcpProxy, connect: Connect) -> None:
    connection = connect()
    proxy.delay_seconds = 0.1
    proxy.mode = "delay"
    started = time.monotonic()
    assert ask(connection, b"slow") == b"SLOW"
    assert time.monotonic() - started >= 0.2


def test_dropped_connections_can_be_made_again(proxy: TcpProxy, connect: Connect) -> None:
    old = connect()
    assert ask(old, b"one") == b"ONE"
    proxy.drop_connections()
    with pytest.raises(ConnectionResetError):
        ask(old, b"two")
    assert ask(connect(), b"three") == b"THREE"


def test_cut_before_forwards_nothing_of_the_message(proxy: TcpProxy, connect: Connect, echo: EchoServer) -> None:
    cut = proxy.cut_before(b"secret")
    assert ask(connect(), b"a secret") == b""
    cut.wait()
    assert ask(connect(), b"a secret") == b"A SECRET"  # it cuts once
    assert echo.heard == [b"a secret"]
    assert cut.happened == 1


def test_cut_after_lets_the_upstream_act(proxy: TcpProxy, connect: Connect, echo: EchoServer) -> None:
    cut = proxy.cut_after(b"pay", skip=1, then="reset")
    connection = connect()
    assert ask(connection, b"pay 1") == b"PAY 1"
    with pytest.raises(ConnectionResetError):
        ask(connection, b"pay 2")
    cut.wait()
    assert echo.heard == [b"pay 1", b"pay 2"]


@pytest.mark.parametrize("after", [True, False])
def test_a_cut_can_leave_the_client_waiting(proxy: TcpProxy, connect: Connect, echo: EchoServer, after: bool) -> None:
    cut = (proxy.cut_after if after else proxy.cut_before)(lambda data: data == b"pay", then="hang")
    connection = connect()
    connection.settimeout(0.15)
    with pytest.raises(TimeoutError):
        ask(connection, b"pay")
    assert cut.happened == 1
    assert echo.heard == [b"pay"] * after
    connection.close()
    until(lambda: proxy.connections == 0, what="the end of the connection")


def test_a_match_may_come_in_two_pieces(proxy: TcpProxy, connect: Connect, echo: EchoServer) -> None:
    proxy.cut_before(b"COMMIT")
    connection = connect()
    assert ask(connection, b"and COM") == b"AND COM"
    assert ask(connection, b"MIT") == b""
    assert echo.heard == [b"and COM"]


def test_a_disarmed_cut_does_nothing(proxy: TcpProxy, connect: Connect) -> None:
    proxy.cut_before(b"pay").disarm()
    assert ask(connect(), b"pay") == b"PAY"


def test_closing_ends_the_thread_and_the_connections(echo: EchoServer) -> None:
    before = threading.active_count()
    proxy = TcpProxy(*echo.server_address)
    proxy.start()
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as connection:
        proxy.mode = "blackhole"
        proxy.close()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    proxy.close()
    until(lambda: threading.active_count() <= before, what="the end of the proxy's thread")


# What it is for: the commit whose fate the client cannot know.


@pytest.fixture
def table(postgres: PostgresServer, postgres_url: str) -> Iterator[tuple[TcpProxy, sqlalchemy.Engine, str]]:
    """An empty table `t`, and an engine that reaches it through a proxy."""
    with postgres.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE t (id int)")
    with TcpProxy(postgres.host, postgres.port) as proxy:
        engine = sqlalchemy.create_engine(proxy.url(postgres_url), poolclass=sqlalchemy.NullPool)
        yield proxy, engine, postgres_url


def insert(engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")


def rows(postgres: PostgresServer, url: str) -> int:
    with postgres.connect(url) as connection:
        return len(connection.execute("SELECT id FROM t").fetchall())


@pytest.mark.parametrize("then", ["close", "reset"])
def test_commit_was_executed_and_its_answer_lost(
    postgres: PostgresServer, table: tuple[TcpProxy, sqlalchemy.Engine, str], then: str
) -> None:
    proxy, engine, url = table
    cut = proxy.cut_after(b"COMMIT", then=then)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        insert(engine)
    assert cut.happened == 1
    assert rows(postgres, url) == 1
    insert(engine)  # the next commit gets its answer
    assert rows(postgres, url) == 2


@pytest.mark.parametrize("then", ["close", "reset"])
def test_commit_was_never_forwarded(
    postgres: PostgresServer, table: tuple[TcpProxy, sqlalchemy.Engine, str], then: str
) -> None:
    proxy, engine, url = table
    cut = proxy.cut_before(b"COMMIT", then=then)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        insert(engine)
    assert cut.happened == 1
    assert rows(postgres, url) == 0
    insert(engine)
    assert rows(postgres, url) == 1
