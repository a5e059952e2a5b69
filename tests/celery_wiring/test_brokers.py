"""One suite for every broker: whatever it loses, repeats or withholds, each effect lands once and none is lost."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.celery_wiring.brokers import Broker, FolderBroker, ServerBroker
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.celery_wiring.test_redelivery import hint
from tests.servers import Process, until

KINDS = ("redis", "rabbitmq", "filesystem")
FIRST_SECONDS, NEXT_SECONDS = 1.5, 0.5
SOON = {"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
"""After how many seconds Redis gives a message to another worker. kombu 5.7 looks for such messages once in interval x
throttle seconds, by default 10 x 10. RabbitMQ sees for itself that a worker is gone.
"""


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    """Each broker, empty."""
    if request.param == "filesystem":
        return FolderBroker(tmp_path)
    server = request.getfixturevalue({"redis": "redis_server", "rabbitmq": "rabbitmq"}[request.param])
    url = request.getfixturevalue(f"{request.param}_url")
    return ServerBroker(server, url, SOON if request.param == "redis" else {})


@pytest.fixture(params=KINDS)
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    """Each broker, to be stopped by this test."""
    if request.param == "filesystem":
        return FolderBroker(tmp_path)
    server = request.getfixturevalue(f"own_{request.param}")
    return ServerBroker(server, server.url)


@pytest.fixture
def shop(make_shop: MakeShop, broker: Broker) -> Shop:
    """A shop on each broker."""
    return make_shop(broker_url=broker.conf["broker_url"], conf=broker.conf)


def lose_hints(shop: Shop) -> int:
    """Empty the queue of hints to dispatch; how many there were."""
    with shop.app.connection() as connection:
        return int(connection.default_channel.queue_purge("tape.dispatch"))


def received(worker: Process, task: str) -> int:
    """How often that message has come to the worker."""
    return len(re.findall(rf"Task tape\.\w+\[{task}\] received", worker.text()))


def each_landed_once(shop: Shop, handles: list) -> None:
    for handle in handles:
        shop.ends(handle, "CONFIRMED", timeout=40)
    assert [shop.landings(handle) for handle in handles] == [1] * len(handles)
    assert len(shop.ledger.entries("called")) == len(handles)
    shop.is_sound()


def test_a_hint_brings_an_effect_to_its_end_and_a_sweep_finds_a_lost_answer(shop: Shop, broker: Broker) -> None:
    """Hints that came before the worker and after it, without any beat; and with one, what they could not end."""
    before = [shop.delay() for _ in range(5)]
    worker = shop.worker(pool=broker.pool)
    after = [shop.delay() for _ in range(5)]
    for handle in before + after:
        shop.ends(handle, "CONFIRMED")
    shop.beat()
    lost = shop.delay("land", "raise")
    each_landed_once(shop, [*before, *after, lost])
    assert worker.alive


def test_a_worker_killed_in_mid_call_is_a_lost_answer(shop: Shop, broker: Broker) -> None:
    """The call had landed when its process was killed: the upstream is asked, and nothing is sent again."""
    worker = shop.open(pool=broker.pool)
    handle = shop.delay("land", "wait:never")
    (landed,) = until(lambda: shop.ledger.entries("landed", handle.id), what="the landing")
    os.kill(landed["pid"], signal.SIGKILL)
    if landed["pid"] == worker.pid:
        shop.worker(pool=broker.pool)
    each_landed_once(shop, [handle])
    assert shop.entry(handle, "lapsed").status == "UNKNOWN"


def test_a_message_that_died_with_its_worker_and_comes_again_does_nothing(shop: Shop, broker: Broker) -> None:
    """The whole worker is lost in mid-call, with more hints in its hands. What the broker brings again finds the call
    made; what it does not bring, the sweep does.
    """
    lost = shop.worker(pool=broker.pool, concurrency=1)
    first = shop.delay("land", "wait:never")
    until(lambda: shop.landings(first), what="the landing")
    (task,) = re.findall(r"Task tape\.dispatch\[(.+?)\] received", lost.text())
    others = [shop.delay() for _ in range(5)]
    lost.killpg()
    worker = shop.open(pool=broker.pool)
    each_landed_once(shop, [first, *others])
    if broker.redelivers:
        worker.wait_for(lambda: received(worker, task), 30)
        worker.wait_for(re.compile(rf"Task tape\.dispatch\[{task}\] succeeded"))
    each_landed_once(shop, [first, *others])


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"], indirect=True)
def test_an_apps_own_task_that_comes_again_meets_its_own_effect(shop: Shop) -> None:
    """Its child was killed right after `.delay`, and the broker gives the message to another."""
    worker = shop.open()
    sent = shop.app.send_task("shop.order", [{"script": ["land"]}, "kill once"])
    worker.wait_for(f"Task shop.order[{sent.id}] succeeded", 30)
    (effect,) = shop.tape.effects()
    assert effect.run_id == sent.id
    each_landed_once(shop, [shop.tape.handle(effect.effect_key)])


def test_hints_that_the_broker_loses_are_made_up_by_the_sweep(shop: Shop, broker: Broker) -> None:
    """The queue is emptied before anybody has read it, and again under a running worker."""
    handles = [shop.delay() for _ in range(5)]
    shop.tape._publishing().flush()
    assert lose_hints(shop)
    shop.open(pool=broker.pool)
    for _ in range(5):
        handles.append(shop.delay())
        lose_hints(shop)
    each_landed_once(shop, handles)


def test_the_same_hint_ten_times_at_once_and_a_week_late_is_one_call(shop: Shop, broker: Broker) -> None:
    """In parallel, and of every kind when all is over: the row, its journal and the upstream do not notice."""
    handles = [shop.delay() for _ in range(3)]
    keys = [handle.id for handle in handles]
    early = [hint(shop, "tape.dispatch", keys) for _ in range(9)]
    worker = shop.worker(pool=broker.pool, concurrency=4)
    each_landed_once(shop, handles)
    worker.wait_for(lambda: all(f"[{task}] succeeded" in worker.text() for task in early))
    before = ([(shop.tape.get(key), shop.tape.journal(key)) for key in keys], shop.ledger.entries())
    late = [hint(shop, f"tape.{verb}", keys) for verb in ("compensate", "observe", "dispatch", "observe", "dispatch")]
    worker.wait_for(lambda: all(f"[{task}] succeeded" in worker.text() for task in late))
    assert before == ([(shop.tape.get(key), shop.tape.journal(key)) for key in keys], shop.ledger.entries())


def test_a_broker_that_stops_before_during_and_after_a_delay_costs_a_moment(
    make_shop: MakeShop, own_broker: Broker
) -> None:
    """Each `.delay()` is bounded and committed, and when the broker is back nothing is lost and nobody is restarted."""
    shop = make_shop(broker_url=own_broker.conf["broker_url"], conf=own_broker.conf)
    handles = [shop.delay() for _ in range(3)]  # it stops after these
    own_broker.stop()
    began = time.monotonic()
    handles.append(shop.delay())  # it is away in the middle of the producer's life
    first = time.monotonic() - began
    handles += [shop.delay() for _ in range(10)]
    assert first <= FIRST_SECONDS
    assert time.monotonic() - began - first < NEXT_SECONDS
    assert [handle.status for handle in handles] == ["PENDING"] * len(handles)
    own_broker.start()
    until(lambda: shop.tape.hint("dispatch", "bank", ["no-such-key"]), what="a hint that is taken", interval=0.1)
    shop.open(pool=own_broker.pool)
    each_landed_once(shop, handles)


def test_a_broker_that_stops_under_a_worker_in_mid_call_loses_nothing(make_shop: MakeShop, own_broker: Broker) -> None:
    """The call ends and its answer is sealed, though it cannot be acknowledged. Then the same worker goes on, or, where
    the loss of Redis with a message in its hands has ended it (kombu 5.7), the next that a supervisor starts.
    """
    shop = make_shop(broker_url=own_broker.conf["broker_url"], conf=own_broker.conf, lease_seconds=30)
    worker = shop.open(pool=own_broker.pool)
    calling = shop.delay("land", "wait:broker is away")
    until(lambda: shop.landings(calling), what="the landing")
    own_broker.stop()
    meanwhile = [shop.delay() for _ in range(3)]
    shop.gate("broker is away")
    shop.ends(calling, "CONFIRMED")
    own_broker.start()
    shop.supervise(worker, lambda: all(map(shop.landings, meanwhile)), pool=own_broker.pool)
    each_landed_once(shop, [calling, *meanwhile])
    assert shop.kinds(calling) == ["recorded", "claimed", "confirmed"]
