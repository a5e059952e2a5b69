"""A wish that an effect does not happen, and effects that wait for their time: durable, whoever dies."""

import pytest

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


@pytest.mark.parametrize(
    ("landed", "semantics", "connector", "end"),
    [
        (True, "non_idempotent", "steady", "CONFIRMED"),
        (True, "idempotent", "steady", "CONFIRMED"),
        (False, "non_idempotent", "steady", "FAILED"),
        (False, "idempotent", "steady", "CANCELLED"),
        (True, "idempotent", "patient", "STUCK"),
        (False, "non_idempotent", "patient", "STUCK"),
    ],
)
def test_a_cancel_in_mid_call_whose_answer_is_lost(
    shop: Shop, landed: bool, semantics: str, connector: str, end: str
) -> None:
    """The worker's child is killed. What landed is found and undone, nothing is sent again, and where nobody can look
    ("patient" cannot) a person has to."""
    shop.open()
    script = ["wait:on", *(["land"] if landed else []), "kill9"]
    handle = shop.delay(*script, connector=connector, semantics=semantics, allow_unsafe=True)
    until(lambda: shop.ledger.entries("called", handle.id), what="the call")
    asked = handle.cancel(reason="not wanted", actor="ann")
    assert (asked.status, asked.cancel_requested) == ("DISPATCHING", True)
    shop.gate("on")
    assert shop.ends(handle, "CONFIRMED", "FAILED", "CANCELLED", "STUCK", timeout=40) == end
    assert len(shop.ledger.entries("called", handle.id)) == 1
    assert shop.landings(handle) == landed
    owed = shop.tape.obligations(effect_key=handle.id)
    assert len(owed) == (end == "CONFIRMED")
    if owed:
        until(lambda: shop.tape.obligations(effect_key=handle.id, status="COMPENSATED"), what="the inverse")
        assert len(shop.ledger.entries("undone", owed[0].obligation_key)) == 1
    shop.is_sound()
