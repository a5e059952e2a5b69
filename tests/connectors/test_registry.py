"""Registering connectors: what one may carry for itself is checked when it is registered, not in mid-sweep."""

from collections.abc import Iterator
from typing import Any

import pytest

from tape_celery import connectors
from tape_celery.errors import InvalidIntent


@pytest.fixture(autouse=True)
def _empty_registry() -> Iterator[None]:
    """What other tests of this process registered is away meanwhile."""
    before = {name: connectors.get(name) for name in connectors.names()}
    connectors.clear()
    yield
    connectors.clear()
    for name, connector in before.items():
        connectors.register(connector, name)


class Plain:
    name = "plain"

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def dispatch(self, effect: Any) -> None: ...


@pytest.mark.parametrize(
    "attribute", ["lease_seconds", "settle_seconds", "total_seconds", "idempotency_window_seconds"]
)
@pytest.mark.parametrize("value", ["30", "abc", -1, float("nan"), float("inf"), True, 1e12, [30]])
def test_a_span_that_cannot_work_is_refused_and_shown(attribute: str, value: Any) -> None:
    with pytest.raises(InvalidIntent, match=f"{attribute} of connector 'plain' must be a number of seconds"):
        connectors.register(Plain(**{attribute: value}))
    assert connectors.names() == []


def test_spans_that_can_work_are_taken() -> None:
    connectors.register(Plain(lease_seconds=0.1, settle_seconds=0, total_seconds=0.0, idempotency_window_seconds=60))
    connectors.register(Plain(lease_seconds=None))
    assert connectors.names() == ["plain"]


def test_a_lease_of_nothing_is_refused() -> None:
    """Nothing could ever be sent under it."""
    with pytest.raises(InvalidIntent, match=r"from 0\.1 to"):
        connectors.register(Plain(lease_seconds=0))
