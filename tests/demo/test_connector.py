"""The demo's connector at the demo's bank: what each misbehaviour looks like from our side."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tape_celery import connectors
from tape_celery.connectors.http import HTTPConnector
from tape_celery.demo import bank as bank_module
from tape_celery.demo import wires as wires_module
from tape_celery.demo.bank import Bank, BankServer
from tape_celery.demo.ledger import Ledger
from tape_celery.demo.orders import read_wires
from tape_celery.demo.plan import Misbehaviour, Reversal, Script
from tape_celery.intent import canonical_json
from tape_celery.records import Effect, Obligation

WIRE = read_wires(limit=1)[0]
EFFECT = Effect(
    effect_key="effect-1",
    connector=wires_module.CONNECTOR,
    idempotency_key="effect-1",
    business_key=WIRE.business_key,
    run_id="run",
    request_json=canonical_json(WIRE.request),
    request_digest="",
)

Connect = Callable[[Misbehaviour], HTTPConnector]


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """The connector that the workers get, at a bank that misbehaves as asked."""
    monkeypatch.setattr(bank_module, "BOOKING_SECONDS", 0.0)
    started: list[tuple[BankServer, threading.Thread, HTTPConnector]] = []

    def connecting(misbehaviour: Misbehaviour) -> HTTPConnector:
        ledger = Ledger(tmp_path / "ledger.jsonl")
        server = BankServer(Bank(ledger, {WIRE.business_key: misbehaviour}))
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        monkeypatch.setenv(wires_module.BANK_URL_VARIABLE, server.url)
        importlib.reload(wires_module)
        connector: HTTPConnector = connectors.get(wires_module.CONNECTOR)
        started.append((server, serving, connector))
        return connector

    yield connecting
    connectors.clear()
    for server, serving, connector in started:
        connector.close()
        server.shutdown()
        serving.join()
        server.server_close()
        server.bank.ledger.close()


@pytest.mark.parametrize(
    ("script", "dispatched", "observed"),
    [
        (Script.GOOD, "confirmed", "confirmed"),
        (Script.LOSES_ANSWER, "unknown", "confirmed"),
        (Script.ERROR_AFTER, "unknown", "confirmed"),
        (Script.ERROR_BEFORE, "unknown", "absent"),
        (Script.SLOW, "unknown", "confirmed"),
        (Script.BOOKS_LATE, "unknown", "absent"),
        (Script.TWICE, "unknown", "duplicate"),
        (Script.REFUSES, "failed", "absent"),
        (Script.BUSY, "failed", "absent"),
        (Script.UNAVAILABLE, "unknown", "absent"),
    ],
)
def test_each_script(connect: Connect, script: Script, dispatched: str, observed: str) -> None:
    connector = connect(Misbehaviour(script=script))
    result = connector.dispatch(EFFECT)
    assert result.status == dispatched
    assert bool(result.retry_at_ms) == (script is Script.BUSY)
    assert connector.observe(EFFECT).status == observed


def test_a_lookup_that_fails_is_no_evidence(connect: Connect) -> None:
    connector = connect(Misbehaviour(lookup_fails_once=True))
    assert [connector.observe(EFFECT).status for _ in range(2)] == ["stuck", "absent"]


@pytest.mark.parametrize(
    ("reversal", "first"),
    [
        (Reversal.GOOD, {"status": "compensated"}),
        (Reversal.BUSY, {"status": "failed"}),
        (Reversal.UNAVAILABLE, {"status": "failed", "ambiguous": True}),
        (Reversal.LOSES_ANSWER, {"status": "failed", "ambiguous": True}),
    ],
)
def test_each_reversal_ends_done_once(connect: Connect, reversal: Reversal, first: dict[str, object]) -> None:
    connector = connect(Misbehaviour(script=Script.TWICE, reversal=reversal))
    connector.dispatch(EFFECT)
    seen = connector.observe(EFFECT)
    (extra,) = seen.response["duplicates"]
    owed = Obligation(
        obligation_key="obligation-1",
        effect_key=EFFECT.effect_key,
        run_id="run",
        connector=EFFECT.connector,
        kind="duplicate",
        external_ref=extra,
        payload_json="{}",
        idempotency_key="compensate:obligation-1",
    )
    result = connector.compensate(owed)
    assert result.status == first["status"]
    assert result.error.get("ambiguous", False) == first.get("ambiguous", False)
    assert result.error.get("final") is not True
    assert connector.compensate(owed).status == "compensated"
    assert connector.observe(EFFECT).status == "confirmed"
