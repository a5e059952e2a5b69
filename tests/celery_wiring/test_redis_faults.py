"""What a Redis does in production beside being there or not: it refuses, evicts, drops connections, or stands still."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import RedisServer, until

Fault = Callable[[redis.Redis], contextlib.AbstractContextManager[None]]


def close_all(server: redis.Redis) -> None:
    """Close every connection but this one.

    Those that only listen too, as any server or proxy does that goes away: a worker of kombu 5.7 whose hands are full
    does not look at its other connection, and never learns that it can acknowledge nothing.
    """
    for kind in ("normal", "pubsub"):
        server.client_kill_filter(_type=kind, skipme=True)


@contextlib.contextmanager
def read_only(server: redis.Redis) -> Iterator[None]:
    """A replica after a failover that clients were not told of: READONLY to every write."""
    server.replicaof("127.0.0.1", "1")
    yield
    server.replicaof("NO", "ONE")


@contextlib.contextmanager
def full(server: redis.Redis) -> Iterator[None]:
    """No memory left, and told to evict nothing: OOM to every write."""
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", "1")
    yield
    server.config_set("maxmemory", "0")


@contextlib.contextmanager
def locked(server: redis.Redis) -> Iterator[None]:
    """A password that nobody was told: NOAUTH to every new connection, and the old ones are closed."""
    server.config_set("requirepass", "changed")
    close_all(server)
    yield
    server.config_set("requirepass", "")


@contextlib.contextmanager
def standing_still(server: redis.Redis) -> Iterator[None]:
    """Every connection is open and nothing is answered, for two seconds."""
    server.client_pause(2000)
    yield
    server.ping()


FAULTS = [read_only, full, locked, standing_still]


@pytest.fixture
def server(own_redis: RedisServer) -> Iterator[redis.Redis]:
    """One connection that is made before the fault, to end it by."""
    with redis.Redis.from_url(own_redis.url, single_connection_client=True) as connection:
        connection.ping()
        yield connection


def each_landed_once(shop: Shop, handles: list) -> None:
    for handle in handles:
        shop.ends(handle, "CONFIRMED", timeout=40)
    assert [shop.landings(handle) for handle in handles] == [1] * len(handles)
    assert len(shop.ledger.entries("called")) == len(handles)
    shop.is_sound()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_redis_that_refuses_for_a_while_loses_nothing(
    make_shop: MakeShop, own_redis: RedisServer, server: redis.Redis, fault: Fault
) -> None:
    """In the middle of a call and of others' `.delay()`: each is recorded, and each lands once when it is over."""
    shop = make_shop(broker_url=own_redis.url, lease_seconds=30)
    worker = shop.open()
    before = shop.delay()
    shop.ends(before, "CONFIRMED")
    calling = shop.delay("land", "wait:over")
    until(lambda: shop.landings(calling), what="the landing")
    with fault(server):
        meanwhile = [shop.delay() for _ in range(3)]
        shop.gate("over")
        shop.ends(calling, "CONFIRMED")
        assert [shop.tape.get(handle.id).status for handle in meanwhile] == ["PENDING"] * 3
    shop.supervise(worker, lambda: all(map(shop.landings, meanwhile)))
    each_landed_once(shop, [before, calling, *meanwhile])
    assert shop.kinds(calling) == ["recorded", "claimed", "confirmed"]


def test_connections_that_are_closed_again_and_again(
    make_shop: MakeShop, own_redis: RedisServer, server: redis.Redis
) -> None:
    """CLIENT KILL for each effect, under producer, worker and beat."""
    shop = make_shop(broker_url=own_redis.url)
    worker = shop.open()
    handles = []
    for _ in range(8):
        handles.append(shop.delay())
        close_all(server)
    shop.supervise(worker, lambda: all(map(shop.landings, handles)))
    each_landed_once(shop, handles)


def test_hints_that_are_evicted_are_made_up_by_the_sweep(
    make_shop: MakeShop, own_redis: RedisServer, server: redis.Redis
) -> None:
    """allkeys-lru on a Redis that something else fills: the queue itself goes, with every hint in it."""
    shop = make_shop(broker_url=own_redis.url)
    handles = [shop.delay() for _ in range(5)]
    assert server.llen("tape.dispatch")
    server.config_set("maxmemory-policy", "allkeys-lru")
    server.config_set("maxmemory-samples", "64")
    server.config_set("maxmemory", str(int(server.info("memory")["used_memory"]) + 500_000))
    cached = iter(range(10_000))

    def evicted() -> bool:
        for _ in range(50):
            server.set(f"cache-{next(cached)}", "x" * 10_000)
        return not server.exists("tape.dispatch")

    until(evicted, what="the queue to be evicted")
    shop.open()
    each_landed_once(shop, handles)
