"""Garbage put directly on each of the four queues: it is dropped, and every sound effect around it goes its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tape_celery.app import embedded_broker
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.hostile import messages
from tests.hostile.brokers import QUEUES, Broker, Folder, RabbitMQ, Redis
from tests.servers import Process, until

LONGEST_LOG = 4_000_000
NO_MESSAGES = {
    "redis": {"tape.dispatch": b"not json", "tape.sweep": b"[]"},
    "filesystem": {"tape.observe": b"\xff\xfe", "tape.compensate": b'{"body": "half'},
}
"""What is no message at all: kombu ends its worker over it, when it has taken it out of the queue."""


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    """The broker that the test names."""
    match request.param:
        case "redis":
            return Redis(request.getfixturevalue("redis_url"))
        case "rabbitmq":
            return RabbitMQ(request.getfixturevalue("rabbitmq_url"))
        case _:
            return Folder(embedded_broker(f"sqlite:///{tmp_path / 'tape.db'}"))


@pytest.fixture
def shop(broker: Broker, make_shop: MakeShop) -> Shop:
    """A shop on that broker."""
    return make_shop(broker_url=broker.conf["broker_url"], conf=broker.conf)


def worker(shop: Shop, **how: Any) -> Process:
    return shop.worker(pool=shop.conf.get("worker_pool", "prefork"), **how)


class Sound:
    """Effects of every kind, and what must have become of them in the end."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.landed = [shop.delay(), shop.delay(semantics="idempotent")]
        self.lost = shop.delay("land", "raise")
        """Confirmed by a look."""
        self.returned = shop.delay()

    def are_done(self) -> None:
        """Each landed once, nothing was done twice, and what was owed is paid."""
        shop = self.shop
        for handle in (*self.landed, self.lost, self.returned):
            shop.ends(handle, "CONFIRMED", timeout=30)
            assert shop.landings(handle) == 1
        shop.tape.owe(self.returned.id, reason="returned", actor="a person")

        def paid() -> bool:
            return [one.status for one in shop.tape.obligations(effect_key=self.returned.id)] == ["COMPENSATED"]

        until(paid, timeout=30, what="the inverse")


def holds_nothing_but(shop: Shop, *sound: Sound, waiting: int = 0) -> None:
    """No other effect was made, nobody else was called, and every invariant holds."""
    assert len(shop.tape.effects()) == 4 * len(sound) + waiting
    assert len(shop.ledger.entries("called")) == 4 * len(sound)
    assert len(shop.ledger.entries("undone")) == len(sound)
    shop.is_sound()


def strangers(shop: Shop, trap: Path, waiting: str) -> dict[str, list[messages.Message]]:
    """What is put on each queue: its own garbage, and the keys of rows that it has no business with."""
    return {
        queue: [
            *messages.dropped(queue, trap),
            *(messages.calling(f"tape.{verb}", [waiting]) for verb in messages.HINTS),
        ]
        for queue in QUEUES
    }


@pytest.mark.parametrize("broker", ["redis", "rabbitmq", "filesystem"], indirect=True)
def test_garbage_on_every_queue_is_dropped_and_the_effects_around_it_go_on(
    broker: Broker, shop: Shop, tmp_path: Path
) -> None:
    """The same worker, from the first of it to the last, with nothing left behind, run, or made of it."""
    trap = tmp_path / "unpickled"
    if isinstance(broker, RabbitMQ):
        broker.declare()
    before = Sound(shop)
    later = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), countdown=3600, business_key="later")
    for queue, garbage in strangers(shop, trap, later.id).items():
        for one in garbage:
            broker.put(queue, one)
    behind = Sound(shop)
    running = worker(shop)
    shop.beat()
    before.are_done()
    behind.are_done()
    until(lambda: broker.left() == 0, timeout=60, what="empty queues")
    after = Sound(shop)
    after.are_done()
    holds_nothing_but(shop, before, behind, after, waiting=1)
    assert later.status == "PENDING"
    assert running.alive
    assert not trap.exists(), "what was pickled was unpickled"
    assert len(running.text()) < LONGEST_LOG


@pytest.mark.parametrize(("broker", "rubbish"), NO_MESSAGES.items(), indirect=["broker"], ids=list(NO_MESSAGES))
def test_what_is_no_message_at_all_ends_a_worker_once_and_restarts_carry_on(
    broker: Any, shop: Shop, rubbish: dict[str, bytes]
) -> None:
    """kombu reads it and dies; by then it is out of the queue, so a supervisor's restart and the sweep go on."""
    shop.beat()
    running = worker(shop)
    for queue, data in rubbish.items():
        sound = shop.delay()
        broker.put_bytes(queue, data)
        assert running.wait() != 0, "a supervisor sees that it has to start another"
        running = worker(shop)
        shop.ends(sound, "CONFIRMED")
        assert shop.landings(sound) == 1
    until(lambda: broker.left() == 0, what="empty queues")
    assert running.alive
    shop.is_sound()
