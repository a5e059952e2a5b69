"""24: with all logs at DEBUG, nothing of what was said on the wire is in them."""

from __future__ import annotations

import logging

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


def test_at_debug_no_header_of_an_exchange_of_ours_is_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a call, a look and an inverse, also where what came is no HTTP; that they happened is."""
    caplog.set_level(logging.DEBUG)
    upstream = serve(echo)
    connector = connect(upstream, headers={"Authorization": f"Bearer {SECRET}"})
    connector.dispatch(an_effect())
    connector.observe(an_effect())
    assert connector.compensate(an_obligation()).error["type"] == "RemoteProtocolError"
    assert SECRET not in caplog.text
    assert "idem-1" not in caplog.text
    assert [record.getMessage() for record in caplog.records if record.name == "tape_celery.connectors.http"] == [
        f"POST to {upstream.url}: 200",
        f"GET to {upstream.url}: 200",
        f"POST to {upstream.url}: RemoteProtocolError",
    ]
