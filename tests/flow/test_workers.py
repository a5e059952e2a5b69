"""Real workers drain what is limited at its limit, and nothing else waits for it."""

from __future__ import annotations

from itertools import accumulate

from tape_celery import connectors
from tests.celery_wiring.conftest import MakeShop
from tests.flow.conftest import WHO, Bank
from tests.servers import until


def test_a_limited_backlog_drains_at_its_limit_and_stalls_nobody(make_shop: MakeShop, postgres_url: str) -> None:
    """Two at once at the one upstream, ten a second at the other, as those see it; each lands once, at one attempt."""
    shop = make_shop(store_url=postgres_url)
    for name in ("long", "vault", "till"):
        connectors.register(Bank(name))
    shop.tape.limit("long", at_once=2, **WHO)
    shop.tape.limit("vault", rate="10/second", **WHO)
    slow = [shop.delay("wait:open", "land", connector="long") for _ in range(8)]
    shop.send_what_is_held()
    shop.open(concurrency=4)
    until(lambda: len(shop.ledger.entries("called")) == 2, what="two calls")
    paced = [shop.delay(connector="vault") for _ in range(15)]
    for handle in paced:
        shop.ends(handle, "CONFIRMED")
    shop.ends(shop.delay(connector="till"), "CONFIRMED")
    assert len({line["key"] for line in shop.ledger.entries("called")} & {handle.id for handle in slow}) == 2
    shop.gate("open")
    for handle in slow:
        shop.ends(handle, "CONFIRMED")
    keys = {handle.id for handle in slow}
    steps = [{"called": 1, "landed": -1}[line["event"]] for line in shop.ledger.entries() if line["key"] in keys]
    assert max(accumulate(steps)) == 2
    went = sorted(shop.entry(handle, "claimed").at_ms for handle in paced)
    assert all(later - earlier >= 1000 for earlier, later in zip(went, went[10:], strict=False))
    assert went[-1] - went[0] < 8000, "a sweep comes each 0.4 s, and hints all that may go until the next"
    for handle in [*slow, *paced]:
        assert (shop.tape.get(handle.id).attempt, shop.landings(handle)) == (1, 1)
    shop.is_sound()
