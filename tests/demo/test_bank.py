"""The bank simulator, over real HTTP: it books whatever it is asked to, and misbehaves as planned."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tape_celery.demo import bank as bank_module
from tape_celery.demo.bank import Bank, BankServer
from tape_celery.demo.ledger import BOOKED, REVERSED, Entry, Ledger, read_ledger
from tape_celery.demo.orders import read_wires
from tape_celery.demo.plan import Misbehaviour, Reversal, Script
from tests.servers.waiting import until

WIRE = read_wires(limit=1)[0]
KEY = WIRE.business_key

Start = Callable[..., "Customer"]


class Customer:
    """Talks to one bank as the connector does."""

    def __init__(self, server: BankServer, ledger_file: Path) -> None:
        self.client = httpx.Client(base_url=server.url, trust_env=False, timeout=5)
        self.bank = server.bank
        self._ledger_file = ledger_file

    def wire(self, key: str = "idem-1", timeout: float = 5, **changes: str) -> httpx.Response:
        headers = {"Idempotency-Key": key, "X-Tape-Business-Key": KEY}
        return self.client.post("/wires", json={**WIRE.request, **changes}, headers=headers, timeout=timeout)

    def look_up(self, key: str = "idem-1") -> httpx.Response:
        return self.client.get("/wires/lookup", params={"key": key, "business_key": KEY})

    def reverse(self, ref: str, key: str = "compensate:1") -> httpx.Response:
        return self.client.post("/wires/reverse", json={"external_ref": ref}, headers={"Idempotency-Key": key})

    def ledger(self) -> list[Entry]:
        return read_ledger(self._ledger_file)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(bank_module, "BOOKING_SECONDS", 0.0)
    servers: list[tuple[BankServer, threading.Thread]] = []

    def starting(**misbehaviour: object) -> Customer:
        plan = {KEY: Misbehaviour(**misbehaviour)}  # type: ignore[arg-type]
        ledger_file = tmp_path / "ledger.jsonl"
        server = BankServer(Bank(Ledger(ledger_file), plan))
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        servers.append((server, serving))
        return Customer(server, ledger_file)

    yield starting
    for server, serving in servers:
        server.shutdown()
        serving.join()
        server.server_close()
        server.bank.ledger.close()


def test_it_is_not_idempotent(start: Start) -> None:
    customer = start()
    first, second = customer.wire(), customer.wire()
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["external_ref"] != second.json()["external_ref"]
    assert [entry.kind for entry in customer.ledger()] == [BOOKED, BOOKED]


def test_the_ledger_holds_what_was_asked(start: Start) -> None:
    customer = start()
    ref = customer.wire().json()["external_ref"]
    (entry,) = customer.ledger()
    assert (entry.ref, entry.idempotency_key, entry.business_key) == (ref, "idem-1", KEY)
    assert (entry.account, entry.amount, entry.currency) == (WIRE.creditor_account, WIRE.amount, WIRE.currency)


def test_business_keys_travel_percent_encoded(start: Start) -> None:
    customer = start()
    headers = {"Idempotency-Key": "k", "X-Tape-Business-Key": "%C3%9E%C3%B3ra%201"}
    customer.client.post("/wires", json=WIRE.request, headers=headers)
    assert customer.ledger()[0].business_key == "Þóra 1"
    found = customer.client.get("/wires/lookup", params={"key": "other", "business_key": "Þóra 1"}).json()
    assert found["status"] == "confirmed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "-5"},
        {"amount": "NaN"},
        {"amount": "much"},
        {"creditor_account": "DE00123"},
        {"currency": "EURO"},
    ],
)
def test_invalid_orders_are_refused_and_not_booked(start: Start, wrong: dict[str, str]) -> None:
    customer = start()
    assert customer.wire(**wrong).status_code == 422
    assert customer.ledger() == []


def test_what_is_no_json_object_is_refused(start: Start) -> None:
    customer = start()
    assert customer.client.post("/wires", content=b"[]").status_code == 400
    assert customer.client.post("/wires", content=b"{").status_code == 400
    assert customer.client.post("/wires").status_code == 400
    assert customer.client.get("/elsewhere").status_code == 404


@pytest.mark.parametrize(("script", "booked"), [(Script.LOSES_ANSWER, 1), (Script.TWICE, 2)])
def test_the_answer_is_lost_after_booking(start: Start, script: Script, booked: int) -> None:
    customer = start(script=script)
    with pytest.raises(httpx.RemoteProtocolError):
        customer.wire()
    assert len(customer.ledger()) == booked


@pytest.mark.parametrize(
    ("script", "code", "booked"),
    [
        (Script.ERROR_AFTER, 500, 1),
        (Script.ERROR_BEFORE, 500, 0),
        (Script.REFUSES, 422, 0),
        (Script.UNAVAILABLE, 503, 0),
    ],
)
def test_answers_that_are_errors(start: Start, script: Script, code: int, booked: int) -> None:
    customer = start(script=script)
    assert customer.wire().status_code == code
    assert len(customer.ledger()) == booked


def test_busy_at_first_then_good(start: Start) -> None:
    customer = start(script=Script.BUSY)
    busy = customer.wire()
    assert (busy.status_code, busy.headers["Retry-After"]) == (429, "1")
    assert customer.ledger() == []
    assert customer.wire().status_code == 201


def test_slow_books_before_the_caller_gives_up_and_sees_it_leave(start: Start) -> None:
    customer = start(script=Script.SLOW)
    with pytest.raises(httpx.ReadTimeout):
        customer.wire(timeout=0.2)
    assert len(customer.ledger()) == 1
    until(lambda: not customer.bank.status(0)["in_flight"])


def test_slow_answers_in_the_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "TOO_LATE_SECONDS", 0.05)
    assert start(script=Script.SLOW).wire().status_code == 201


def test_a_call_in_flight_is_shown(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "TOO_LATE_SECONDS", 0.3)
    customer = start(script=Script.SLOW)
    with ThreadPoolExecutor() as callers:
        answer = callers.submit(customer.wire)
        (call,) = until(lambda: customer.bank.status(0)["in_flight"])
        assert (call["business_key"], call["script"]) == (KEY, Script.SLOW)
        assert call["age_seconds"] >= 0
        assert answer.result().status_code == 201
    assert customer.client.get("/status").json()["in_flight"] == []


def test_late_books_although_the_caller_is_gone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "BOOKS_LATE_SECONDS", 0.4)
    customer = start(script=Script.BOOKS_LATE)
    with pytest.raises(httpx.ReadTimeout):
        customer.wire(timeout=0.1)
    assert customer.look_up().json()["status"] == "absent"
    until(lambda: len(customer.ledger()) == 1)


def test_lookup_finds_by_key_and_by_business_key_net_of_reversals(start: Start) -> None:
    customer = start()
    assert customer.look_up().json() == {"status": "absent"}
    first = customer.wire().json()["external_ref"]
    assert customer.look_up().json() == {"status": "confirmed", "external_ref": first, "duplicates": []}
    assert customer.look_up(key="another").json()["status"] == "confirmed"
    second, third = (customer.wire(key).json()["external_ref"] for key in ("idem-1", "idem-2"))
    assert customer.look_up().json() == {"status": "duplicate", "external_ref": first, "duplicates": [second, third]}
    customer.reverse(second)
    customer.reverse(third, key="compensate:2")
    assert customer.look_up().json() == {"status": "confirmed", "external_ref": first, "duplicates": []}


def test_lookup_may_fail_once(start: Start) -> None:
    customer = start(lookup_fails_once=True)
    assert [customer.look_up().status_code for _ in range(3)] == [503, 200, 200]


def test_reversal_is_idempotent_under_its_key_only(start: Start) -> None:
    customer = start()
    ref = customer.wire().json()["external_ref"]
    once, again, other = customer.reverse(ref), customer.reverse(ref), customer.reverse(ref, key="someone else")
    assert (once.status_code, again.status_code, other.status_code) == (200, 200, 409)
    assert once.json() == again.json()
    assert [(entry.kind, entry.reverses) for entry in customer.ledger()] == [(BOOKED, ""), (REVERSED, ref)]


def test_there_is_nothing_to_reverse(start: Start) -> None:
    assert start().reverse("BK999999").status_code == 404


@pytest.mark.parametrize(("how", "code"), [(Reversal.BUSY, 429), (Reversal.UNAVAILABLE, 503)])
def test_reversal_refused_at_first(start: Start, how: Reversal, code: int) -> None:
    customer = start(reversal=how)
    ref = customer.wire().json()["external_ref"]
    assert customer.reverse(ref).status_code == code
    assert len(customer.ledger()) == 1
    assert customer.reverse(ref).status_code == 200


def test_reversal_done_with_its_answer_lost(start: Start) -> None:
    customer = start(reversal=Reversal.LOSES_ANSWER)
    ref = customer.wire().json()["external_ref"]
    with pytest.raises(httpx.RemoteProtocolError):
        customer.reverse(ref)
    assert customer.reverse(ref).status_code == 200
    assert [entry.kind for entry in customer.ledger()] == [BOOKED, REVERSED]


def test_status_counts_and_tells_events_once(start: Start) -> None:
    customer = start(script=Script.ERROR_AFTER)
    customer.wire()
    status = customer.client.get("/status").json()
    assert (status["received"], status["booked"], status["reversed"]) == (1, 1, 0)
    assert [event["business_key"] for event in status["events"]] == [KEY]
    assert customer.client.get("/status", params={"since": status["next"]}).json()["events"] == []


def test_the_ledger_goes_on_where_its_file_ends(tmp_path: Path) -> None:
    for expected in ("BK000001", "BK000002"):
        ledger = Ledger(tmp_path / "ledger.jsonl")
        entry = ledger.book(idempotency_key="k", business_key="b", account="a", amount="1", currency="EUR")
        assert entry.ref == expected
        ledger.close()


def test_the_process_prints_its_port_and_ends_with_its_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tape_celery.demo.bank", "--ledger", str(tmp_path / "ledger.jsonl"), "--seed", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = json.loads(process.stdout.readline())["port"]
        status = httpx.get(f"http://127.0.0.1:{port}/status", trust_env=False).json()
        assert status["received"] == 0
        process.stdin.close()
        assert process.wait(10) == 0
