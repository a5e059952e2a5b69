"""The shipped CSV file is real enough, and right."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

from tape_celery.demo.orders import FEWEST_WIRES, MOST_WIRES, is_iban, read_wires

WIRES = read_wires()


def test_there_are_as_many_as_said_and_their_keys_differ() -> None:
    assert len(WIRES) == MOST_WIRES > FEWEST_WIRES
    assert len({wire.business_key for wire in WIRES}) == MOST_WIRES


def test_every_field_of_every_row_is_filled_and_trimmed() -> None:
    for wire in WIRES:
        assert all(text and text == text.strip() for text in wire.request.values()), wire


def test_accounts_have_right_check_digits_and_country() -> None:
    for wire in WIRES:
        assert is_iban(wire.debtor_account), wire
        assert is_iban(wire.creditor_account), wire
        assert 15 <= len(wire.creditor_account) <= 34
    assert len({wire.creditor_account[:2] for wire in WIRES}) >= 15


def test_amounts_are_positive_decimals_with_a_point() -> None:
    for wire in WIRES:
        assert re.fullmatch(r"\d+(\.\d\d)?", wire.amount), wire
        assert Decimal(wire.amount) > 0, wire
        assert re.fullmatch(r"[A-Z]{3}", wire.currency), wire
    assert len({wire.currency for wire in WIRES}) >= 8


def test_dates_are_working_days() -> None:
    assert all(date.fromisoformat(wire.date).weekday() < 5 for wire in WIRES)


def test_names_come_in_many_scripts() -> None:
    names = "".join(wire.creditor for wire in WIRES)
    for letters in ("Łukasz", "Žofie", "Þóra", "José", "Βασίλης", "Nguyễn", "山田"):
        assert letters in names


def test_some_payments_are_the_same_but_for_their_id() -> None:
    """A payment of the same sum to the same account on the same day is another payment, not a duplicate."""
    same = [(wire.creditor_account, wire.amount, wire.currency, wire.date) for wire in WIRES]
    assert len(set(same)) < len(same)


def test_limit_takes_the_first() -> None:
    assert read_wires(limit=7) == WIRES[:7]


def test_wrong_check_digits_are_seen() -> None:
    account = WIRES[0].creditor_account
    wrong = account[:2] + f"{(int(account[2:4]) + 1) % 97:02d}" + account[4:]
    assert not is_iban(wrong)
    assert not is_iban("")
    assert not is_iban("ÅÄ00 1234")
