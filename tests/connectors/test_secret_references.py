"""23: the value of a header may say where a secret is; it is looked up for each call, and kept nowhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tape_celery.connectors import register
from tape_celery.connectors.http import HTTPConnector
from tape_celery.engine import Outcome
from tape_celery.errors import SettingsError
from tests.connectors.conftest import Connect, Serve
from tests.connectors.examples import an_effect, an_obligation
from tests.connectors.upstream import Connection, Request
from tests.state.stage import Stage

SECRET = "canary-31c4"


def echo(connection: Connection, request: Request) -> None:
    connection.answer(200, {"status": "confirmed", "id": "w-1", "said": dict(request.headers)})


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.fixture
def stage(ready_sqlite_url: str) -> Iterator[Stage]:
    made = Stage(ready_sqlite_url)
    yield made
    made.close()


def test_each_kind_of_reference_is_sent_as_what_it_leads_to(
    serve: Serve, connect: Connect, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every call; white space around it, as editors leave it at the end of a file, is not."""
    monkeypatch.setenv("BANK_TOKEN", f"{SECRET}-env")
    headers = {
        "Authorization": "Bearer env:BANK_TOKEN",
        "X-File": f"file:{secret_file}",
        "X-Function": lambda: f"Basic {SECRET}-function",
    }
    upstream = serve(echo)
    connector = connect(upstream, headers=headers)
    said = [connector.dispatch(an_effect()).response, connector.observe(an_effect()).response]
    said.append(connector.compensate(an_obligation()).response)
    for request in upstream.requests:
        assert request.headers["authorization"] == f"Bearer {SECRET}-env"
        assert request.headers["x-file"] == SECRET
        assert request.headers["x-function"] == f"Basic {SECRET}-function"
    assert len(upstream.requests) == 3
    for shown in (*said, connector):
        assert SECRET not in repr(shown)
    assert all(answer["said"]["x-file"] == "***" for answer in said), "what upstreams echo is cut out"


def test_a_secret_that_was_rotated_counts_from_the_next_call_on(
    serve: Serve, connect: Connect, secret_file: Path
) -> None:
    """Without a restart, and without the connector being made anew."""
    upstream = serve(echo)
    connector = connect(upstream, headers={"Authorization": f"Bearer file:{secret_file}"})
    connector.dispatch(an_effect())
    secret_file.write_text("canary-of-today")
    said = connector.dispatch(an_effect()).response
    sent = [request.headers["authorization"] for request in upstream.requests]
    assert sent == [f"Bearer {SECRET}", "Bearer canary-of-today"]
    assert "canary-of-today" not in repr(said)


def raises() -> str:
    raise RuntimeError(f"no {SECRET} here")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("env:NOT_SET_ANYWHERE", "the header x-key: the environment variable NOT_SET_ANYWHERE is not set"),
        ("env:EMPTY", "the header x-key: env:EMPTY is empty"),
        ("env:BROKEN", "the header x-key: env:BROKEN is no ASCII text without control characters"),
        (
            "Bearer file:/nowhere/at/all",
            "the header x-key: file /nowhere/at/all cannot be read: No such file or directory",
        ),
        ("file:/dev/zero", "the header x-key: file /dev/zero is larger than 65536 bytes"),
        (raises, "the header x-key: its function raised RuntimeError"),
        (lambda: None, "the header x-key: what its function returned is no text"),
        (lambda: b"bytes", "the header x-key: what its function returned is no text"),
    ],
)
def test_a_reference_that_leads_nowhere_sends_nothing(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, value: Any, why: str
) -> None:
    """It is proved that nothing was sent, so the call is tried again; the error shows no value."""
    monkeypatch.setenv("EMPTY", " ")
    monkeypatch.setenv("BROKEN", f"{SECRET}\r\nX-More: 1")
    upstream = serve(echo)
    connector = connect(upstream, headers={"X-Key": value})
    error = {"type": "SecretUnavailable", "message": why, "sent": False}
    result = connector.dispatch(an_effect())
    assert (result.status, result.error) == ("unknown", error)
    assert connector.observe(an_effect()).status == "stuck"
    undone = connector.compensate(an_obligation())
    assert (undone.status, undone.error) == ("failed", error)
    assert upstream.requests == []


def test_a_function_that_takes_too_long_sends_nothing(serve: Serve, connect: Connect) -> None:
    """What was claimed for the call may be over by then."""
    upstream = serve(echo)
    connector = connect(upstream, headers={"X-Key": lambda: str(time.sleep(0.06))}, timeout_s=0.05)
    assert connector.dispatch(an_effect()).error["sent"] is False
    assert upstream.requests == []


def test_such_an_effect_waits_and_uses_no_attempt(
    serve: Serve, connect: Connect, stage: Stage, secret_file: Path
) -> None:
    """Once the secret is there it is sent, whatever the number of tries before."""
    secret_file.unlink()
    upstream = serve(echo)
    register(connect(upstream, headers={"X-Key": f"file:{secret_file}"}))
    key = stage.tape.effect.delay("bank.wire", {"amount": 100}, business_key="b").id
    for _ in range(6):
        assert stage.tape.dispatch(key) == {key: Outcome.PENDING}
        stage.move_time(61)
    assert stage.get(key).attempt == 0
    assert f"the header x-key: file {secret_file} cannot be read" in str(stage.last(key).evidence)
    secret_file.write_text(SECRET)
    assert stage.tape.dispatch(key) == {key: Outcome.CONFIRMED}
    assert [request.headers["x-key"] for request in upstream.requests] == [SECRET]


@pytest.mark.parametrize(
    "value", ["env:", "env:A B", "env:1A", "env:A\r\nX: 1", "file:", "file:token", "Bearer file:a/b", "file:/a\0b"]
)
def test_what_can_never_be_a_reference_is_refused_at_once(value: str) -> None:
    """A whole path, since a worker starts where its supervisor says."""
    with pytest.raises(SettingsError, match=r"connector 'bank': the value of the header X-Key must name"):
        HTTPConnector("bank", "https://bank.example/", {"X-Key": value})


def test_a_coroutine_is_refused() -> None:
    """Nobody would await it."""

    async def token() -> str:
        return SECRET

    with pytest.raises(SettingsError, match="must be a plain function, not a coroutine"):
        HTTPConnector("bank", "https://bank.example/", {"X-Key": token})  # type: ignore[dict-item]
