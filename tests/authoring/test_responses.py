"""A response is read as the type that was asked for, or `get` says why not and the effect stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID

import pydantic
import pytest

from tape_celery import effect
from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import EffectFailed, InvalidIntent, OutcomeError, ResponseMismatch
from tape_celery.values import Mismatch, decoded
from tests.state.stage import FAILED, Stage

ID = "0190f0c0-0000-7000-8000-000000000001"


class State(Enum):
    BOOKED = "booked"
    REFUSED = "refused"


@dataclass
class Fee:
    amount: Decimal
    for_: str = "transfer"


@dataclass
class Receipt:
    id: UUID
    at: datetime
    state: State
    total: Decimal
    fees: list[Fee] = field(default_factory=list)
    first: Fee | None = None
    takes: timedelta | None = None
    mode: Literal["fast", "slow"] = "slow"
    more: dict[str, Decimal] = field(default_factory=dict)


class ReceiptModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    id: UUID
    at: datetime
    state: State
    total: Decimal


class Both(TypedDict):
    id: UUID
    note: NotRequired[str]


ANSWER: dict[str, Any] = {
    "id": ID,
    "at": "2026-11-23T12:00:00Z",
    "state": "booked",
    "total": 12.1,
    "fees": [{"amount": "0.10"}],
    "first": {"amount": 1, "for_": "care"},
    "takes": "PT90S",
    "mode": "fast",
    "more": {"vat": "0.02"},
    "unheard": True,
}
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_dataclass_is_read_by_its_type_hints() -> None:
    """Nested ones too; what a newer upstream adds is passed over."""
    assert decoded(Receipt, ANSWER) == Receipt(
        UUID(ID), NOON, State.BOOKED, Decimal("12.1"), [Fee(Decimal("0.10"))], Fee(Decimal(1), "care"),
        timedelta(seconds=90), "fast", {"vat": Decimal("0.02")},
    )  # fmt: skip


def test_a_model_a_typed_dict_and_a_dict_are_read() -> None:
    assert decoded(ReceiptModel, ANSWER).total == Decimal("12.1")
    assert decoded(Both, {"id": ID, "note": "n"}) == {"id": UUID(ID), "note": "n"}
    assert decoded(dict[str, Decimal], {"a": "1.0"}) == {"a": Decimal("1.0")}
    assert decoded(dict[str, int | str], {"a": "1", "b": 1}) == {"a": "1", "b": 1}
    assert decoded(tuple[int, str], [1, "a"]) == (1, "a")
    assert decoded(set[UUID], [ID]) == {UUID(ID)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"id": "nonsense"}, r"response\.id must be a UUID, not 'nonsense'"),
        ({"at": 5}, r"response\.at must be a date and time in ISO 8601, not 5"),
        ({"state": "lost"}, r"response\.state: ValueError: 'lost' is none of 'booked', 'refused'"),
        ({"total": True}, r"response\.total must be a decimal number, not True"),
        ({"total": "NaN"}, r"response\.total must be a decimal number, not 'NaN'"),
        ({"fees": {}}, r"response\.fees must be a list"),
        ({"fees": [{"amount": "1"}, {}]}, r"response\.fees\[1\] has no amount"),
        ({"first": {"amount": "x"}}, r"response\.first\.amount must be a decimal number"),
        ({"mode": "medium"}, r"response\.mode must be one of 'fast', 'slow', not 'medium'"),
        ({"takes": "P"}, r"response\.takes must be an ISO 8601 duration"),
        ({"more": {"vat": []}}, r"response\.more\.vat must be a decimal number"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_what_does_not_fit_is_named_by_its_place(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Mismatch, match=said):
        decoded(Receipt, {**ANSWER, **changed})


def test_a_decorated_effect_gives_its_response(stage: Stage) -> None:
    @effect(connector="scripted", name="tests.responses.wire", response=Receipt)
    def wire(amount: int) -> dict[str, Any]:
        return {"amount": amount}

    handle = wire.delay(5)
    stage.dispatch(handle.id, DispatchResult("confirmed", "ref-1", ANSWER))
    assert handle.get(timeout=1).fees == [Fee(Decimal("0.10"))]
    import copy

    assert copy.copy(handle).get(timeout=1).state is State.BOOKED


def test_any_handle_can_be_read_into_a_type(stage: Stage) -> None:
    key = stage.record()
    stage.dispatch(key, DispatchResult("confirmed", "ref-1", ANSWER))
    assert stage.tape.handle(key).into(ReceiptModel).get(timeout=1).state is State.BOOKED
    assert stage.tape.handle(key).get(timeout=1) == ANSWER
    with pytest.raises(InvalidIntent, match="response must be a dataclass"):
        stage.tape.handle(key).into(object)


@pytest.mark.parametrize("kind", [Receipt, ReceiptModel])
def test_a_response_of_another_type_is_a_named_error_and_changes_nothing(stage: Stage, kind: type[Any]) -> None:
    key = stage.record()
    stage.dispatch(key, DispatchResult("confirmed", "ref-1", {"id": ID}))
    before = stage.get(key)
    handle = stage.tape.handle(key).into(kind)
    with pytest.raises(ResponseMismatch, match=f"effect {key} is CONFIRMED: response") as mismatch:
        handle.get(timeout=1)
    assert (mismatch.value.effect_key, mismatch.value.status) == (key, "CONFIRMED")
    assert isinstance(handle.get(timeout=1, propagate=False), ResponseMismatch)
    assert isinstance(mismatch.value, OutcomeError)
    assert stage.get(key) == before
    assert handle.successful()


def test_what_failed_is_no_mismatch(stage: Stage) -> None:
    key = stage.record()
    stage.dispatch(key, FAILED)
    with pytest.raises(EffectFailed):
        stage.tape.handle(key).into(Receipt).get(timeout=1)
