"""Callbacks with a real broker and real workers: what is sent survives whoever should have sent it."""

from tape_celery.records import EffectStatus
from tests.celery_wiring.conftest import Shop
from tests.servers import until


def has_link(shop: Shop) -> bool:
    return any(found.request.get("linked") for found in shop.tape.effects())


def linked(shop: Shop) -> dict[str, object]:
    request = {"number": 99, "script": ["land"], "undo_script": [], "linked": True}
    return {"link": shop.tape.effect.s("bank", request, business_key="linked")}


def test_a_worker_that_is_killed_before_it_sends_a_callback_loses_nothing(shop: Shop) -> None:
    """It dies between the seal and the callback; the sweep of the next worker sends it, and it lands once."""
    handle = shop.delay(**linked(shop))
    shop.open(failpoints="callbacks.taken=kill9*1")
    shop.ends(handle, EffectStatus.CONFIRMED)
    until(lambda: has_link(shop), timeout=20, what="the linked effect")
    [found] = [found for found in shop.tape.effects() if found.effect_key != handle.id]
    shop.ends(found.effect_key, EffectStatus.CONFIRMED)
    assert shop.landings(found.effect_key) == 1
    shop.is_sound()
