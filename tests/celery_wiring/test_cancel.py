"""A wish that an effect does not happen, and effects that wait for their time: durable, whoever dies."""

from tests.celery_wiring.conftest import Shop
from tests.celery_wiring.test_messages import broker
from tests.servers import until


def test_what_was_cancelled_by_another_process_is_never_sent(shop: Shop) -> None:
    """While it waits for its time no message exists for it, and no worker remembers it."""
    handle = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), {"business_key": "b"}, countdown=600)
    assert broker(shop).keys("tape.dispatch*") == []
    assert shop.run(f"shop.tape.cancel({handle.id!r}, reason='r', actor='ann')").wait() == 0
    assert handle.status == "CANCELLED"
    assert shop.tape.dispatch(handle.id)[handle.id] == "nothing_to_do"
    assert shop.landings(handle) == 0


def test_a_cancel_in_mid_call_is_followed_to_its_end_and_undone(shop: Shop) -> None:
    """The call lands; then its inverse is owed, and paid."""
    shop.open()
    handle = shop.delay("wait:on", "land")
    until(lambda: shop.ledger.entries("called", handle.id), what="the call")
    assert handle.cancel(reason="not wanted", actor="ann").cancel_requested
    shop.gate("on")
    shop.ends(handle, "CONFIRMED")
    (owed,) = shop.tape.obligations(effect_key=handle.id)
    until(lambda: shop.ledger.entries("undone", owed.obligation_key), what="the inverse")
    assert shop.landings(handle) == 1


def test_a_worker_that_dies_while_an_effect_waits_for_its_time_loses_nothing(shop: Shop) -> None:
    """The next one sends it when it is due."""
    worker = shop.open()
    handle = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), {"business_key": "b"}, countdown=3)
    worker.killpg()
    worker.wait()
    shop.worker()
    shop.ends(handle, "CONFIRMED")
    assert shop.landings(handle) == 1
