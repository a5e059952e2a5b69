"""The upstream: a bank over HTTP that misbehaves as each request tells it to, and keeps a ledger that outlives it.

    POST /wires       books at every call: it deduplicates nothing
    POST /transfers   books once for each Idempotency-Key
    POST /quotes      books nothing
    GET  /lookup      ?key=…: which bookings stand
    POST /reversals   {"external_ref": …}: takes one booking back, once for each Idempotency-Key

A call takes ``request["takes_seconds"]``. ``["script"]`` is what the first call of an effect comes to, ``["look"]`` the
first lookup, ``["undo"]`` the first reversal; later ones go well. The ledger has one JSON line for each thing that the
bank did or was asked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

CALL_SCRIPTS = (
    "loses the answer",
    "500 after booking",
    "500 before booking",
    "503, nothing booked",
    "books, answers too late",
    "books after the caller gave up",
    "429 with Retry-After",
    "books twice, loses the answer",
    "cuts the body",
    "hangs up unread",
    "refuses",
)
LOOK_SCRIPTS = ("503", "too late", "cuts the body")
UNDO_SCRIPTS = ("loses the answer", "500 after", "500 before", "429 with Retry-After")
TOO_LATE_SECONDS = 1.4
BOOKS_LATE_SECONDS = 1.7


class Ledger:
    """The bank's book: a file of lines, and what it needs to find in them again. Safe for threads."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self.standing: defaultdict[str, list[str]] = defaultdict(list)
        """The bookings that were not taken back, by idempotency key."""
        self.booking: dict[str, dict[str, Any]] = {}
        self.reversed_with: dict[str, str] = {}
        self._firsts: Counter[tuple[str, str]] = Counter()
        for line in read_lines(path):
            self._index(line)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, *lines: dict[str, Any]) -> None:
        """Append ``lines`` at once: all of them or none."""
        with self.lock:
            os.write(self._file, "".join(json.dumps(line) + "\n" for line in lines).encode())
            for line in lines:
                self._index(line)

    def first_time(self, what: str, key: str) -> bool:
        """Whether ``what`` is done with ``key`` for the first time since this bank started."""
        with self.lock:
            self._firsts[what, key] += 1
            return self._firsts[what, key] == 1

    def _index(self, line: dict[str, Any]) -> None:
        match line["event"]:
            case "booked":
                self.standing[line["idempotency_key"]].append(line["ref"])
                self.booking[line["ref"]] = line
            case "reversed":
                self.standing[self.booking[line["ref"]]["idempotency_key"]].remove(line["ref"])
                self.reversed_with[line["with"]] = line["ref"]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a ledger; what a bank that was killed left half-written never happened."""
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]


class BankServer(ThreadingHTTPServer):
    """The server of one ledger, on loopback."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, ledger: Ledger, port: int) -> None:
        super().__init__(("127.0.0.1", port), BankHandler)
        self.ledger = ledger

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class BankHandler(BaseHTTPRequestHandler):
    """One connection to the bank."""

    server: BankServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/reversals":
            self._reverse(str(body["external_ref"]))
        else:
            self._call(body)

    def do_GET(self) -> None:
        ledger = self.server.ledger
        key = parse_qs(urlsplit(self.path).query)["key"][0]
        with ledger.lock:
            refs = list(ledger.standing[key])
        script = ledger.booking[refs[0]]["look"] if refs and ledger.first_time("look", key) else "well"
        if script != "well":
            self._misbehave(f"look: {script}", key)
        if script == "too late":
            time.sleep(TOO_LATE_SECONDS)
        if script == "503":
            self._answer(503, {"error": "unavailable"})
            return
        status = ("absent", "confirmed")[len(refs)] if len(refs) < 2 else "duplicate"
        answer = {"status": status, **({"external_ref": refs[0], "duplicates": refs[1:]} if refs else {})}
        self._answer(200, answer, cut=script == "cuts the body")

    def log_message(self, format: str, *args: Any) -> None:
        """No log of requests: the ledger has them."""

    def _call(self, body: dict[str, Any]) -> None:
        ledger, key = self.server.ledger, self.headers["X-Tape-Effect-Key"]
        ledger.write({"event": "called", "key": key, "token": self.headers["X-Tape-Attempt"].rpartition(":")[2]})
        time.sleep(body["takes_seconds"])
        script = body["script"] if ledger.first_time("call", key) else "well"
        if script != "well":
            self._misbehave(script, key)
        match script:
            case "500 before booking":
                self._answer(500, {"error": "internal"})
            case "503, nothing booked":
                self._answer(503, {"error": "unavailable"})
            case "429 with Retry-After":
                self._answer(429, {"error": "busy"}, retry_after=1)
            case "refuses":
                self._answer(422, {"error": "account_closed"})
            case "hangs up unread":
                self.close_connection = True
            case _:
                self._book_and_answer(script, body, key)

    def _book_and_answer(self, script: str, body: dict[str, Any], key: str) -> None:
        if script == "books after the caller gave up":
            time.sleep(BOOKS_LATE_SECONDS)
        receipt = self._book(body, key, times=2 if script == "books twice, loses the answer" else 1)
        match script:
            case "loses the answer" | "books twice, loses the answer":
                self.close_connection = True
            case "500 after booking":
                self._answer(500, {"error": "internal"})
            case _:
                if script == "books, answers too late":
                    time.sleep(TOO_LATE_SECONDS)
                self._answer(201, receipt, cut=script == "cuts the body")

    def _book(self, body: dict[str, Any], key: str, *, times: int) -> dict[str, str]:
        ledger, idempotency_key = self.server.ledger, self.headers["Idempotency-Key"]
        if self.path == "/quotes":
            return {"external_ref": f"quote-{key}"}
        with ledger.lock:
            earlier = ledger.standing[idempotency_key]
            if self.path == "/transfers" and earlier:
                return {"external_ref": earlier[0]}
            count = 1 if self.path == "/transfers" else times
            refs = [f"ref-{key}-{len(earlier) + number}" for number in range(count)]
            booking = {"event": "booked", "key": key, "idempotency_key": idempotency_key}
            told = {name: body[name] for name in ("look", "undo")}
            ledger.write(*({**booking, "ref": ref, **told} for ref in refs))
        return {"external_ref": refs[0]}

    def _reverse(self, ref: str) -> None:
        ledger, key = self.server.ledger, self.headers["Idempotency-Key"]
        script = ledger.booking[ref]["undo"] if ledger.first_time("undo", ref) else "well"
        if script != "well":
            self._misbehave(f"undo: {script}", ref)
        if script == "500 before":
            self._answer(500, {"error": "internal"})
            return
        if script == "429 with Retry-After":
            self._answer(429, {"error": "busy"}, retry_after=1)
            return
        with ledger.lock:
            if key not in ledger.reversed_with:
                line = {"event": "reversed", "key": ledger.booking[ref]["key"], "ref": ref, "with": key}
                ledger.write(line)
        if script == "loses the answer":
            self.close_connection = True
        else:
            self._answer(500 if script == "500 after" else 200, {"external_ref": ref})

    def _misbehave(self, script: str, key: str) -> None:
        self.server.ledger.write({"event": "misbehaved", "key": key, "how": script})

    def _answer(self, code: int, body: dict[str, Any], *, cut: bool = False, retry_after: int | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) + cut))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.close_connection or cut


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    given = parser.parse_args()
    server = BankServer(Ledger(given.ledger), given.port)
    print("the bank is open", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
