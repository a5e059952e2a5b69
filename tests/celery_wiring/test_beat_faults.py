"""No beat, a beat that is killed, a beat that has lost its schedule, and sweeps that come faster than they end."""

from pathlib import Path

import pytest
import redis

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import until

HERD = 400


def each_landed_once(shop: Shop, handles: list) -> None:
    for handle in handles:
        shop.ends(handle, "CONFIRMED", timeout=60)
    assert [shop.landings(handle) for handle in handles] == [1] * len(handles)
    assert len(shop.ledger.entries("called")) == len(handles)
    shop.is_sound()


def test_without_a_beat_hints_work_and_what_needs_a_sweep_waits_visibly(shop: Shop) -> None:
    """A killed child's effect stays as it is, the live audit names it, and a beat that comes later ends it."""
    shop.worker()
    told, killed = shop.delay(), shop.delay("land", "kill9")
    shop.ends(told, "CONFIRMED")
    until(lambda: shop.landings(killed), what="the landing")
    (overdue,) = until(lambda: shop.tape.audit(live=True), timeout=60, what="the live audit to name it")
    assert overdue.key == killed.id
    assert shop.tape.get(killed.id).status == "DISPATCHING"
    shop.beat()
    each_landed_once(shop, [told, killed])
    assert shop.tape.audit(live=True) == []


@pytest.mark.parametrize("rubbish", [b"", b"no database at all" * 100], ids=["empty", "rubbish"])
def test_a_beat_that_was_killed_and_has_lost_its_schedule_goes_on(shop: Shop, tmp_path: Path, rubbish: bytes) -> None:
    """Its file is empty or spoiled when it starts again: sweeps keep no state, so that a start is enough."""
    shop.worker()
    schedule = tmp_path / "schedule"
    beat = shop.beat(extra=["-s", str(schedule)])
    before = shop.delay("land", "kill9")
    shop.ends(before, "CONFIRMED")
    beat.kill()
    beat.wait()
    between = shop.delay("land", "kill9")
    until(lambda: shop.landings(between), what="the landing")
    for file in tmp_path.glob("schedule*"):
        file.write_bytes(rubbish)
    shop.beat(extra=["-s", str(schedule)])
    each_landed_once(shop, [before, between])


def test_sweeps_that_come_faster_than_they_end_double_nothing(make_shop: MakeShop) -> None:
    """Hundreds of rows without a hint, and three beats ten times a second: each row is called once."""
    shop = make_shop(sweep_seconds=0.1)
    handles = [shop.delay() for _ in range(HERD)]
    redis.Redis.from_url(shop.conf["broker_url"]).delete("tape.dispatch")
    workers = [shop.worker(ready=False) for _ in range(2)]
    for _ in range(3):
        shop.beat(ready=False)
    each_landed_once(shop, handles)
    # A claim that a slow machine makes too late is handed back unsent, which is no call.
    assert all(len(shop.ledger.entries("called", handle.id)) == 1 for handle in handles)
    assert {kind for handle in handles for kind in shop.kinds(handle)} <= {"recorded", "claimed", "unsent", "confirmed"}
    assert all(worker.alive for worker in workers)


def test_sweeps_that_piled_up_cost_next_to_nothing(shop: Shop) -> None:
    """A night without workers: a thousand messages to sweep, of which one is made in each half interval."""
    for _ in range(1000):
        shop.app.send_task("tape.sweep", queue="tape.sweep")
    handle = shop.delay()
    redis.Redis.from_url(shop.conf["broker_url"]).delete("tape.dispatch")
    worker = shop.worker(concurrency=1)
    worker.wait_for(lambda: worker.text().count("Task tape.sweep") >= 2000, 60)
    assert worker.text().count("swept:") <= 60
    shop.beat()
    each_landed_once(shop, [handle])
