"""11: a connector says which requests its upstream could never take: where they are asked for, and before each call."""

from __future__ import annotations

from typing import Any

import pytest

from tape_celery.connectors.base import DispatchResult
from tape_celery.engine import Outcome
from tape_celery.errors import InvalidIntent
from tests.state.stage import CONFIRMED, MAY_HAVE, Stage


def whole_euros(request: dict[str, Any]) -> None:
    if not isinstance(request.get("amount"), int):
        raise ValueError("amount must be a whole number, see https://u:CANARY@bank.example/rules?token=CANARY")
    request["amount"] = 0  # of a copy


@pytest.fixture
def stage(ready_sqlite_url: str) -> Any:
    made = Stage(ready_sqlite_url)
    yield made
    assert made.tape.audit() == []
    made.close()


def strict(stage: Stage) -> None:
    stage.connector.check_request = whole_euros  # type: ignore[attr-defined]


def test_what_a_connector_does_not_take_is_not_recorded(stage: Stage) -> None:
    """Alone or among others; the error says what the connector said, without the secrets of a URL."""
    strict(stage)
    with pytest.raises(
        InvalidIntent, match="'scripted' does not take this request: ValueError: amount must"
    ) as refused:
        stage.tape.effect.delay("scripted", {"amount": 1.5}, business_key="b")
    assert "CANARY" not in str(refused.value)
    items = [{"connector": "scripted", "request": {"amount": n}, "business_key": f"b-{n}"} for n in (1, 2.5, 3)]
    with pytest.raises(InvalidIntent, match=r"1.*amount must be a whole number"):
        stage.tape.effect.delay_many(items)
    assert stage.tape.effects() == []


def test_what_a_connector_takes_is_sent_as_it_was_asked_for(stage: Stage) -> None:
    """The check gets a copy; who does not know the connector records all the same."""
    strict(stage)
    key = stage.tape.effect.delay("scripted", {"amount": 7}, business_key="b").id
    assert stage.dispatch(key, CONFIRMED) == Outcome.CONFIRMED
    assert stage.connector.dispatched[0].request == {"amount": 7}
    assert stage.tape.effect.delay("elsewhere", {"amount": 1.5}, business_key="b").status == "PENDING"


def test_what_was_recorded_all_the_same_is_not_sent(stage: Stage) -> None:
    """By an older producer, say: it ends FAILED, with the reason, and its business key is free."""
    key = stage.tape.effect.delay("scripted", {"amount": 1.5}, business_key="b").id
    strict(stage)
    assert stage.dispatch(key, CONFIRMED) == Outcome.FAILED
    assert stage.connector.dispatched == []
    effect = stage.get(key)
    assert "amount must be a whole number" in effect.reason
    assert "CANARY" not in effect.reason + effect.error_json
    assert not effect.holds_business_key


def test_one_that_may_have_landed_before_is_looked_at(stage: Stage) -> None:
    """A check that is stricter than it was proves nothing about an earlier attempt."""
    key = stage.tape.effect.delay("scripted", {"amount": 1.5}, business_key="b", semantics="idempotent").id
    stage.dispatch(key, MAY_HAVE)
    strict(stage)
    stage.move_time(120)
    assert stage.dispatch(key, CONFIRMED) == Outcome.UNKNOWN
    assert len(stage.connector.dispatched) == 1


def test_a_check_that_breaks_refuses(stage: Stage) -> None:
    """Whatever it raises: nothing was sent, and nothing is."""

    def broken(request: dict[str, Any]) -> DispatchResult:
        raise KeyError("iban")

    key = stage.record()
    stage.connector.check_request = broken  # type: ignore[attr-defined]
    assert stage.dispatch(key, CONFIRMED) == Outcome.FAILED
    assert stage.connector.dispatched == []
