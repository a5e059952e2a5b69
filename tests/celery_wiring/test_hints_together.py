"""Hints that come one right after the other ride together, over a real broker; none is lost by it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tape_celery import publisher
from tape_celery.publisher import Publisher
from tests.celery_wiring.conftest import Shop
from tests.celery_wiring.test_messages import broker, decoded
from tests.servers import until


def hinted(shop: Shop) -> list[list[str]]:
    """The keys of each message of the dispatch queue, in the order in which they were published."""
    return [decoded(raw)[0][0][0] for raw in reversed(broker(shop).lrange("tape.dispatch", 0, -1))]


def every_key(shop: Shop, number: int) -> list[str]:
    """Wait until that many keys were published, and return them, each as often as it was."""

    def published() -> list[str]:
        found = [key for keys in hinted(shop) for key in keys]
        return found if len(found) >= number else []

    return until(published, what=f"{number} keys")


def test_the_first_goes_at_once_and_what_follows_rides_together(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """In far fewer messages than effects, none with more keys than a worker claims at once; each key goes once."""
    monkeypatch.setattr(publisher, "GATHER_SECONDS", 0.5)  # whatever a machine takes for one call
    first = shop.delay()
    assert hinted(shop) == [[first.id]], "published before delay() returns"
    handles = [first, *(shop.delay() for _ in range(100))]
    assert sorted(every_key(shop, 101)) == sorted(handle.id for handle in handles)
    sizes = [len(keys) for keys in hinted(shop)]
    assert max(sizes) <= shop.tape.settings.chunk_size
    assert len(sizes) < 80
    shop.worker("tape.dispatch")
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
        assert shop.landings(handle) == 1


def test_nothing_is_held_for_longer_after_many_than_after_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is full goes before its time is up, and what comes after it waits from then on, not from when that was."""
    monkeypatch.setattr(publisher, "GATHER_SECONDS", 600.0)
    full = shop.tape.settings.chunk_size
    for _ in range(1 + 3 * full + 1):
        shop.delay()
    every_key(shop, 1 + 3 * full)
    (last,) = shop.tape._publishing()._open.values()
    assert len(last.keys) == 1
    assert last.due - last.began <= 600.0, "the wait of one"


def test_only_what_is_alike_rides_together(shop: Shop) -> None:
    """One connector and one urgency a message: a slow connector holds up no other, and what is urgent does not wait."""
    alike: dict[str, tuple[Any, ...]] = {}
    for number in range(60):
        urgency = 9 * (number % 2)
        alike[shop.delay(priority=urgency).id] = ("bank", urgency)
    every_key(shop, 60)
    for keys in hinted(shop):
        assert len({alike[key] for key in keys}) == 1


def test_a_process_that_ends_publishes_what_it_holds(shop: Shop) -> None:
    """A script that asks for some effects and is over: their workers need no sweep to find them."""
    code = "for n in range(30): shop.tape.effect.delay('bank', {'n': n}, business_key=f'w-{n}')"
    assert shop.run(code).wait() == 0
    recorded = {effect.effect_key for effect in shop.tape.effects()}
    assert {key for keys in hinted(shop) for key in keys} == recorded


def test_the_end_waits_for_what_is_being_sent_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is full is held no longer, and is not at the broker yet."""
    send, begun, go = Publisher._send, threading.Event(), threading.Event()

    def slow(publishing: Publisher, connection: Any, hint: Any) -> None:
        if len(hint.keys) > 1:
            begun.set()
            go.wait(30)
        send(publishing, connection, hint)

    monkeypatch.setattr(Publisher, "_send", slow)
    monkeypatch.setattr(publisher, "GATHER_SECONDS", 600.0)
    full = shop.tape.settings.chunk_size
    for _ in range(1 + full):
        shop.delay()
    assert begun.wait(30)
    assert not shop.tape._publishing()._open
    with ThreadPoolExecutor(1) as ending:
        ended = ending.submit(shop.tape._publishing().flush)
        with pytest.raises(TimeoutError):
            ended.result(0.2)
        go.set()
        ended.result(30)
    assert sum(map(len, hinted(shop))) == 1 + full


def test_what_a_killed_process_held_is_found_by_the_sweep(shop: Shop) -> None:
    """kill -9 right after delay() has returned."""
    code = (
        "import os\nfor n in range(30): shop.tape.effect.delay('bank', {'n': n}, business_key=f'w-{n}')\n"
        "os.kill(os.getpid(), 9)"
    )
    assert shop.run(code).wait() == -9
    shop.open()
    for effect in shop.tape.effects():
        shop.ends(effect.effect_key, "CONFIRMED")
        assert shop.landings(effect.effect_key) == 1
