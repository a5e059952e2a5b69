"""SIGTERM to a real worker in mid-chunk: it ends within its bound, and nothing is UNKNOWN that need not be."""

import signal
from collections import Counter

import pytest

from tests.celery_wiring.conftest import MakeShop
from tests.servers import until


@pytest.mark.parametrize(("pool", "cold"), [("prefork", False), ("threads", False), ("prefork", True)])
def test_a_worker_that_is_stopped_in_mid_chunk(make_shop: MakeShop, postgres_url: str, pool: str, cold: bool) -> None:
    """Twenty of the sixty effects of one hint are at the upstream, and a second hint waits.

    They end as they would, and the rest is PENDING with no attempt used. With SIGQUIT after it, those twenty alone lose
    their answers.
    """
    shop = make_shop(store_url=postgres_url, lease_seconds=30.0, relay_seconds=30.0, chunk_size=60)
    worker = shop.worker(pool=pool, concurrency=1, tape={"chunk_size": 20})
    parts = [
        {"connector": "bank", "request": {"n": n, "script": ["wait:gate", "land"]}, "business_key": f"b{n}"}
        for n in range(80)
    ]
    keys = [str(handle) for handle in shop.tape.effect.delay_many(parts)]
    until(lambda: len(shop.ledger.entries("called")) == 20, what="twenty calls under way")
    worker.kill(signal.SIGTERM)
    worker.wait_for("worker: Warm shutdown")
    if cold:
        worker.kill(signal.SIGQUIT)
    else:
        shop.gate("gate")
    worker.wait(10)
    assert cold or "Traceback" not in worker.text()
    found = Counter((str(effect.status), effect.attempt) for effect in map(shop.tape.get, keys) if effect)
    assert found == {("DISPATCHING" if cold else "CONFIRMED", 1): 20, ("PENDING", 0): 60}
    assert len(shop.ledger.entries("called")) == 20
    shop.is_sound()
    if not cold:
        shop.worker(pool=pool, concurrency=1)  # no beat: both hints came back to their queue
        for key in keys:
            shop.ends(key, "CONFIRMED")
            assert shop.landings(key) == 1
        assert len(shop.ledger.entries("called")) == 80
