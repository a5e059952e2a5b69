"""A shop with real workers, for canvas too: they have ordinary tasks beside effects."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app

from tests.celery_wiring.conftest import BANK, MakeShop, Shop, _own_registry, make_shop
from tests.servers import until

__all__ = ["_own_registry", "make_shop"]

MODULES = [BANK, "tests.celery_wiring.apps.picky", "tests.celery_wiring.apps.heard"]
BALANCE = {"balance": 7}
"""What the bank answers to every wire."""


@pytest.fixture(autouse=True)
def _own_current_app() -> Iterator[None]:
    """The app that a test makes the current one is so for that test only."""
    before = current_app._get_current_object()
    yield
    before.set_current()


def opened(make_shop: MakeShop, **how: Any) -> Shop:
    """A shop whose workers have ordinary tasks too, and whose app is the one that signatures mean."""
    shop = make_shop(**{"connectors": MODULES, **how})
    shop.app.set_current()
    return shop


def heard(shop: Shop, word: str, number: int = 1) -> list[Any]:
    """Wait until that many have come under ``word``, and return what they were given."""

    def all_of_them() -> list[Any]:
        found = [entry["first"] for entry in shop.ledger.entries("heard") if entry["word"] == word]
        return found if len(found) >= number else []

    return until(all_of_them, timeout=20, what=f"{number} of {word!r}")


def words(shop: Shop) -> list[str]:
    """Under which words anything has come so far."""
    return sorted(entry["word"] for entry in shop.ledger.entries("heard"))
