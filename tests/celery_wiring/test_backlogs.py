"""More than can be done at once: hoarded, delivered again and again, all due together, or waiting behind others."""

import base64
import json
import re

import redis

from tape_celery import connectors
from tape_celery.connectors import DispatchResult
from tape_celery.records import Effect
from tape_celery.sweep import BATCH
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.celery_wiring.test_brokers import SOON
from tests.celery_wiring.upstream import Blind
from tests.servers import until

HERD = 150


def each_landed_once(shop: Shop, handles: list) -> None:
    for handle in handles:
        shop.ends(handle, "CONFIRMED", timeout=60)
    assert [shop.landings(handle) for handle in handles] == [1] * len(handles)
    assert len(shop.ledger.entries("called")) == len(handles)
    shop.is_sound()


def test_what_a_busy_worker_hoards_is_done_by_others(make_shop: MakeShop) -> None:
    """One call that does not end, and as many hints in its worker's hands as it takes: others do them meanwhile.

    Until its hands are full it may take the sweep's hints as well: its prefetch bounds for how long.
    """
    shop = make_shop(conf={"worker_prefetch_multiplier": 10})
    hoarder = shop.worker("tape.dispatch", concurrency=1)
    busy = shop.delay("land", "wait:done", connector="long")
    until(lambda: shop.landings(busy), what="the landing")
    hoarded = [shop.alone() for _ in range(20)]
    hoarder.wait_for(lambda: len(re.findall(r"Task tape\.dispatch\[.+?\] received", hoarder.text())) >= 10)
    shop.open()
    for handle in hoarded:
        shop.ends(handle, "CONFIRMED", timeout=40)
    assert shop.tape.get(busy.id).status == "DISPATCHING"
    shop.gate("done")
    each_landed_once(shop, [busy, *hoarded])
    assert shop.kinds(busy) == ["recorded", "claimed", "confirmed"]


def test_a_message_that_is_delivered_again_while_its_call_runs_is_one_call(make_shop: MakeShop) -> None:
    """A visibility timeout of one second under a call of several: every worker gets the hint, one has the lease."""
    shop = make_shop(conf={"broker_transport_options": SOON})
    workers = [shop.worker("tape.dispatch", concurrency=1) for _ in range(3)]
    handle = shop.delay("land", "wait:done", connector="long")

    def deliveries() -> int:
        return sum(worker.text().count("Task tape.dispatch") for worker in workers)

    until(lambda: deliveries() >= 3, timeout=40, what="the same hint in other hands")
    assert shop.tape.get(handle.id).status == "DISPATCHING"
    shop.gate("done")
    each_landed_once(shop, [handle])
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]


def test_an_effect_that_is_due_later_waits_in_the_store_and_in_no_message(make_shop: MakeShop) -> None:
    """A countdown longer than the visibility timeout: nothing is in the broker that could be delivered again early."""
    shop = make_shop(conf={"broker_transport_options": SOON})
    raw = redis.Redis.from_url(shop.conf["broker_url"])
    request = {"script": ["land"]}
    later = [
        shop.tape.effect.apply_async(("bank", request), {"business_key": f"later-{n}"}, countdown=3) for n in range(3)
    ]
    assert not raw.exists("tape.dispatch", "unacked")
    shop.open()
    now = shop.delay()
    shop.ends(now, "CONFIRMED")
    each_landed_once(shop, [now, *later])
    for handle in later:
        effect = shop.tape.get(handle.id)
        claimed = shop.entry(handle, "claimed")
        assert claimed.at_ms >= effect.created_at_ms + 3000, "not before its time, by the database's clock"


def test_a_herd_after_an_outage_is_looked_at_apart_and_ends(make_shop: MakeShop) -> None:
    """All answers of an outage are lost and every look fails; when it is over, each is found, and none was sent again.

    Backoff has jitter, so that the looks of a herd do not come at one moment.
    """
    shop = make_shop(
        backoff_base_seconds=1.0,
        backoff_cap_seconds=2.0,
        observe_attempts=100,
        connectors=["tests.celery_wiring.apps.bad_banks"],
    )
    shop.gate("outage")
    shop.open(concurrency=3)
    handles = [shop.delay("land", "raise", connector="unreachable") for _ in range(HERD)]
    until(
        lambda: all(effect.looks for effect in shop.tape.effects(connector="unreachable", limit=HERD)),
        timeout=60,
        what="a look at each, in vain",
    )
    waiting = shop.tape.effects(connector="unreachable", limit=HERD)
    assert {effect.status for effect in waiting} == {"UNKNOWN"}
    waits = {effect.due_at_ms - effect.updated_at_ms for effect in waiting if effect.lease_until_ms is None}
    assert len(waits) > len(waiting) / 4, "their next looks are spread"
    (shop.directory / "outage").unlink()
    each_landed_once(shop, handles)


def test_what_waits_longest_is_hinted_first(make_shop: MakeShop) -> None:
    """More rows are due than one sweep takes: the oldest come first, and the next sweep goes on behind them."""
    shop = make_shop(relay_seconds=60)
    connectors.register(Nothing())
    raw = redis.Redis.from_url(shop.conf["broker_url"])
    keys = [shop.delay(connector="nothing").id for _ in range(BATCH + 20)]
    published: list[str] = []
    until(lambda: published.extend(hinted(raw)) or len(published) == len(keys), what="the hints of all")
    assert set(published) == set(keys)
    shop.tape.database.shift_ms = 61_000
    shop.tape.sweep()
    first = hinted(raw)
    young = [shop.delay(connector="nothing").id for _ in range(5)]
    of_young: list[str] = []
    until(lambda: of_young.extend(hinted(raw)) or len(of_young) == len(young), what="the hints of the young")
    assert of_young == young
    shop.tape.sweep()
    second = hinted(raw)
    assert len(first) == BATCH
    assert sorted(first + second) == sorted(keys), "each once, and none of the young before its time"
    made = {key: shop.tape.get(key).created_at_ms for key in keys}
    assert max(made[key] for key in first) <= min(made[key] for key in second)


class Nothing:
    """A connector that nobody calls here."""

    name = "nothing"

    def dispatch(self, effect: Effect) -> DispatchResult:
        raise AssertionError(effect)


def hinted(raw: redis.Redis) -> list[str]:
    """The keys of all hints to dispatch in the broker, in the order in which they came; they are taken out."""
    with raw.pipeline(transaction=True) as at_once:  # a hint that comes between reading and deleting would be lost
        found, _ = at_once.lrange("tape.dispatch", 0, -1).delete("tape.dispatch").execute()
    messages = [json.loads(message) for message in reversed(found)]
    return [key for message in messages for key in json.loads(base64.b64decode(message["body"]))[0][0]]


def test_a_connector_with_a_queue_of_its_own_does_not_wait_behind_the_backlog_of_another(shop: Shop) -> None:
    """One worker of both queues takes them in turn."""
    connectors.register(Blind("express", dispatch_queue="express"))
    worker = shop.worker("tape.dispatch", "express", concurrency=1)
    busy = shop.delay("wait:open", "land", connector="long")
    worker.wait_for(lambda: shop.ledger.entries("called"))
    backlog = [shop.delay() for _ in range(20)]
    hurry = shop.delay(connector="express")
    shop.gate("open")
    each_landed_once(shop, [busy, *backlog, hurry])
    landed = [entry["key"] for entry in shop.ledger.entries("landed")]
    assert landed.index(hurry.id) <= 2
