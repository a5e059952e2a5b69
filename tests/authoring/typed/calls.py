"""Calls as an app writes them, for a type checker alone; what is wrong in them is marked with its kind."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, assert_type

from pydantic import BaseModel

from tape_celery import Tape, effect, tape_effect
from tape_celery.connectors.base import ObservationResult
from tape_celery.handle import EffectHandle
from tape_celery.records import Effect


@dataclass
class Wire:
    account: str
    amount: Decimal


class Order(BaseModel):
    number: int


class Receipt(BaseModel):
    booked: bool


def look(record: Effect) -> ObservationResult:
    return ObservationResult("confirmed", record.external_ref)


@effect(connector="bank", business_key=lambda account, **_: str(account), status_check=look)
def pay(account: str, amount: int, *, note: str = "") -> dict[str, Any]:
    return {"account": account, "amount": amount, "note": note}


@effect(connector="bank", response=Receipt)
def wire(wire: Wire) -> Wire:
    return wire


@effect(connector="shop", response=dict[str, int])
def order(order: Order) -> Order:
    return order


# What is right.
assert_type(pay.delay("A1", amount=5), EffectHandle[dict[str, Any]])
assert_type(pay.delay("A1", 5, note="n").get(timeout=1), dict[str, Any])
assert_type(pay("A1", 5), dict[str, Any])
assert_type(pay.apply_async(("A1", 5), business_key="b").get(), dict[str, Any])
assert_type(wire.delay(Wire("A1", Decimal(5))), EffectHandle[Receipt])
assert_type(wire.delay(wire=Wire("A1", Decimal(5))).get(), Receipt)
assert_type(wire(Wire("A1", Decimal(5))), Wire)
assert_type(order.delay(Order(number=1)).get(), dict[str, int])
assert_type(tape_effect.delay("bank", {"amount": 5}).get(), dict[str, Any])
assert_type(tape_effect.delay("bank", Wire("A1", Decimal(5))).into(Receipt).get(), Receipt)
tape_effect.delay("shop", Order(number=1), business_key="b")
handle: EffectHandle = pay.delay("A1", 5)
assert_type(wire.delay_many([{"wire": Wire("A1", Decimal(5))}]), list[EffectHandle[Receipt]])
assert_type(pay.delay_many([pay.si("A1", amount=5)]), list[EffectHandle[dict[str, Any]]])


async def asynchronous(tape: Tape) -> None:
    assert_type(await (await wire.adelay(Wire("A1", Decimal(5)))).aget(), Receipt)
    assert_type((await wire.adelay_many([{"wire": Wire("A1", Decimal(5))}]))[0], EffectHandle[Receipt])
    assert_type(tape.handle("key").into(Receipt).get(timeout=5), Receipt)


# What is wrong.
pay.delay("A1")  # error: call-arg
pay.delay("A1", "five")  # error: arg-type
pay.delay("A1", 5, business_key="b")  # error: call-arg
pay.delay("A1", 5, "note")  # error: call-arg
pay(account=1, amount=5)  # error: arg-type
wire.delay({"account": "A1"})  # error: arg-type
pay.delay_many([("A1", 5)])  # error: list-item
pay.delay_many([pay.si("A1", amount="five")])  # error: arg-type
print(wire.delay(Wire("A1", Decimal(5))).get().bokked)  # error: attr-defined
print(pay.delay("A1", 5).get().booked)  # error: attr-defined
tape_effect.delay("bank", "A1")  # error: arg-type
tape_effect.delay("bank", 5)  # error: arg-type
effect(semantics="idempotent")  # error: call-overload
effect(connector=5)  # error: call-overload
effect(connector="bank", busines_key=str)  # error: call-overload
effect(connector="bank", response="Receipt")  # error: call-overload


@effect(connector="bank")  # error: type-var
def number() -> int:
    return 5


@effect(connector="bank")  # error: type-var
async def asynchronous_body() -> dict[str, Any]:
    return {}
