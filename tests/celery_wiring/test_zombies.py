"""A worker that is stopped past its lease and wakes up again.

Before it sent, between its check and its call, after its call.
"""

import re
import signal

import pytest
import redis

from tape_celery.handle import EffectHandle
from tests.celery_wiring.conftest import MakeShop, Shop, stopped_child
from tests.servers import Process, until


def zombie(shop: Shop, point: str, **keywords: str) -> tuple:
    """An effect whose worker stopped itself at `point`, and whose lease another worker has ended since."""
    worker = shop.worker(concurrency=1, failpoints=f"{point}=stop*1")
    handle = shop.delay(**keywords)
    child = stopped_child(worker)
    shop.open()
    until(lambda: "lapsed" in shop.kinds(handle), what="the end of the lease")
    return handle, child


def late(shop: Shop, handle: object) -> object:
    """Wait for the zombie's entry in the journal."""
    return until(lambda: [e for e in shop.tape.journal(str(handle)) if e.kind == "late"], what="late evidence")[0]


def test_a_zombie_that_wakes_before_its_call_does_not_send(make_shop: MakeShop) -> None:
    """The trust window has passed.

    It hands the row back unsent, which proves that nothing landed, so it is sent afresh.
    """
    shop = make_shop(settle_seconds=60)
    handle, child = zombie(shop, "dispatch.claimed")
    assert shop.entry(handle, "lapsed").status == "UNKNOWN"
    child.send_signal(signal.SIGCONT)
    shop.ends(handle, "CONFIRMED")
    unsent = late(shop, handle)
    assert (unsent.from_status, unsent.status) == ("UNKNOWN", "PENDING")
    assert unsent.evidence["sent"] is False
    (landed,) = shop.ledger.entries("called")
    assert landed["token"] > unsent.evidence["token"]
    assert shop.landings(handle) == 1
    shop.is_sound()


def test_a_zombie_that_wakes_when_all_is_over_changes_nothing(shop: Shop) -> None:
    """The absence was believed meanwhile and the effect FAILED: what was not sent changes nothing, and is told."""
    handle, child = zombie(shop, "dispatch.claimed")
    shop.ends(handle, "FAILED")
    child.send_signal(signal.SIGCONT)
    assert late(shop, handle).status == "FAILED"
    assert shop.ledger.entries("called") == []
    shop.is_sound()


@pytest.mark.parametrize("settled", [False, True], ids=["while it is UNKNOWN", "after it FAILED"])
def test_what_a_zombie_lands_late_is_never_silent(make_shop: MakeShop, settled: bool) -> None:
    """It slept between its check and its call, which nothing can fence.

    The late landing is told, and after FAILED it is STUCK.
    """
    shop = make_shop(settle_seconds=0.3 if settled else 60)
    handle, child = zombie(shop, "dispatch.checked")
    if settled:
        shop.ends(handle, "FAILED")
    child.send_signal(signal.SIGCONT)
    assert late(shop, handle).evidence["status"] == "confirmed"
    ended = shop.tape.get(handle.id)
    assert ended.status == ("STUCK" if settled else "CONFIRMED")
    assert ended.reason == ("contradiction: reported as landed after it had ended FAILED" if settled else "")
    assert len(shop.ledger.entries("called")) == shop.landings(handle) == 1
    shop.is_sound()


def test_a_zombie_that_wakes_after_its_call_tells_what_is_known_already(any_shop: Shop) -> None:
    """The upstream was asked meanwhile: the same record told late owes nothing and changes nothing."""
    shop = any_shop
    handle, child = zombie(shop, "dispatch.called")
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle)[-1] == "observed"
    child.send_signal(signal.SIGCONT)
    told = late(shop, handle)
    assert (told.from_status, told.status) == ("CONFIRMED", "CONFIRMED")
    assert told.evidence["external_ref"] == f"ref-{handle.id}"
    assert told.token == shop.tape.get(handle.id).token, "the row's token is not the zombie's"
    assert shop.tape.obligations() == []
    assert len(shop.ledger.entries("called")) == shop.landings(handle) == 1
    shop.is_sound()


def test_a_zombie_of_an_idempotent_effect_lands_once_with_its_successor(shop: Shop) -> None:
    """It was sent again under the same key while the zombie slept: two calls, one landing, two tokens."""
    handle, child = zombie(shop, "dispatch.checked", semantics="idempotent")
    shop.ends(handle, "CONFIRMED")
    child.send_signal(signal.SIGCONT)
    late(shop, handle)
    calls = shop.ledger.entries("called")
    assert len({call["token"] for call in calls}) == len(calls) == 2
    assert shop.landings(handle) == 1
    assert shop.tape.get(handle.id).status == "CONFIRMED"
    assert shop.tape.obligations() == []
    shop.is_sound()


def test_a_frozen_worker_does_not_lose_the_message_that_it_holds(shop: Shop) -> None:
    """A whole worker is frozen with hints in its hands.

    The sweep hints again, another worker calls, it wakes to no-ops.
    """
    frozen = shop.worker()
    # Frozen while it says so in an SQLite store, it would keep everybody else out.
    until(shop.tape.workers, what="that it says that it is there")
    handles = frozen_with_a_hint(shop, frozen)
    shop.open()
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    since = frozen.mark()
    frozen.resume()
    frozen.wait_for(re.compile(r"tape\.\w+\[.*succeeded"), since=since)
    assert [shop.landings(handle) for handle in handles] == [1] * 5
    assert [len(shop.ledger.entries("called", handle.id)) for handle in handles] == [1] * 5


def frozen_with_a_hint(shop: Shop, worker: Process) -> list[EffectHandle]:
    """Freeze `worker` while Redis hands it a hint: it waits for one nearly all the time, but not always."""
    queue = redis.Redis.from_url(shop.conf["broker_url"])
    for _ in range(10):
        worker.pause()
        handles = [shop.alone() for _ in range(5)]
        if queue.llen(shop.tape.settings.dispatch_queue) < len(handles):
            return handles
        worker.resume()
        for handle in handles:
            shop.ends(handle, "CONFIRMED")
    raise AssertionError("it never waited for a message when it was frozen")
