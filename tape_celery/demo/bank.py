"""The bank simulator: a real HTTP server that keeps a ledger file and misbehaves as its plan says.

``python -m tape_celery.demo.bank --port 0 --ledger FILE [--plan FILE | --seed N]`` prints ``{"port": …}`` and serves on
loopback until its standard input ends or it is told to stop.

    POST /wires           books a wire, every time it is called: it deduplicates nothing
    GET  /wires/lookup    ?key=…&business_key=…: which bookings of that wire stand
    POST /wires/reverse   {"external_ref": …}: takes one booking back, once for each Idempotency-Key
    GET  /status?since=N  for the screen: what is in flight, how much is booked, what the bank did since event N
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tape_celery.demo.ledger import BOOKED, REVERSED, AlreadyReversed, Entry, Ledger, NoSuchBooking
from tape_celery.demo.orders import is_iban, read_wires
from tape_celery.demo.plan import Misbehaviour, Reversal, Script, draw_plan

BOOKING_SECONDS = 0.05
"""How long an ordinary booking takes."""
TOO_LATE_SECONDS = 2.5
"""After how long a slow wire is answered: the callers give up after a second."""
BOOKS_LATE_SECONDS = 1.6
"""After how long a late wire is booked: when the caller has given up, but long before it may believe in an absence."""
RETRY_AFTER_SECONDS = 1
MOST_BODY_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of ``POST /wires`` that the bank works on."""

    business_key: str
    script: str
    since: float
    """The bank's monotonic clock."""


class Bank:
    """The state behind the server: ledger, plan, what is in flight, what happened. Safe for threads."""

    def __init__(self, ledger: Ledger, plan: Mapping[str, Misbehaviour]) -> None:
        self.ledger = ledger
        self._plan = plan
        self._lock = threading.Lock()
        self._tries: Counter[tuple[str, str]] = Counter()
        self._calls: dict[int, Call] = {}
        self._received = 0
        self._events: list[dict[str, str]] = []

    def behaviour(self, business_key: str) -> Misbehaviour:
        """What the plan says of that wire; wires that it does not know go well."""
        return self._plan.get(business_key, Misbehaviour())

    def first_time(self, what: str, key: str) -> bool:
        """Whether ``what`` is done with ``key`` for the first time."""
        with self._lock:
            self._tries[what, key] += 1
            return self._tries[what, key] == 1

    def note(self, business_key: str, text: str) -> None:
        """Tell the screen."""
        with self._lock:
            self._events.append({"business_key": business_key, "text": text})

    @contextmanager
    def in_flight(self, business_key: str, script: Script) -> Iterator[None]:
        """Show the call as in flight while the bank works on it."""
        with self._lock:
            self._received += 1
            number = self._received
            self._calls[number] = Call(business_key=business_key, script=script, since=time.monotonic())
        try:
            yield
        finally:
            with self._lock:
                del self._calls[number]

    def status(self, since: int) -> dict[str, Any]:
        """What ``GET /status`` answers."""
        now = time.monotonic()
        with self._lock:
            calls = [
                {"business_key": call.business_key, "script": call.script, "age_seconds": round(now - call.since, 3)}
                for call in self._calls.values()
            ]
            received, events = self._received, self._events[since:]
        return {
            "in_flight": calls,
            "received": received,
            "booked": self.ledger.count(BOOKED),
            "reversed": self.ledger.count(REVERSED),
            "events": events,
            "next": since + len(events),
        }


