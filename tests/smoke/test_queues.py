"""Each of our queues on a worker of its own, and a beat: what goes through which of them."""

import re

import pytest

from tests.servers import until
from tests.smoke.shop import Shop

WORKERS = ("dispatch", "observe", "compensate", "sweep", "celery")


@pytest.fixture(scope="module")
def shop_nodes() -> list[str]:
    return [
        *("dispatch_container", "observe_container", "compensate_container", "sweep_container"),
        *("orders_container", "beat_container"),
    ]


def test_a_call_needs_the_dispatch_worker_alone(shop: Shop) -> None:
    """Confirmed at once: nobody looks, nothing is owed."""
    handle = shop.delay()
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert shop.landed(handle) == 1


def test_a_lost_answer_is_looked_up_by_the_observe_worker(shop: Shop) -> None:
    """One call had landed, one had not: each ends as it happened at the bank, and none is sent again."""
    landed, unsent = shop.delay("land", "raise"), shop.delay("raise")
    shop.ends(landed, "CONFIRMED")
    shop.ends(unsent, "FAILED")
    assert shop.kinds(landed)[-1] == "observed"
    assert shop.tape.get(unsent.id).reason == "absent"
    assert (shop.landed(landed), shop.landed(unsent)) == (1, 0)
    assert len(shop.ledger.entries("called", landed.id)) == len(shop.ledger.entries("called", unsent.id)) == 1


def test_a_duplicate_is_undone_by_the_compensate_worker(shop: Shop) -> None:
    """What landed twice is found by looking; the extra record is undone, and the other one stays."""
    handle = shop.delay("land", "land", "raise")
    shop.ends(handle, "CONFIRMED")
    (owed,) = until(lambda: shop.tape.obligations(effect_key=handle.id, status="COMPENSATED"), timeout=20)
    (undone,) = shop.ledger.entries("undone", owed.obligation_key)
    stays, extra = (line["ref"] for line in shop.ledger.entries("landed", handle.id))
    assert undone["ref"] == owed.external_ref == extra
    assert shop.tape.get(handle.id).external_ref == stays


def test_what_is_owed_is_undone_by_the_compensate_worker(shop: Shop) -> None:
    """A person asks for it."""
    handle = shop.delay()
    shop.ends(handle, "CONFIRMED")
    shop.tape.owe(handle.id, reason="returned", actor="a person")
    (owed,) = until(lambda: shop.tape.obligations(effect_key=handle.id, status="COMPENSATED"), timeout=20)
    assert [line["ref"] for line in shop.ledger.entries("undone", owed.obligation_key)] == [owed.external_ref]


def test_what_nobody_was_told_of_is_found_by_the_sweep_worker(shop: Shop) -> None:
    """A later effect is published by no producer: beat asks for a sweep, the sweep finds the row."""
    handle = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), {"business_key": "later"}, countdown=0.5)
    assert shop.status(handle) == "PENDING"
    shop.ends(handle, "CONFIRMED")
    assert shop.landed(handle) == 1


def test_a_producer_without_a_store_asks_the_sweep_worker(shop: Shop) -> None:
    """`tape.effect` carries the intent; the same message twice makes one effect."""
    for _ in range(2):
        shop.tape.app.send_task(
            "tape.effect", ("bank", {"script": ["land"]}), {"business_key": "from afar"}, queue="tape.sweep"
        )
    (effect,) = until(lambda: shop.tape.effects(business_key="from afar"), timeout=20, what="the effect")
    shop.ends(effect.effect_key, "CONFIRMED")
    sweep = shop.node("sweep").container
    until(lambda: sweep.text().count("Task tape.effect") >= 4, what="both messages, received and done")
    assert len(shop.tape.effects(business_key="from afar")) == shop.landed(effect.effect_key) == 1


def test_a_task_of_the_shop_makes_an_effect(shop: Shop) -> None:
    """On the shop's own worker, of Celery's own queue; the same task redelivered makes no second effect."""
    for _ in range(2):
        shop.tape.app.send_task("shop.order", (7,), queue="celery", task_id="order-7")
    (effect,) = until(lambda: shop.tape.effects(business_key="order-7"), timeout=20, what="the effect")
    shop.ends(effect.effect_key, "CONFIRMED")
    until(lambda: shop.node("celery").container.text().count("succeeded") >= 2, what="both deliveries")
    assert len(shop.tape.effects(business_key="order-7")) == shop.landed(effect.effect_key) == 1


def test_no_worker_did_the_work_of_another(shop: Shop) -> None:
    """Each worker's log has the tasks of its own queue and no others."""
    handle = shop.delay("land", "land", "raise")
    shop.ends(handle, "CONFIRMED")
    until(lambda: shop.tape.obligations(effect_key=handle.id, status="COMPENSATED"), timeout=20)
    shop.tape.app.send_task("shop.order", (8,), queue="celery")
    until(lambda: shop.tape.effects(business_key="order-8", status="CONFIRMED"), timeout=20)
    seen = {name: set(re.findall(r"Task ([a-z.]+)\[", shop.node(name).container.logs())) for name in WORKERS}
    assert seen["sweep"] - {"tape.effect"} == {"tape.sweep"}
    assert {name: seen[name] for name in WORKERS if name != "sweep"} == {
        "dispatch": {"tape.dispatch"},
        "observe": {"tape.observe"},
        "compensate": {"tape.compensate"},
        "celery": {"shop.order"},
    }
