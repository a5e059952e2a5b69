"""A message that Celery's own consumer would die of, or go deaf: rejected, once, and the worker goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from kombu.message import Message as KombuMessage

from tape_celery.intake import malformed
from tests.celery_wiring.conftest import Shop
from tests.hostile.brokers import QUEUES, Broker, RabbitMQ, Redis
from tests.hostile.messages import NO_EMBED, Message, calling, message
from tests.hostile.test_queue_garbage import Sound, broker, holds_nothing_but, shop, worker  # noqa: F401 - fixtures
from tests.servers import until

FORGED = "] received\n[FORGED: WARNING/MainProcess]\x1b[31m"
_BODIES: list[Any] = [
    *(b"", [], [1], [[], {}], [[], {}, {}, 1], {}, 5, None, "abc", True),
    *([[["k"]], {}, 5], [[["k"]], {}, [1]], [[], "kw", {}]),
    *([[["k"]], {}, {**NO_EMBED, name: ["x"]}] for name in ("callbacks", "errbacks", "chain")),
    *([[["k"]], {}, {**NO_EMBED, name: 5}] for name in ("callbacks", "errbacks", "chain", "chord")),
]
_HEADERS: dict[str, list[Any]] = {
    "task": [["x"], {"a": 1}, f"tape.dispatch{FORGED}"],
    "id": [["x"], {"a": 1}, 5, ..., f"own{FORGED}"],
    "timelimit": [5, "x", True, {"a": 1}, ["a", "b"], [1, 2, 3], 10**18],
    "stamped_headers": [5, True, 10**18],
    "shadow": [["x"], {"a": 1}, f"tape.dispatch{FORGED}"],
}


def poison(queue: str) -> Iterator[Message]:
    """Each of these alone ends every worker of its queue, again and again, makes it deaf, or writes in its log."""
    task = queue if queue != "tape.sweep" else "tape.effect"
    yield from (message(task, body) for body in _BODIES)
    yield from (message(**{"task": task, name: value}) for name, values in _HEADERS.items() for value in values)
    yield dataclasses.replace(message(task), content_type="")


@pytest.mark.parametrize("broker", ["redis", "rabbitmq", "filesystem"], indirect=True)
def test_poison_on_every_queue_ends_no_worker(broker: Broker, shop: Shop) -> None:  # noqa: F811
    if isinstance(broker, RabbitMQ):
        broker.declare()
    before = Sound(shop)
    for queue in QUEUES:
        for one in poison(queue):
            broker.put(queue, one)
    behind = Sound(shop)
    running = worker(shop)
    shop.beat()
    before.are_done()
    behind.are_done()
    until(lambda: broker.left() == 0, timeout=60, what="empty queues")
    after = Sound(shop)
    after.are_done()
    holds_nothing_but(shop, before, behind, after)
    assert running.alive
    logged = running.text()
    assert "a message was rejected: its id cannot be printed" in logged
    assert "FORGED" not in logged


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize("name", ["task", "id", "shadow"])
def test_what_celery_shows_of_a_message_can_be_printed(name: str, protocol: int) -> None:
    """Its worker logs the name and the id of a task as they came; other scripts than ours are fine."""
    sound = {"task": "tape.dispatch", "id": "é-1", "shadow": None, "args": [["k"]], "kwargs": {}}
    for text in ("\n", "\r", "\x1b[2J", "\x9b2J", "\u2028", "\0", FORGED):
        assert malformed(received({**sound, name: f"a{text}"}, protocol)) == f"its {name} cannot be printed"
    assert malformed(received({**sound, name: "tape – ü"}, protocol)) is None


def received(headers: dict[str, Any], protocol: int) -> KombuMessage:
    """A message as a consumer gets it."""
    body = headers if protocol == 1 else [headers["args"], headers["kwargs"], NO_EMBED]
    told = {} if protocol == 1 else headers
    sent = {"content_type": "application/json", "content_encoding": "utf-8", "accept": {"application/json"}}
    return KombuMessage(json.dumps(body), headers=told, **sent)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@pytest.mark.parametrize("root_id", ["r" * 300, "a\0b", "\ud800", 5, ["x"]], ids=ascii)
def test_an_intent_sent_under_any_root_id_is_recorded(broker: Redis, shop: Shop, root_id: Any) -> None:  # noqa: F811
    """It is all that there is of it: it is not lost, and does not come back once a minute for ever."""
    sent = calling("tape.effect", "bank", {"script": ["land"]}, business_key="b")
    broker.put("tape.sweep", dataclasses.replace(sent, headers={**sent.headers, "root_id": root_id}))
    worker(shop)
    (effect,) = until(lambda: shop.tape.effects(business_key="b"), what="the recording")
    shop.ends(effect.effect_key, "CONFIRMED")
    assert 1 <= len(effect.run_id) <= 200
    assert effect.run_id.isprintable()
    until(lambda: broker.left() == 0, what="the message to be acknowledged")
