"""What is urgent goes first: over the broker where it has priorities, and out of the sweep everywhere."""

import json

import pytest
import redis

from tape_celery import connectors
from tape_celery.errors import InvalidIntent
from tape_celery.hints import Hint, Wanted, grouped
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.celery_wiring.test_messages import broker, decoded
from tests.celery_wiring.upstream import ObservedBank


def test_hints_are_grouped_by_priority_and_connector() -> None:
    """The most urgent first, in the order given, bounded keys a message."""
    wanted = [Wanted("a", "x", 0), Wanted("b", "x", 9), Wanted("c", "y", 9), Wanted("d", "x", 9), Wanted("e", "x", 9)]
    assert list(grouped(wanted, 2)) == [
        Hint("x", ["b", "d"], 9),
        Hint("x", ["e"], 9),
        Hint("y", ["c"], 9),
        Hint("x", ["a"], 0),
    ]


@pytest.mark.parametrize("priority", [-1, 10, 1.0, True, "9"])
def test_a_priority_is_a_whole_number_from_0_to_9(shop: Shop, priority: object) -> None:
    with pytest.raises(InvalidIntent, match="priority must be a whole number from 0 to 9"):
        shop.delay(priority=priority)


def test_an_option_of_apply_async_is_in_the_row(shop: Shop) -> None:
    handle = shop.tape.effect.apply_async(("bank", {"a": 1}), {"business_key": "b"}, priority=7)
    assert handle.effect.priority == 7
    assert shop.delay().effect.priority == 0


def of(server: redis.Redis, queue: str) -> list[str]:
    """The keys of each hint in a list of Redis, the first to be given out first."""
    return [key for raw in reversed(server.lrange(queue, 0, -1)) for key in decoded(raw)[0][0][0]]


def test_redis_gives_out_the_urgent_first_where_the_app_uses_priorities_there(make_shop: MakeShop) -> None:
    """Its lowest number is its most urgent, and a worker reads the list of that one first."""
    shop = make_shop(conf={"broker_transport_options": {"queue_order_strategy": "priority"}})
    plain, urgent = shop.delay(), shop.delay(priority=9)
    server = broker(shop)
    assert of(server, "tape.dispatch") == [urgent.id]
    (lowest,) = [key.decode() for key in server.keys("tape.dispatch?*") if key != b"tape.dispatch"]
    assert of(server, lowest) == [plain.id]
    shop.worker("tape.dispatch", concurrency=1)
    for handle in (plain, urgent):
        shop.ends(handle, "CONFIRMED")
    assert [entry["key"] for entry in shop.ledger.entries("landed")] == [urgent.id, plain.id]


def test_redis_is_told_nothing_where_the_app_does_not_use_priorities(shop: Shop) -> None:
    """Else every hint would have to wait for all other tasks of a worker."""
    first, second = shop.delay(), shop.delay(priority=9)
    assert of(broker(shop), "tape.dispatch") == [first.id, second.id]


def test_rabbitmq_is_told_celerys_priority(make_shop: MakeShop, rabbitmq_url: str) -> None:
    """A queue with `x-max-priority` gives out the urgent first, to workers that declare it so too."""
    shop = make_shop(broker_url=rabbitmq_url, conf={"task_queue_max_priority": 9})
    plain, urgent = shop.delay(), shop.delay(priority=9)
    with shop.app.connection_for_write() as connection:
        channel = connection.channel()
        found = [channel.basic_get("tape.dispatch", no_ack=True) for _ in range(2)]
    assert [json.loads(message.body)[0][0] for message in found] == [[urgent.id], [plain.id]]
    last = shop.delay(priority=5)
    shop.worker("tape.dispatch", concurrency=1)
    shop.ends(last, "CONFIRMED")


def test_a_sweep_hints_the_urgent_first(make_shop: MakeShop) -> None:
    """In messages of one priority each, whatever connector order and age say."""
    shop = make_shop(chunk_size=2)
    connectors.register(ObservedBank("bank"))
    handles = [
        shop.tape.effect.apply_async(("bank", {"n": n}), {"business_key": f"u-{n}"}, priority=priority, countdown=60)
        for n, priority in enumerate((0, 9, 3, 9, 9))
    ]
    shop.tape.database.shift_ms = 61_000
    assert shop.tape.sweep().dispatch_hints == 5
    by_key = {handle.id: handle.effect.priority for handle in handles}
    hinted = of(broker(shop), "tape.dispatch")
    assert [by_key[key] for key in hinted] == [9, 9, 9, 3, 0]
