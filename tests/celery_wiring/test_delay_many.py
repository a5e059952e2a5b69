"""Many effects at once, over a real broker: few messages, none of which can hold the caller up."""

import time

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.celery_wiring.test_hints_together import hinted


def items(count: int, **keywords: object) -> list[dict]:
    return [
        {"connector": "bank", "request": {"n": n, "script": ["land"]}, "business_key": f"m-{n}", **keywords}
        for n in range(count)
    ]


def test_a_message_is_for_many(shop: Shop) -> None:
    """As many keys each as a worker claims at once, the urgent first; each effect lands once."""
    handles = shop.tape.effect.delay_many([*items(50), {**items(1)[0], "business_key": "urgent", "priority": 9}])
    found = hinted(shop)
    assert [len(keys) for keys in found] == [1, 20, 20, 10]
    assert [key for keys in found for key in keys] == [handles[-1].id, *[handle.id for handle in handles[:-1]]]
    shop.worker("tape.dispatch")
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
        assert shop.landings(handle) == 1


def test_a_broker_that_is_down_costs_the_bound_once(make_shop: MakeShop) -> None:
    """And loses nothing."""
    shop = make_shop(broker_url="redis://127.0.0.1:1/0", publish_timeout_seconds=1.0)
    began = time.monotonic()
    handles = shop.tape.effect.delay_many(items(200))
    assert time.monotonic() - began < 10
    assert [handle.status for handle in handles] == ["PENDING"] * 200


def test_a_producer_killed_after_the_commit_loses_nothing(shop: Shop) -> None:
    """kill -9 before its hints: the sweep publishes them all."""
    code = (
        "shop.tape.effect.delay_many({'connector': 'bank', 'request': {'n': n}, 'business_key': f'w-{n}'} "
        "for n in range(30))"
    )
    assert shop.run(code, failpoints="record.committed=kill9").wait() == -9
    effects = shop.tape.effects(limit=100)
    assert len(effects) == 30
    shop.open()
    for effect in effects:
        shop.ends(effect.effect_key, "CONFIRMED")


def test_a_producer_killed_before_the_commit_recorded_nothing(shop: Shop) -> None:
    """All or nothing: one that dies in the middle of its list left nothing behind, and the same list works then."""
    code = (
        "import os\n"
        "def listed():\n"
        "    for n in range(10):\n"
        "        yield {'connector': 'bank', 'request': {'n': n}, 'business_key': f'w-{n}'}\n"
        "    os.kill(os.getpid(), 9)\n"
        "shop.tape.effect.delay_many(listed())"
    )
    assert shop.run(code).wait() == -9
    assert shop.tape.effects() == []