class BankServer(ThreadingHTTPServer):
    """The HTTP server of one `Bank`, on loopback only."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, bank: Bank, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), BankHandler)
        self.bank = bank

    @property
    def url(self) -> str:
        """Where the bank is."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that are killed or give up are the point of the demo; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class BankHandler(BaseHTTPRequestHandler):
    """One connection to the bank."""

    server: BankServer
    protocol_version = "HTTP/1.1"
    server_version = "TapeDemoBank"
    disable_nagle_algorithm = True
    timeout = 30

    def do_GET(self) -> None:
        """Lookups, and the status for the screen."""
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/wires/lookup":
            self._look_up(query.get("key", ""), query.get("business_key", ""))
        elif address.path == "/status":
            self._answer(200, self.server.bank.status(int(query.get("since", "0"))))
        else:
            self._answer(404, {"error": "no_such_page"})

    def do_POST(self) -> None:
        """Wires and reversals."""
        body = self._body()
        if body is None:
            self._answer(400, {"error": "not_json"})
        elif self.path == "/wires":
            self._wire(body)
        elif self.path == "/wires/reverse":
            self._reverse(body)
        else:
            self._answer(404, {"error": "no_such_page"})

    def log_message(self, format: str, *args: Any) -> None:
        """One line per request to standard error, which the demo keeps as the bank's log."""
        sys.stderr.write(f"{self.log_date_time_string()} {format % args}\n")

    # -- wires

    def _wire(self, body: dict[str, Any]) -> None:
        bank = self.server.bank
        business_key = unquote(self.headers.get("X-Tape-Business-Key", ""))
        if refusal := _refusal(body):
            self._answer(422, {"error": "invalid", "detail": refusal})
            return
        script = bank.behaviour(business_key).script
        with bank.in_flight(business_key, script):
            time.sleep(BOOKING_SECONDS)
            match script:
                case Script.GOOD:
                    self._answer(201, self._receipt(self._book(body, business_key)))
                case Script.LOSES_ANSWER:
                    self._book(body, business_key)
                    bank.note(business_key, "booked; the answer is lost")
                    self._hang_up()
                case Script.ERROR_AFTER:
                    self._book(body, business_key)
                    bank.note(business_key, "booked; answers 500")
                    self._answer(500, {"error": "internal"})
                case Script.ERROR_BEFORE:
                    bank.note(business_key, "answers 500; booked nothing")
                    self._answer(500, {"error": "internal"})
                case Script.SLOW:
                    entry = self._book(body, business_key)
                    bank.note(business_key, "booked; the answer takes its time")
                    if self._caller_hangs_up_within(TOO_LATE_SECONDS):
                        self._hang_up()
                    else:
                        self._answer(201, self._receipt(entry))
                case Script.BOOKS_LATE:
                    time.sleep(BOOKS_LATE_SECONDS)
                    entry = self._book(body, business_key)
                    bank.note(business_key, "booked only now, after the caller gave up")
                    self._answer(201, self._receipt(entry))
                case Script.TWICE:
                    self._book(body, business_key)
                    self._book(body, business_key)
                    bank.note(business_key, "booked TWICE; the answer is lost")
                    self._hang_up()
                case Script.REFUSES:
                    bank.note(business_key, "refused: the account is closed")
                    self._answer(422, {"error": "account_closed", "detail": "the creditor's account is closed"})
                case Script.BUSY:
                    if bank.first_time("wire", business_key):
                        bank.note(business_key, "busy: come back later (429)")
                        self._answer(429, {"error": "busy"}, retry_after=RETRY_AFTER_SECONDS)
                    else:
                        self._answer(201, self._receipt(self._book(body, business_key)))
                case Script.UNAVAILABLE:
                    bank.note(business_key, "unavailable (503); booked nothing")
                    self._answer(503, {"error": "unavailable"}, retry_after=RETRY_AFTER_SECONDS)

    def _book(self, body: dict[str, Any], business_key: str) -> Entry:
        return self.server.bank.ledger.book(
            idempotency_key=self.headers.get("Idempotency-Key", ""),
            business_key=business_key,
            account=str(body["creditor_account"]),
            amount=str(body["amount"]),
            currency=str(body["currency"]),
        )

    def _receipt(self, entry: Entry) -> dict[str, str]:
        return {"external_ref": entry.ref, "booked_at": entry.at, "amount": entry.amount, "currency": entry.currency}

    # -- lookups and reversals

    def _look_up(self, key: str, business_key: str) -> None:
        bank = self.server.bank
        if bank.behaviour(business_key).lookup_fails_once and bank.first_time("lookup", business_key):
            self._answer(503, {"error": "unavailable"}, retry_after=RETRY_AFTER_SECONDS)
            return
        standing = bank.ledger.standing(idempotency_key=key, business_key=business_key)
        if not standing:
            self._answer(200, {"status": "absent"})
            return
        refs = [entry.ref for entry in standing]
        self._answer(
            200,
            {
                "status": "duplicate" if len(refs) > 1 else "confirmed",
                "external_ref": refs[0],
                "duplicates": refs[1:],
            },
        )

    def _reverse(self, body: dict[str, Any]) -> None:
        bank = self.server.bank
        ref = str(body.get("external_ref", ""))
        try:
            booking = bank.ledger.booking(ref)
        except NoSuchBooking:
            self._answer(404, {"error": "no_such_booking"})
            return
        reversal = bank.behaviour(booking.business_key).reversal
        first = bank.first_time("reverse", ref)
        if first and reversal is Reversal.BUSY:
            bank.note(booking.business_key, f"reversal of {ref}: busy (429)")
            self._answer(429, {"error": "busy"}, retry_after=RETRY_AFTER_SECONDS)
            return
        if first and reversal is Reversal.UNAVAILABLE:
            bank.note(booking.business_key, f"reversal of {ref}: unavailable (503)")
            self._answer(503, {"error": "unavailable"}, retry_after=RETRY_AFTER_SECONDS)
            return
        try:
            entry = bank.ledger.reverse(ref, idempotency_key=self.headers.get("Idempotency-Key", ""))
        except AlreadyReversed as error:
            self._answer(409, {"error": "already_reversed", "detail": str(error)})
            return
        if first and reversal is Reversal.LOSES_ANSWER:
            bank.note(booking.business_key, f"{ref} reversed; the answer is lost")
            self._hang_up()
            return
        bank.note(booking.business_key, f"{ref} reversed")
        self._answer(200, {"reversal_ref": entry.ref, "external_ref": ref})

    # -- the wire under the wires

    def _body(self) -> dict[str, Any] | None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= MOST_BODY_BYTES:
            return None
        try:
            body = json.loads(self.rfile.read(length))
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    def _answer(self, code: int, body: dict[str, Any], retry_after: int | None = None) -> None:
        content = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        """End the connection without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _caller_hangs_up_within(self, seconds: float) -> bool:
        """Wait; return early, and true, when the caller closes its end or dies."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], left)
            if readable:
                return True
        return False


