"""Ordering keys over real workers: a call whose worker died holds its key until it is known what became of it."""

import os
import signal

from tests.celery_wiring.conftest import Shop
from tests.servers import until

KEY = "account-7"


def test_a_call_whose_worker_was_killed_holds_its_key_until_it_is_known(any_shop: Shop) -> None:
    """Three more wait behind it in the hands of two workers, and are called one by one after it was looked at."""
    shop = any_shop
    shop.open(concurrency=3)
    shop.worker(concurrency=2)
    first = shop.delay("land", "wait:never", ordering_key=KEY, connector="long")
    rest = [shop.delay("land", "raise", ordering_key=KEY, connector=name) for name in ("bank", "till", "bank")]
    (landed,) = until(lambda: shop.ledger.entries("landed", first.id), what="the landing")
    free = shop.delay(ordering_key="another")
    shop.ends(free, "CONFIRMED")
    assert [entry["key"] for entry in shop.ledger.entries("called")] == [first.id, free.id]
    os.kill(landed["pid"], signal.SIGKILL)
    for handle in (first, *rest):
        shop.ends(handle, "CONFIRMED", timeout=60)
    called = [entry["key"] for entry in shop.ledger.entries("called") if entry["key"] != free.id]
    assert called == [first.id, *[handle.id for handle in rest]]
    ends = [shop.tape.get(handle.id).ended_at_ms for handle in (first, *rest)]
    begins = [shop.entry(handle, "claimed").at_ms for handle in (first, *rest)]
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))
    shop.is_sound()


def test_a_worker_killed_before_it_hints_the_next_loses_nothing(shop: Shop) -> None:
    """kill -9 just after the seal: the row of the next one was woken with it, and a sweep finds it."""
    shop.open(failpoints="dispatch.sealed=kill9*1")
    handles = [shop.delay(ordering_key=KEY) for _ in range(3)]
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    shop.reached("dispatch.sealed")
    assert [entry["key"] for entry in shop.ledger.entries("landed")] == [handle.id for handle in handles]
