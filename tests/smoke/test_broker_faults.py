"""The broker is restarted, killed, frozen and emptied: messages are lost, effects are not."""

import time

import pytest

from tests.smoke.shop import Shop


@pytest.fixture(scope="module")
def shop_nodes() -> list[str]:
    return ["dispatch_container", "desk_container", "beat_container"]


def test_a_restart_with_effects_in_flight(shop: Shop) -> None:
    """One is in its call, ten wait in the queue: the call ends as if nothing had been, the ten are swept."""
    busy, answer = shop.start_call()
    waiting = [shop.delay() for _ in range(10)]
    shop.setup.broker.restart()
    answer()
    for handle in (busy, *waiting):
        shop.ends(handle, "CONFIRMED", timeout=60)
        assert shop.landed(handle) == len(shop.ledger.entries("called", handle.id)) == 1
    assert "lapsed" not in shop.kinds(busy)


def test_a_broker_that_is_killed_and_brought_back(shop: Shop) -> None:
    """While it is down, effects are recorded and nobody waits; when it is back, they are found."""
    busy, answer = shop.start_call()
    shop.setup.broker.kill()
    began = time.monotonic()
    waiting = [shop.delay() for _ in range(10)]
    assert time.monotonic() - began < 5, "the first waits for a moment, the others do not"
    answer()
    shop.ends(busy, "CONFIRMED")
    assert {shop.status(handle) for handle in waiting} == {"PENDING"}
    shop.setup.broker.restart()
    for handle in (busy, *waiting):
        shop.ends(handle, "CONFIRMED", timeout=60)
        assert shop.landed(handle) == len(shop.ledger.entries("called", handle.id)) == 1


def test_a_broker_that_does_not_answer(shop: Shop) -> None:
    """Frozen, it takes connections and says nothing: a caller waits for a moment only, once."""
    container = shop.setup.broker.container._container
    container.pause()
    began = time.monotonic()
    waiting = [shop.delay() for _ in range(10)]
    assert time.monotonic() - began < 5
    container.unpause()
    for handle in waiting:
        shop.ends(handle, "CONFIRMED", timeout=60)
        assert shop.landed(handle) == 1


def test_a_queue_that_is_emptied(shop: Shop) -> None:
    """Every hint is lost behind the worker's back, and every effect is found."""
    busy, answer = shop.start_call()
    waiting = [shop.delay() for _ in range(10)]
    with shop.tape.app.connection_for_write() as connection:
        for queue in ("tape.dispatch", "tape.observe", "tape.sweep"):
            connection.default_channel.queue_purge(queue)
    answer()
    for handle in (busy, *waiting):
        shop.ends(handle, "CONFIRMED", timeout=60)
        assert shop.landed(handle) == 1


def test_broker_and_worker_are_lost_together(shop: Shop) -> None:
    """SIGKILL of both in the middle of a call: one landing, found by looking."""
    busy, _ = shop.start_call()
    shop.node("dispatch").kill()
    shop.setup.broker.kill()
    waiting = shop.delay()
    shop.setup.broker.restart()
    shop.node("dispatch").restart()
    for handle in (busy, waiting):
        shop.ends(handle, "CONFIRMED", timeout=60)
        assert shop.landed(handle) == len(shop.ledger.entries("called", handle.id)) == 1
    assert "lapsed" in shop.kinds(busy)
