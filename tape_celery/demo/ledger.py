"""The bank's ledger: an append-only file of JSON lines, each on disk before anyone hears of it.

It is the witness of the demo. Nothing of tape_celery writes it or is asked about it until the verdict.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

BOOKED = "booked"
REVERSED = "reversed"


class NoSuchBooking(LookupError):
    """There is no booking with that reference."""


class AlreadyReversed(ValueError):
    """The booking was reversed before."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger."""

    ref: str
    kind: str
    """`BOOKED` or `REVERSED`."""
    reverses: str = ""
    """The reference of the booking that a reversal takes back."""
    at: str
    idempotency_key: str
    business_key: str
    account: str
    amount: str
    currency: str


class Ledger:
    """The ledger file of one bank, and an index of it in memory. Safe for threads, for one process."""

    def __init__(self, path: Path) -> None:
        self.entries = read_ledger(path)
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.RLock()

    def book(self, *, idempotency_key: str, business_key: str, account: str, amount: str, currency: str) -> Entry:
        """Book unconditionally: whoever asks twice pays twice."""
        with self._lock:
            return self._append(
                ref=self._next_ref(),
                kind=BOOKED,
                idempotency_key=idempotency_key,
                business_key=business_key,
                account=account,
                amount=amount,
                currency=currency,
            )

    def reverse(self, ref: str, *, idempotency_key: str) -> Entry:
        """Take back the booking ``ref``; the same request again returns the same reversal.

        Raises `NoSuchBooking`, or `AlreadyReversed` for another request about the same booking.
        """
        with self._lock:
            booking = self.booking(ref)
            for entry in self.entries:
                if entry.reverses == ref:
                    if entry.idempotency_key == idempotency_key:
                        return entry
                    raise AlreadyReversed(f"{ref} was reversed by {entry.ref}")
            return self._append(
                ref=self._next_ref(),
                kind=REVERSED,
                reverses=ref,
                idempotency_key=idempotency_key,
                business_key=booking.business_key,
                account=booking.account,
                amount=booking.amount,
                currency=booking.currency,
            )

    def booking(self, ref: str) -> Entry:
        """The booking ``ref``; raises `NoSuchBooking`."""
        with self._lock:
            for entry in self.entries:
                if entry.ref == ref and entry.kind == BOOKED:
                    return entry
        raise NoSuchBooking(ref)

    def standing(self, *, idempotency_key: str, business_key: str) -> list[Entry]:
        """The bookings of that key or business key that were not taken back, oldest first."""
        with self._lock:
            gone = {entry.reverses for entry in self.entries}
            return [
                entry
                for entry in self.entries
                if entry.kind == BOOKED
                and entry.ref not in gone
                and (entry.idempotency_key == idempotency_key or (business_key and entry.business_key == business_key))
            ]

    def count(self, kind: str) -> int:
        """How many entries are of ``kind``."""
        with self._lock:
            return sum(entry.kind == kind for entry in self.entries)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _next_ref(self) -> str:
        return f"BK{len(self.entries) + 1:06d}"

    def _append(self, **values: str) -> Entry:
        entry = Entry(at=datetime.now(UTC).isoformat(timespec="milliseconds"), **values)
        self._file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.entries.append(entry)
        return entry


def read_ledger(path: Path) -> list[Entry]:
    """All entries of the ledger file; none if there is no file."""
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
