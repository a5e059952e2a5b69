"""What the broker gets to see: effect keys, and nothing that anybody could misuse."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import until

CANARY = "canary-4711"
CONCEPTS = Path(__file__).parents[2] / "docs" / "concepts.md"


def broker(shop: Shop) -> redis.Redis:
    return redis.Redis.from_url(shop.conf["broker_url"])


def everything(server: redis.Redis) -> bytes:
    """Every byte that the server keeps."""
    found = b""
    for key in server.keys("*"):
        match server.type(key):
            case b"list":
                values = server.lrange(key, 0, -1)
            case b"hash":
                values = [part for pair in server.hgetall(key).items() for part in pair]
            case b"set":
                values = list(server.smembers(key))
            case b"zset":
                values = server.zrange(key, 0, -1)
            case _:
                values = [server.get(key) or b""]  # what was there a moment ago may be gone
        found += key + b"".join(values)
    return found


def decoded(raw: bytes) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Body, headers and properties of one message, as it lies in Redis."""
    message = json.loads(raw)
    return json.loads(base64.b64decode(message["body"])), message["headers"], message["properties"]


@pytest.mark.parametrize("verb", ["dispatch", "observe", "compensate"])
def test_a_hint_carries_keys_and_nothing_else(make_shop: MakeShop, verb: str) -> None:
    """No payload, no secret, no idempotency key, no business key.

    Not in the body, the headers, nor their printed forms.
    """
    shop = make_shop(conf={"task_send_sent_event": True, "result_extended": True})
    if verb == "dispatch":
        handle = shop.tape.effect.delay(
            "bank",
            {"account": CANARY, "nested": {"secret": f"{CANARY}-secret"}},
            business_key=f"{CANARY}-business",
            idempotency_key=f"{CANARY}-idempotency",
            run_id=f"{CANARY}-run",
        )
        key = handle.id
    else:
        key = "some-key"
        assert shop.tape.hint(verb, "bank", [key])
    server = broker(shop)
    (raw,) = server.lrange(f"tape.{verb}", 0, -1)
    body, headers, properties = decoded(raw)
    assert body[:2] == [[[key]], {}]
    assert not any(body[2].values()), "no callbacks, no chord, no chain"
    assert (headers["argsrepr"], headers["kwargsrepr"], headers["task"]) == ("(…)", "{}", f"tape.{verb}")
    assert (headers["ignore_result"], json.loads(raw)["content-type"]) == (True, "application/json")
    told = {name: value for name, value in headers.items() if value and name not in ("id", "root_id", "origin")}
    assert set(told) <= {"lang", "task", "argsrepr", "kwargsrepr", "timelimit", "ignore_result"}, told
    assert properties["delivery_info"]["routing_key"] == f"tape.{verb}"
    assert CANARY.encode() not in everything(server)


def test_an_intent_that_is_sent_as_the_page_says_is_in_the_body_of_its_message_alone(make_shop: MakeShop) -> None:
    """Headers are what events, Flower and `celery inspect` show."""
    shop = make_shop(conf={"task_send_sent_event": True, "result_extended": True})
    [sending] = re.findall(r"```python\n(app\.send_task\(.*?)```", CONCEPTS.read_text(), re.DOTALL)
    exec(sending.replace('"amount": 7', f'"amount": "{CANARY}"'), {"app": shop.app})
    (raw,) = broker(shop).lrange("tape.sweep", 0, -1)
    body, headers, properties = decoded(raw)
    assert body[1]["request"] == {"amount": CANARY}
    assert headers["task"] == "tape.effect"
    assert CANARY not in json.dumps([headers, properties])


def test_nothing_of_an_effect_reaches_broker_results_or_logs(make_shop: MakeShop, redis_url: str) -> None:
    """A whole life, with a result backend configured.

    Landed, lost, looked after, undone. No canary anywhere but in the store.
    """
    results = f"{redis_url[:-1]}5"
    shop = make_shop(broker_url=redis_url, conf={"result_backend": results, "result_extended": True})
    worker = shop.open(extra=["-E"])
    seen = b""
    for script in (["land"], ["land", "raise"], ["exit"]):
        request = {"script": script, "account": CANARY, "number": len(seen)}
        keys = {name: f"{CANARY}-{name}-{script}" for name in ("business_key", "run_id")}
        handle = shop.tape.effect.delay("bank", request, **keys)
        seen += everything(broker(shop))
        if shop.ends(handle, "CONFIRMED", "FAILED") == "CONFIRMED":
            shop.tape.owe(handle.id, reason="returned", actor="a person")
            seen += everything(broker(shop))
            until(lambda: all(o.status == "COMPENSATED" for o in shop.tape.obligations()), what="the inverse")
    seen += everything(broker(shop)) + everything(redis.Redis.from_url(results))
    assert CANARY.encode() not in seen
    assert CANARY not in worker.text()
    assert redis.Redis.from_url(results).dbsize() == 0, "no result was written"
    ping = shop.app.send_task("shop.ping", ["it"])
    assert ping.get(timeout=10) == "pong it", "the app's own results work as before"


def test_a_recorded_intent_leaves_the_broker_with_its_message(shop: Shop) -> None:
    """`tape.effect` is the one message with a payload; once it is recorded, what follows carries keys again."""
    shop.open()
    sent = shop.app.send_task(
        "tape.effect",
        kwargs={"connector": "bank", "request": {"account": CANARY}, "business_key": "b"},
        queue="tape.sweep",
    )
    (effect,) = until(lambda: shop.tape.effects(business_key="b"), what="the recording")
    shop.ends(effect.effect_key, "CONFIRMED")
    assert effect.run_id == sent.id
    until(lambda: CANARY.encode() not in everything(broker(shop)), what="the end of the message")
