"""An expiry that passes while a worker is dead: what was never sent is not sent any more, and what may have landed is
followed to its end all the same."""

from tape_celery.store import inspection
from tests.celery_wiring.conftest import Shop
from tests.servers import until

SOON = 8
"""Seconds: workers that are there begin a call well within them."""


def expired(shop: Shop, key: str) -> bool:
    """Whether its expiry has passed, by the database's clock."""
    effect = shop.tape.get(key)
    assert effect is not None
    assert effect.expires_at_ms is not None
    return effect.expires_at_ms < inspection.now_ms(shop.tape.database)


def test_what_a_dead_worker_had_not_sent_is_cancelled_without_a_call(shop: Shop) -> None:
    """Its message lay in the hands of a worker that was busy and was killed; the next one has come too late."""
    busy = shop.open(concurrency=1)
    first = shop.delay("wait:never", connector="long")
    until(lambda: shop.ledger.entries("called", first.id), what="the call")
    handle = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), {"business_key": "b"}, expires=1)
    busy.killpg()
    busy.wait()
    until(lambda: expired(shop, handle.id), what="the expiry")
    assert handle.status in ("PENDING", "CANCELLED")
    shop.worker()
    assert shop.ends(handle, "CANCELLED", "CONFIRMED", "UNKNOWN") == "CANCELLED"
    assert handle.effect.reason == "expired"
    assert shop.tape.dispatch(handle.id)[handle.id] == "nothing_to_do"
    assert shop.ledger.entries("called", handle.id) == []
    assert shop.kinds(handle) == ["recorded", "expired"]
    shop.is_sound()


def test_an_expiry_does_not_hide_a_call_whose_worker_died(shop: Shop) -> None:
    """It passes in mid-call. What landed is CONFIRMED, what did not is not sent again, and where nobody can look
    ("patient" cannot) a person has to."""
    ends = {
        ("land", "non_idempotent", "steady"): "CONFIRMED",
        ("land", "idempotent", "steady"): "CONFIRMED",
        ("", "non_idempotent", "steady"): "FAILED",
        ("", "idempotent", "steady"): "CANCELLED",
        ("land", "idempotent", "patient"): "STUCK",
        ("", "non_idempotent", "patient"): "STUCK",
    }
    shop.open(concurrency=len(ends))
    made = {}
    for landed, semantics, connector in ends:
        script = ["wait:on", *([landed] if landed else []), "kill9"]
        options = {"semantics": semantics, "allow_unsafe": True, "business_key": f"{landed}-{semantics}"}
        request = {"script": script}
        made[landed, semantics, connector] = shop.tape.effect.apply_async((connector, request), options, expires=SOON)
        shop.send_what_is_held()  # a child that is killed takes no other call with it
    for handle in made.values():
        until(lambda handle=handle: shop.ledger.entries("called", handle.id), what="the call")
    for handle in made.values():
        until(lambda handle=handle: expired(shop, handle.id), what="the expiry")
    shop.gate("on")
    settled = ("CONFIRMED", "FAILED", "CANCELLED", "STUCK")
    assert {case: shop.ends(handle, *settled, timeout=40) for case, handle in made.items()} == ends
    for (landed, _, _), handle in made.items():
        assert len(shop.ledger.entries("called", handle.id)) == 1
        assert shop.landings(handle) == bool(landed)
        assert shop.entry(handle, "lapsed").at_ms > handle.effect.expires_at_ms
        assert shop.tape.obligations(effect_key=handle.id) == []
    shop.is_sound()
