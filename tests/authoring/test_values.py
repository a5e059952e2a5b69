"""Python values in a request: each has one text, whatever carries it; what has none is refused by its place."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pydantic
import pytest

from tape_celery import effect
from tape_celery.errors import InvalidIntent, PayloadTooLarge
from tape_celery.values import decoded, request_json
from tests.state.stage import Stage


class Colour(enum.Enum):
    RED = "red"


class Rate(enum.Enum):
    LOW = Decimal("0.10")


class Size(enum.IntEnum):
    LARGE = 3


class Kind(enum.StrEnum):
    WIRE = "wire"


ID = UUID("0190f0c0-0000-7000-8000-000000000001")
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TEXTS: list[tuple[Any, str]] = [
    (Colour.RED, '"red"'),
    (Rate.LOW, '"0.10"'),
    (Size.LARGE, "3"),
    (Kind.WIRE, '"wire"'),
    (Decimal("100.00"), '"100.00"'),
    (Decimal("12345678901234567890.123456789012345678901"), '"12345678901234567890.123456789012345678901"'),
    (ID, '"0190f0c0-0000-7000-8000-000000000001"'),
    (NOON, '"2026-11-23T12:00:00Z"'),
    (NOON.replace(microsecond=5), '"2026-11-23T12:00:00.000005Z"'),
    (NOON.astimezone(timezone(timedelta(hours=5, minutes=30))), '"2026-11-23T17:30:00+05:30"'),
    (date(2026, 11, 23), '"2026-11-23"'),
    (time(8, 30), '"08:30:00"'),
    (timedelta(days=1, hours=2, seconds=3.5), '"P1DT2H3.5S"'),
    (timedelta(minutes=90), '"PT1H30M"'),
    (timedelta(seconds=-1), '"-PT1S"'),
    (timedelta(days=2), '"P2D"'),
    (timedelta(microseconds=1), '"PT0.000001S"'),
    (timedelta(0), '"PT0S"'),
    ((1, Decimal("2")), '[1,"2"]'),
    (None, "null"),
    (1.5, "1.5"),
]


@dataclass
class Line:
    item: str
    price: Decimal


@dataclass
class Order:
    id: UUID
    at: datetime
    colour: Colour
    lines: list[Line] = field(default_factory=list)
    note: str | None = None


class LineModel(pydantic.BaseModel):
    item: str
    price: Decimal


class OrderModel(pydantic.BaseModel):
    id: UUID
    at: datetime
    colour: Colour
    lines: list[LineModel]
    note: str | None = None


ORDER = Order(ID, NOON, Colour.RED, [Line("pen", Decimal("1.20"))])
ORDER_MODEL = OrderModel(id=ID, at=NOON, colour=Colour.RED, lines=[LineModel(item="pen", price=Decimal("1.20"))])
ORDER_DICT = {
    "id": str(ID),
    "at": "2026-11-23T12:00:00Z",
    "colour": "red",
    "lines": [{"item": "pen", "price": "1.20"}],
    "note": None,
}


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=lambda given: str(given)[:30])
def test_each_value_has_one_text(value: Any, text: str) -> None:
    assert request_json({"v": value}) == f'{{"v":{text}}}'
    assert request_json({"v": [{"w": value}]}) == f'{{"v":[{{"w":{text}}}]}}'


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=lambda given: str(given)[:30])
def test_pydantic_writes_the_same_text(value: Any, text: str) -> None:
    """A request keeps its digest when an app begins to use models."""

    class Carrier(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        v: Any

    assert request_json(Carrier(v=value)) == f'{{"v":{text}}}'


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=lambda given: str(given)[:30])
def test_what_was_written_is_read_again(value: Any, text: str) -> None:
    import json

    kind: Any = tuple[int, Decimal] if isinstance(value, tuple) else type(value)
    assert decoded(kind, json.loads(text)) == value


def test_a_dict_a_dataclass_and_a_model_of_the_same_fields_are_one_request(stage: Stage) -> None:
    """So the same business key meets the same effect, whichever of them it comes with."""
    keys = {stage.tape.effect.delay("scripted", r, business_key="b").id for r in (ORDER, ORDER_MODEL, ORDER_DICT)}
    assert len(keys) == 1
    assert stage.get(keys.pop()).request == ORDER_DICT


def test_an_effect_takes_and_returns_them(stage: Stage) -> None:
    """Arguments are what the caller gave; the connector sees plain JSON."""

    @effect(connector="scripted", name="tests.values.order", business_key=lambda order: str(order.id))
    def send(order: Order | OrderModel) -> Order | OrderModel:
        assert isinstance(order.at, datetime)
        return order

    assert send.delay(ORDER).id == send.delay(order=ORDER_MODEL).id
    recorded = send.delay(ORDER).effect
    assert recorded is not None
    assert recorded.request == ORDER_DICT


def test_what_is_plain_is_written_as_ever() -> None:
    assert request_json({"b": [1, 2.5, None, True], "a": {"é": "x"}}) == '{"a":{"\\u00e9":"x"},"b":[1,2.5,null,true]}'
    assert request_json(MappingProxyType({"a": MappingProxyType({"b": Kind.WIRE})})) == '{"a":{"b":"wire"}}'
    assert request_json({Colour.RED: 1, ID: 2}) == f'{{"{ID}":2,"red":1}}'


class Holds(pydantic.BaseModel):
    held: Any


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"x", "is a bytes, which JSON cannot carry: encode it, for example with base64"),
        (bytearray(b"x"), "is a bytearray, which JSON"),
        ({1, 2}, r"is a set, which has no order: make it a list with sorted\(\)"),
        (frozenset({1}), "is a frozenset, which has no order"),
        (datetime(2026, 11, 23, 12), "is a datetime without a time zone: 2026-11-23T12:00:00; give it one"),
        (Decimal("NaN"), "is NaN"),
    ],
)
@pytest.mark.parametrize("carrier", ["dict", "dataclass", "model"])
def test_what_has_no_text_is_refused_by_its_place(value: Any, said: str, carrier: str) -> None:
    """A model must not hide it: a set in one would be written in another order by the next process."""
    made = {
        "dict": {"held": [value]},
        "dataclass": {"held": [Line("pen", value)]},
        "model": Holds(held=[value]),
    }[carrier]
    place = r"request\.held\[0\]\.price " if carrier == "dataclass" else r"request\.held\[0\] "
    with pytest.raises(InvalidIntent, match=place + said):
        request_json(made)


@pytest.mark.parametrize("request_", ["text", 5, None, [1], Line, Colour.RED, Decimal(5), pydantic.RootModel[int](5)])
def test_what_is_no_object_is_no_request(request_: Any) -> None:
    with pytest.raises(InvalidIntent, match="request must be a dict, a dataclass or a pydantic model, not a "):
        request_json(request_)


def test_what_nobody_knows_is_refused_by_its_place() -> None:
    for made in ({"a": [object()]}, {"a": Decimal(1), "b": object()}, {"a": Line}):
        with pytest.raises(InvalidIntent, match="which JSON cannot carry; convert it first"):
            request_json(made)
    with pytest.raises(InvalidIntent, match="request has the key 'red' twice"):
        request_json({Colour.RED: 1, "red": 2})
    with pytest.raises(InvalidIntent, match="request has a key that is a int"):
        request_json({1: Decimal(1)})


def test_a_model_that_cannot_be_written_is_refused() -> None:
    class Broken(pydantic.BaseModel):
        a: int

        @pydantic.field_serializer("a")
        def fails(self, value: int) -> int:
            raise RuntimeError("no")

    with pytest.raises(InvalidIntent, match=r"request\.held, a Broken, cannot be written as JSON"):
        request_json({"held": Broken(a=1)})


def test_values_that_hold_themselves_or_are_too_many_are_refused() -> None:
    endless: dict[str, Any] = {"a": Decimal(1)}
    endless["b"] = endless
    with pytest.raises(InvalidIntent, match="is nested too deeply, or holds itself"):
        request_json(endless)
    wide: Any = [Decimal(1)]
    for _ in range(60):
        wide = [wide, wide]
    with pytest.raises(PayloadTooLarge):
        request_json({"a": Decimal(1), "b": wide}, max_bytes=1000)
