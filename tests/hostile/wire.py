"""An upstream over real sockets, and the store that learns of it through `HTTPConnector`."""

from __future__ import annotations

import time
import uuid
from typing import Any

from tape_celery import connectors
from tape_celery.connectors.http import HTTPConnector
from tape_celery.records import Effect, Obligation
from tests.connectors.upstream import Connection, Request, Upstream
from tests.connectors.upstream import answer as plain_answer
from tests.hostile import answers
from tests.state.stage import Stage


class Wire:
    """An upstream that writes what it is told, and the store that learns of it through `HTTPConnector`."""

    timeout = 10.0

    def __init__(self, stage: Stage, upstream: Upstream) -> None:
        self.tape = stage.tape
        self.stage = stage
        self.upstream = upstream
        url = upstream.url
        self.connector = HTTPConnector(
            "wire",
            f"{url}/wires",
            timeout_s=self.timeout,
            observe_endpoint=f"{url}/lookup",
            compensate_endpoint=f"{url}/reverse",
            max_response_bytes=answers.LARGEST_BODY,
        )
        connectors.register(self.connector)
        self.written = b""
        upstream.script = self._write

    def _write(self, connection: Connection, _: Request) -> None:
        connection.send(self.written)

    def effect(self, semantics: str = "non_idempotent", **request: Any) -> str:
        """A new effect, PENDING."""
        handle = self.tape.effect.delay("wire", request, semantics=semantics, business_key=uuid.uuid4().hex)
        return str(handle.id)

    def told(self, verb: str, key: str, data: bytes) -> None:
        """One call, answered with ``data`` and the end of the connection: in time, asked once, and nothing raised."""
        self.written = data
        self.upstream.requests.clear()
        self.connector.close()  # the upstream ends each connection, and would do it while the next call begins on it
        began = time.monotonic()
        outcome = getattr(self.tape, verb)(key)
        assert time.monotonic() - began < self.timeout, "the end of a connection is not waited for"
        assert list(outcome) == [key]
        assert len(self.upstream.requests) == 1, "one call is one request, whatever the answer"

    def dispatched(self, data: bytes, semantics: str = "non_idempotent") -> Effect:
        key = self.effect(semantics)
        self.told("dispatch", key, data)
        return self.stage.get(key)

    def observed(self, data: bytes) -> Effect:
        key = self.effect()
        self.told("dispatch", key, b"")
        self.told("observe", key, data)
        return self.stage.get(key)

    def compensated(self, data: bytes) -> Obligation:
        key = self.effect()
        self.told("dispatch", key, plain_answer(200, {"id": "w-1"}))
        owed = self.tape.owe(key, reason="returned", actor="a person").obligation_key
        self.told("compensate", owed, data)
        (obligation,) = self.tape.obligations(effect_key=key)
        return obligation
