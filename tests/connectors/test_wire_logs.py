"""24: with all logs at DEBUG, nothing of what was said on the wire is in them."""

from __future__ import annotations

import logging

import httpx
import pytest

from tests.connectors.conftest import Connect, Serve
from tests.connectors.examples import an_effect, an_obligation
from tests.connectors.upstream import Connection, Request

SECRET = "canary-31c4"


def echo(connection: Connection, request: Request) -> None:
    shown = request.headers["authorization"]
    if request.target.startswith("/reverse"):
        connection.send(f"HTTP/1.1 200 OK\r\nX-Shown\x01: {shown}\r\n\r\n".encode())
    connection.answer(200, {"status": "confirmed", "token": shown}, X_Shown=shown, Set_Cookie=f"token={shown}")


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore.http11", "httpcore.connection"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


def test_at_debug_no_header_of_an_exchange_of_ours_is_logged(
    serve: Serve, connect: Connect, logs: pytest.LogCaptureFixture
) -> None:
    """Of a call, a look and an inverse, also where what came is no HTTP; that they happened is."""
    connector = connect(serve(echo), headers={"Authorization": f"Bearer {SECRET}"})
    connector.dispatch(an_effect())
    connector.observe(an_effect())
    assert connector.compensate(an_obligation()).error["type"] == "RemoteProtocolError"
    assert SECRET not in logs.text
    assert "idem-1" not in logs.text
    events = [record.getMessage() for record in logs.records if record.name.startswith("httpcore")]
    assert events.count("receive_response_headers.complete") == 2
    assert events.count("receive_response_headers.failed") == 1


def test_what_an_app_calls_itself_is_logged_as_ever(
    serve: Serve, connect: Connect, logs: pytest.LogCaptureFixture
) -> None:
    """By httpx in the same process, before and after a call of ours, on the same thread."""
    upstream = serve(echo)
    for _ in range(2):
        httpx.get(upstream.url, headers={"Authorization": "own-canary"})
        connect(upstream, headers={"Authorization": f"Bearer {SECRET}"}).dispatch(an_effect())
    assert logs.text.count("b'own-canary'") == 2
    assert SECRET not in logs.text
