"""Beats and sweeps may run in any number, and workers may know different connectors."""

import json
import time

import redis

from tests.celery_wiring.conftest import BANK, MakeShop, Shop
from tests.servers import until


def test_three_beats_and_two_sweepers_double_nothing_and_flood_nothing(any_shop: Shop) -> None:
    """Due rows without a dispatcher: their hints are published again once a relay, in chunks, however many sweep."""
    shop = any_shop
    number = 30
    handles = [
        shop.tape.effect.apply_async(("bank", {"script": ["land"]}), {"business_key": f"b{n}"}, countdown=0.1)
        for n in range(number)
    ]
    raw = redis.Redis.from_url(shop.conf["broker_url"])
    sweepers = [shop.worker("tape.sweep", ready=False) for _ in range(2)]
    for _ in range(3):
        shop.beat(ready=False)
    until(lambda: raw.llen("tape.dispatch"), what="the first hints", timeout=20)
    began = time.monotonic()
    until(lambda: all(worker.text().count("Task tape.sweep") >= 10 for worker in sweepers), what="sweeps", timeout=20)
    hints = raw.llen("tape.dispatch")
    relays = (time.monotonic() - began) / shop.settings["relay_seconds"] + 1
    keys_in_flight = sum(_keys(message) for message in raw.lrange("tape.dispatch", 0, -1))
    assert keys_in_flight <= number * (relays + 1), f"{keys_in_flight} keys in {hints} hints after {relays:.1f} relays"
    dispatcher = shop.worker("tape.dispatch", "tape.observe")
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    assert len(shop.ledger.entries("called")) == number
    assert all(shop.kinds(handle) == ["recorded", "claimed", "confirmed"] for handle in handles)
    assert dispatcher.alive
    assert all(worker.alive for worker in sweepers)
    assert not any("Traceback" in worker.text() for worker in [dispatcher, *sweepers])
    shop.is_sound()


def _keys(message: bytes) -> int:
    """How many effects one message in Redis names."""
    import base64

    return len(json.loads(base64.b64decode(json.loads(message)["body"]))[0][0])


def test_a_lease_is_ended_by_one_of_many_sweeps(shop: Shop) -> None:
    """Lost calls under four concurrent sweeps: each lapses once, each is looked at, each landed once."""
    worker = shop.worker("tape.dispatch", concurrency=3)
    handles = [shop.delay("land", "wait:never") for _ in range(3)]
    until(lambda: len(shop.ledger.entries("landed")) == 3, what="the landings")
    worker.killpg()
    others = [shop.worker(concurrency=2, ready=False) for _ in range(2)]
    for _ in range(2):
        shop.beat(ready=False)
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
        assert shop.kinds(handle).count("lapsed") == 1
        assert shop.landings(handle) == 1
    assert all(other.alive for other in others)
    shop.is_sound()


def test_rows_of_an_unknown_connector_wait_and_are_shown(make_shop: MakeShop) -> None:
    """A worker touches only what it knows.

    `status` names the connector that nobody here has, and a worker that has it ends it.
    """
    shop = make_shop()
    worker = shop.open()
    known, strange = shop.delay(), shop.delay(connector="other")
    due = shop.tape.get(strange.id)
    shop.ends(known, "CONFIRMED")
    again = shop.delay()
    shop.ends(again, "CONFIRMED")
    until(lambda: worker.text().count("Task tape.sweep") >= 2, what="two sweeps")
    assert shop.tape.get(strange.id) == due, "its row was not touched, by no dispatch and no sweep"
    status = shop.processes.python(
        "-m", "celery", "-A", "tests.celery_wiring.apps.shop", "tape", "status", env=shop.environment()
    )
    assert status.wait() == 0
    assert "no connector here is named other" in status.text().replace("\n", " ")
    shop.worker(tape={"connectors": [BANK, "tests.celery_wiring.apps.other_bank"]})
    shop.ends(strange, "CONFIRMED")
    assert shop.landings(strange) == 1


def test_workers_with_different_connectors_share_one_store(shop: Shop) -> None:
    """Hints reach the wrong worker half of the time.

    It leaves them alone, and the sweep brings them to the right one.
    """
    shop.open(concurrency=1)
    shop.worker(concurrency=1, tape={"connectors": [BANK, "tests.celery_wiring.apps.other_bank"]})
    handles = [shop.delay(connector=connector) for connector in ("bank", "other") * 5]
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
        assert shop.landings(handle) == 1
    assert len(shop.ledger.entries("called")) == 10
    shop.is_sound()
