"""The payment orders: the rows of ``wires.csv``, the real input of the demo.

The names are those of no one, the bank codes are made up, the check digits are right (ISO 13616).
"""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path

WIRES_FILE = Path(__file__).with_name("wires.csv")
FEWEST_WIRES = 20
"""With fewer wires the bank could not misbehave in all of its ways."""
MOST_WIRES = 300


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One payment order, as its row stands: texts only, the amount as a decimal number with a point."""

    wire_id: str
    date: str
    debtor: str
    debtor_account: str
    creditor: str
    creditor_account: str
    amount: str
    currency: str
    purpose: str

    @property
    def business_key(self) -> str:
        """What makes this payment this payment: two rows of the same sum to the same account are two payments."""
        return self.wire_id

    @property
    def request(self) -> dict[str, str]:
        """What is sent to the bank."""
        return asdict(self)


def read_wires(path: Path = WIRES_FILE, limit: int | None = None) -> list[Wire]:
    """The first ``limit`` orders of the file (all of them by default)."""
    with path.open(newline="", encoding="utf-8") as lines:
        wires = [Wire(**row) for row in csv.DictReader(lines)]
    return wires[:limit]


def is_iban(account: str) -> bool:
    """Whether the check digits of ``account`` are right (ISO 7064, mod 97)."""
    if not (account.isascii() and account.isalnum() and len(account) > 4):
        return False
    moved = account[4:] + account[:4]
    return int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1
