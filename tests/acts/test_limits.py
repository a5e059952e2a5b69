"""Which requests one person may not decide on alone."""

from __future__ import annotations

from typing import Any

import pytest

from tape_celery.people import human, is_human, is_same_person
from tape_celery.second_person import why_needed

LIMITS = {"bank.wire": {"amount": 10_000.0, "fee": 5.0}, "card.charge": {}}


@pytest.mark.parametrize(
    ("connector", "request_", "why"),
    [
        ("bank.wire", {"amount": 10_000, "fee": 5}, ""),
        ("bank.wire", {"amount": 10_000.01, "fee": 1}, "its amount is above 10000"),
        ("bank.wire", {"amount": 1, "fee": 6}, "its fee is above 5"),
        ("bank.wire", {"amount": -10_001, "fee": 1}, "its amount is above 10000"),
        ("bank.wire", {"amount": 10**400, "fee": 1}, "its amount is above 10000"),
        ("bank.wire", {"fee": 1}, "its amount is no number"),
        ("bank.wire", {"amount": "1", "fee": 1}, "its amount is no number"),
        ("bank.wire", {"amount": True, "fee": 1}, "its amount is no number"),
        ("bank.wire", {"amount": None, "fee": 1}, "its amount is no number"),
        ("bank.wire", {"amount": float("nan"), "fee": 1}, "its amount is above 10000"),
        ("card.charge", {}, "every act on an effect of card.charge"),
        ("mail", {"amount": 1e9}, ""),
    ],
)
def test_what_is_above_a_limit_needs_a_second_person(connector: str, request_: dict[str, Any], why: str) -> None:
    """So does what cannot be compared with it: a limit that a typo passes is none."""
    assert why_needed(LIMITS, connector, request_).startswith(why)
    assert bool(why_needed(LIMITS, connector, request_)) == bool(why)


def test_a_star_is_every_connector_that_is_not_named() -> None:
    limits = {"*": {"amount": 1.0}, "bank.wire": {"amount": 100.0}}
    assert why_needed(limits, "bank.wire", {"amount": 50}) == ""
    assert why_needed(limits, "mail", {"amount": 50}) == "its amount is above 1"
    assert why_needed({}, "mail", {"amount": 50}) == ""


def test_a_name_is_the_same_however_it_is_typed() -> None:
    for other in ("ALICE  Smith", " alice smith\n", "ａlice smith", "human:Alice Smith", "Human: human: alice smith"):
        assert is_same_person("Alice Smith", other)
        assert is_same_person(other, "human:alice smith")
    assert not is_same_person("alice", "alicia")
    assert not is_same_person("human:alice", "robot:alice")


def test_a_person_is_marked_once() -> None:
    for name in ("alice", " alice ", "human:alice", "Human: alice", "human:human:alice"):
        assert human(name) == human(human(name)) == "human:alice"
        assert is_human(human(name))
    assert not is_human("sweep@host")
    assert not is_human("humane:alice")
