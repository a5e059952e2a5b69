"""`delay_many` of a decorated effect: the arguments of many calls, one transaction."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.orm import Session

from tape_celery import effect
from tape_celery.authoring import EffectFunction
from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import InvalidIntent, PayloadTooLarge
from tests.state.stage import Stage


@dataclass
class Receipt:
    booked: bool


def declared(name: str = "tests.many.wire") -> EffectFunction[..., Any, Receipt]:
    @effect(
        connector="scripted",
        semantics="idempotent",
        business_key=lambda account, amount: f"{account}:{amount}",
        max_attempts=3,
        response=Receipt,
        name=name,
    )
    def wire(account: str, amount: int = 1) -> dict[str, Any]:
        return {"account": account[:9], "amount": amount + 0, "filling": account[9:]}

    return wire


def test_each_dict_is_a_call(stage: Stage) -> None:
    """With what the effect declares; a generator will do, defaults count, and each handle has the declared type."""
    wire = declared()
    handles = wire.delay_many({"account": f"A{n}"} if n else {"account": "A0", "amount": 9} for n in range(3))
    recorded = [handle.effect for handle in handles]
    assert [one.business_key for one in recorded] == ["A0:9", "A1:1", "A2:1"]
    assert {(one.semantics, one.max_attempts, one.effect_name) for one in recorded} == {("idempotent", 3, wire.name)}
    stage.connector.answers = [DispatchResult("confirmed", "ref", {"booked": True})] * 3
    stage.tape.dispatch(*[handle.id for handle in handles])
    assert [handle.get(timeout=0) for handle in handles] == [Receipt(True)] * 3
    assert wire.delay_many([]) == []
    assert wire.delay("A1").id == handles[1].id


def test_a_signature_is_a_call_with_options_of_its_own(stage: Stage) -> None:
    wire = declared()
    plain, late, named = wire.delay_many(
        [wire.s("A1"), wire.si(account="A2").set(countdown=60, priority=3), wire.signature(("A3",), business_key="b")]
    )
    assert (plain.effect.business_key, plain.effect.request["account"]) == ("A1:1", "A1")
    assert late.effect.due_at_ms == late.effect.created_at_ms + 60_000
    assert (late.effect.priority, named.effect.business_key) == (3, "b")


def test_one_that_is_refused_refuses_all_and_is_named(stage: Stage) -> None:
    wire, other = declared(), declared("tests.many.other")
    for item, told in (
        (("A1", 5), "must be a dict of the arguments of tests.many.wire, or a signature of it, not a tuple"),
        (other.s("A1"), "is a signature of tests.many.other, and must be one of tests.many.wire"),
        (wire.s("A1").set(colour="red"), "there is no option 'colour'"),
        (wire.s("A1").set(session=1), "session is one for all"),
        ({"account": "A1" + "x" * 300}, "business_key must be"),
    ):
        with pytest.raises(InvalidIntent, match=f"^item 1: {told}"):
            wire.delay_many([{"account": "A0"}, item])
    assert stage.tape.effects() == []


def test_a_request_that_is_too_large_is_named(stage: Stage) -> None:
    wire = declared()
    large = wire.signature(("A1" + "x" * 300_000,), business_key="b")
    with pytest.raises(PayloadTooLarge, match=r"^item 1: "):
        wire.delay_many([{"account": "A0"}, large])
    assert stage.tape.effects() == []


@pytest.mark.parametrize("item", [{"account": "A1", "amount": "five"}, {"acount": "A1"}, {}])
def test_what_the_body_raises_goes_to_the_caller_and_names_the_item(stage: Stage, item: Any) -> None:
    with pytest.raises(TypeError) as raised:
        declared().delay_many([{"account": "A0"}, item])
    assert raised.value.__notes__ == ["item 1 of delay_many of effect tests.many.wire"]
    assert stage.tape.effects() == []


def test_in_the_apps_transaction_all_go_with_it(stage: Stage) -> None:
    wire = declared()
    with Session(stage.tape.database._engine) as session:
        wire.delay_many([{"account": "A1"}, {"account": "A2"}], session=session)
        session.rollback()
        assert stage.tape.effects() == []
        wire.delay_many([{"account": "A1"}, {"account": "A2"}], session=session)
        session.commit()
    assert len(stage.tape.effects()) == 2


def test_the_async_door_does_the_same(stage: Stage) -> None:
    wire = declared()
    stage.connector.answers = [DispatchResult("confirmed", "ref", {"booked": True})] * 2

    async def shop() -> list[Any]:
        handles = await wire.adelay_many([{"account": "A1"}, wire.si("A2").set(priority=3)])
        stage.tape.dispatch(*[handle.id for handle in handles])
        with pytest.raises(InvalidIntent, match=r"^item 0: "):
            await wire.adelay_many([7])  # type: ignore[list-item]
        return [await handle.aget(timeout=0) for handle in handles]

    assert asyncio.run(shop()) == [Receipt(True)] * 2
    assert sorted(one.priority for one in stage.tape.effects()) == [0, 3]