def _refusal(body: Mapping[str, Any]) -> str:
    """Why the bank cannot accept such an order; empty if it can."""
    try:
        amount = Decimal(str(body["amount"]))
    except (KeyError, InvalidOperation):
        return "amount is not a decimal number"
    if not amount.is_finite() or amount <= 0:
        return "amount is not above zero"
    if not is_iban(str(body.get("creditor_account", ""))):
        return "creditor_account has wrong check digits"
    if len(str(body.get("currency", ""))) != 3:
        return "currency is not one of three letters"
    return ""


def write_plan(plan: Mapping[str, Misbehaviour], path: Path) -> None:
    """Write the plan to ``path``, for people and for `read_plan`."""
    path.write_text(json.dumps({key: asdict(what) for key, what in plan.items()}, indent=1), encoding="utf-8")


def read_plan(path: Path) -> dict[str, Misbehaviour]:
    """The plan that `write_plan` wrote."""
    return {
        key: Misbehaviour(
            script=Script(what["script"]),
            reversal=Reversal(what["reversal"]),
            lookup_fails_once=what["lookup_fails_once"],
        )
        for key, what in json.loads(path.read_text(encoding="utf-8")).items()
    }


def main(argv: list[str] | None = None) -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m tape_celery.demo.bank")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--plan", type=Path, help="what it does to which wire (default: it behaves)")
    parser.add_argument("--seed", type=int, help="instead of a plan: draw one for all of wires.csv")
    given = parser.parse_args(argv)
    plan: dict[str, Misbehaviour] = {}
    if given.plan:
        plan = read_plan(given.plan)
    elif given.seed is not None:
        plan = draw_plan(given.seed, [wire.business_key for wire in read_wires()])
    ledger = Ledger(given.ledger)
    server = BankServer(Bank(ledger, plan), given.port)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    print(json.dumps({"port": server.server_port}), flush=True)
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    finally:
        server.shutdown()
        server.server_close()
        ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
