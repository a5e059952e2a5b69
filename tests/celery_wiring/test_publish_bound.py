"""`.delay()` never waits for a broker for long, never fails for it, and loses nothing by it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tape_celery.publisher import GATHER_SECONDS
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import RedisServer, TcpProxy, until

FIRST_SECONDS = 1.9
"""One wait of a second, and some; not two."""
NEXT_SECONDS = 0.9
"""No wait."""


@pytest.fixture
def proxy(own_redis: RedisServer) -> Iterator[TcpProxy]:
    """The network between the producer and its broker."""
    with TcpProxy(own_redis.host, own_redis.port) as between:
        yield between


def timed_delays(shop: Shop, number: int) -> tuple[float, list]:
    """How long `number` calls took together, and their handles."""
    started = time.monotonic()
    handles = [shop.delay() for _ in range(number)]
    return time.monotonic() - started, handles


def no_hint_rides_along() -> None:
    """The hints that went last went so long ago that the next is not gathered with them: it is waited for."""
    over = time.monotonic() + 2 * GATHER_SECONDS
    until(lambda: time.monotonic() > over, what="the end of the gathering")


def all_confirmed(shop: Shop, handles: list) -> None:
    for handle in handles:
        shop.ends(handle, "CONFIRMED", timeout=30)
        assert shop.landings(handle) == 1
    assert len(shop.ledger.entries("called")) == len(handles)


def recovers(shop: Shop) -> None:
    """The same producer publishes again, without a restart: soon a hint is taken at once."""
    until(lambda: shop.tape.hint("dispatch", "bank", ["no-such-key"]), what="a hint that is taken", interval=0.1)


@pytest.mark.parametrize("trouble", ["refuse", "blackhole", "reset"])
def test_a_broker_that_is_away_costs_a_moment_once_and_no_effect(
    make_shop: MakeShop, own_redis: RedisServer, proxy: TcpProxy, trouble: str
) -> None:
    """Refused, accepted and never answered, or reset: the first call waits a bounded moment, the next not at all; the
    sweep
    finds every row, and the producer's hints flow again when the broker is back."""
    shop = make_shop(broker_url=proxy.url(own_redis.url))
    timed_delays(shop, 1)  # a connection that works, as a producer has it in the middle of its life
    no_hint_rides_along()
    proxy.mode = trouble
    first, handles = timed_delays(shop, 1)
    more, others = timed_delays(shop, 20)
    assert first <= FIRST_SECONDS
    assert more < NEXT_SECONDS
    proxy.mode = "pass"
    recovers(shop)
    shop.open()
    all_confirmed(shop, shop_handles(shop))
    assert {handle.id for handle in handles + others} <= {effect.effect_key for effect in shop.tape.effects()}


def shop_handles(shop: Shop) -> list:
    return [shop.tape.handle(effect.effect_key) for effect in shop.tape.effects()]


def test_a_broker_that_never_answered_at_all(make_shop: MakeShop, own_redis: RedisServer, proxy: TcpProxy) -> None:
    """The very first connection of a process goes into the blackhole: bounded just the same."""
    proxy.mode = "blackhole"
    shop = make_shop(broker_url=proxy.url(own_redis.url))
    first, _ = timed_delays(shop, 1)
    more, _ = timed_delays(shop, 20)
    assert first <= FIRST_SECONDS
    assert more < NEXT_SECONDS
    proxy.mode = "pass"
    recovers(shop)


def test_a_broker_killed_between_and_under_the_calls(make_shop: MakeShop, own_redis: RedisServer) -> None:
    """kill -9 with hints in it, away, then back and empty: nothing is lost, and nobody restarts a producer or beat."""
    shop = make_shop(broker_url=own_redis.url)
    _, before = timed_delays(shop, 5)
    own_redis.kill9()
    took, during = timed_delays(shop, 5)
    assert took <= FIRST_SECONDS
    own_redis.start()
    worker = shop.open()
    all_confirmed(shop, [*before, *during])
    own_redis.kill9()  # now under a running worker and beat
    _, under = timed_delays(shop, 5)
    own_redis.start()
    recovers(shop)
    shop.supervise(worker, lambda: all(map(shop.landings, under)))
    all_confirmed(shop, [*before, *during, *under])


def test_a_child_of_a_producer_publishes_by_itself(
    make_shop: MakeShop, own_redis: RedisServer, proxy: TcpProxy
) -> None:
    """After os.fork, with the broker well and with it away: a connection, a thread and a bound of its own."""
    shop = make_shop(broker_url=proxy.url(own_redis.url))
    code = """
import os, time
def make(name):
    started = time.monotonic()
    key = shop.tape.effect.delay('bank', {'number': name}, business_key=name).id
    took = time.monotonic() - started
    print(f'{name} {took < 1.5}', flush=True)
def in_child(name):
    child = os.fork()
    if not child:
        try:
            make(name)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
make('parent'); in_child('child')
print('now the broker goes away', flush=True)
while not os.path.exists(os.environ['BANK'] + '/away'): time.sleep(0.01)
make('parent away'); in_child('child away'); in_child('another child away')
print('now it comes back', flush=True)
while not os.path.exists(os.environ['BANK'] + '/back'): time.sleep(0.01)
in_child('child back')
while not shop.tape.hint('dispatch', 'bank', ['no-such-key']): time.sleep(0.05)
print('the parent hints again', flush=True)
"""
    producer = shop.run(code)
    producer.wait_for("now the broker goes away")
    hints = _hints(own_redis)
    assert hints == 2, "one from the parent, one from its child"
    proxy.mode = "blackhole"
    shop.gate("away")
    producer.wait_for("now it comes back")
    proxy.mode = "pass"
    shop.gate("back")
    assert producer.wait() == 0, producer.text()
    assert "False" not in producer.text()
    assert "the parent hints again" in producer.text()
    shop.open()
    handles = shop_handles(shop)
    assert len(handles) == 6
    all_confirmed(shop, handles)


def _hints(server: RedisServer) -> int:
    return int(redis.Redis.from_url(server.url).llen("tape.dispatch"))


def test_many_threads_wait_for_a_dead_broker_once(make_shop: MakeShop, own_redis: RedisServer, proxy: TcpProxy) -> None:
    """Twenty threads of one producer at the moment when the broker stops to answer.

    Each is bounded, and together too.
    """
    shop = make_shop(broker_url=proxy.url(own_redis.url))
    timed_delays(shop, 1)
    no_hint_rides_along()
    proxy.mode = "blackhole"
    with ThreadPoolExecutor(20) as threads:
        took = list(threads.map(lambda _: timed_delays(shop, 1)[0], range(20)))
    assert max(took) <= 4.0, took  # one after the other they would take twenty
    assert timed_delays(shop, 20)[0] < NEXT_SECONDS
    assert len(shop.tape.effects()) == 41
