"""A message is a hint: it may come ten times at once, a week late, or be rubbish."""

import json
import re

import pytest
import redis

from tape_celery.migrations import VERSION_TABLE, head
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.celery_wiring.test_messages import broker, everything
from tests.servers import PostgresServer, until


def hint(shop: Shop, task: str, *arguments: object, **keywords: object) -> str:
    """Send one of our tasks by hand; its id."""
    queue = "tape.sweep" if task == "tape.effect" else task
    return str(shop.app.send_task(task, list(arguments), keywords, queue=queue).id)


def test_the_same_hint_ten_times_at_once_is_one_call(any_shop: Shop) -> None:
    """Four children get the same key in parallel: one claim wins, the others find it taken or done."""
    shop = any_shop
    handles = [shop.alone() for _ in range(3)]
    for _ in range(9):
        hint(shop, "tape.dispatch", [handle.id for handle in handles])
    worker = shop.worker(concurrency=4)
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    worker.wait_for(lambda: len(re.findall(r"Task tape\.dispatch\[.*succeeded", worker.text())) == 12)
    assert len(shop.ledger.entries("called")) == 3
    for handle in handles:
        assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    shop.is_sound()


def test_any_hint_for_a_row_that_is_over_does_nothing(shop: Shop) -> None:
    """Last week's messages, of every kind and in any order: the row, its journal and the upstream do not notice."""
    worker = shop.worker()
    handle = shop.delay(undo=["land"])
    shop.ends(handle, "CONFIRMED")
    obligation = shop.tape.owe(handle.id, reason="returned", actor="a person")
    until(lambda: shop.tape.obligations()[0].status == "COMPENSATED", what="the inverse")
    before = (shop.tape.get(handle.id), shop.tape.obligations(), shop.tape.journal(handle.id), shop.ledger.entries())
    sent = [
        hint(shop, f"tape.{verb}", [key])
        for verb in ("compensate", "observe", "dispatch", "observe", "compensate")
        for key in (handle.id, obligation.obligation_key)
    ]
    worker.wait_for(lambda: all(f"[{task}] succeeded" in worker.text() for task in sent))
    assert before == (
        shop.tape.get(handle.id), shop.tape.obligations(), shop.tape.journal(handle.id), shop.ledger.entries()
    )  # fmt: skip


def test_rubbish_is_dropped_and_the_worker_goes_on(shop: Shop) -> None:
    """No list, no texts, far too many or far too long, unknown keys, no arguments at all, another kind of content."""
    worker = shop.worker()
    handle = shop.delay()
    bad = [
        "a key",
        7,
        None,
        {"key": 1},
        [],
        [None, 7, ["nested"], {}],
        ["k" * 1_000_000],
        ["x"] * 5000,
        ["\0", ""],
        ["unknown"],
    ]
    sent = [
        hint(shop, f"tape.{verb}", arguments) for verb in ("dispatch", "observe", "compensate") for arguments in bad
    ]
    hint(shop, "tape.dispatch")
    hint(shop, "tape.dispatch", ["a"], "b", surprise=1)
    raw = redis.Redis.from_url(shop.conf["broker_url"])
    message = json.loads(_message(shop, raw))
    for change in ({"content-type": "application/x-python-serialize"}, {"headers": {}}, {"body": "bm8ganNvbg=="}):
        raw.lpush("tape.dispatch", json.dumps({**message, **change}))
    mixed = hint(shop, "tape.dispatch", [None, handle.id, "k" * 300])
    worker.wait_for(lambda: all(f"[{task}] succeeded" in worker.text() for task in [*sent, mixed]))
    shop.ends(handle, "CONFIRMED")
    good = shop.delay()
    shop.ends(good, "CONFIRMED")
    assert worker.alive
    assert len(worker.text()) < 200_000, "a log is not filled by what others send"
    assert len(shop.ledger.entries("called")) == 2


def _message(shop: Shop, raw: redis.Redis) -> bytes:
    """A message as Celery makes it, from a queue that nobody reads."""
    shop.app.send_task("tape.dispatch", [["a key"]], queue="unread")
    (message,) = raw.lrange("unread", 0, -1)
    return message


# --- tape.effect: a producer without a store ---


def test_an_intent_sent_as_a_message_is_recorded_once_over_redelivery(shop: Shop) -> None:
    """The same message twice, by business key alone: one effect, also after it has failed and freed its key."""
    worker = shop.open()
    for script, end in (["land"], "CONFIRMED"), (["raise"], "FAILED"):
        keywords = {"connector": "bank", "request": {"script": script}, "business_key": f"order-{end}"}
        task = f"task-{end}"
        for round_ in (1, 2, 3):
            shop.app.send_task("tape.effect", kwargs=keywords, task_id=task, queue="tape.sweep")
            worker.wait_for(lambda t=task, n=round_: worker.text().count(f"[{t}] succeeded") == n)
            (effect,) = shop.tape.effects(business_key=f"order-{end}")
            shop.ends(effect.effect_key, end)
        assert effect.run_id == task
        assert len(shop.ledger.entries("called", effect.effect_key)) == 1


def test_an_intent_without_keys_is_refused_and_logged(shop: Shop) -> None:
    """Its redelivery could not tell what it means.

    So are other intents that cannot be recorded. None is tried again.
    """
    worker = shop.worker("tape.sweep")
    request = {"connector": "bank", "request": {"amount": 1}}
    refused = {
        "InvalidIntent: tape.effect needs an idempotency_key or a business_key": request,
        "InvalidIntent: request must be a dict": {**request, "request": "all", "business_key": "b"},
        "InvalidIntent: request missing": {"connector": "bank", "business_key": "b"},
        "there is no option 'colour'": {**request, "business_key": "b", "colour": "red"},
        "semantics must be one of": {**request, "business_key": "b", "semantics": "often"},
        "PayloadTooLarge": {**request, "business_key": "b", "request": {"bulk": "x" * 300_000}},
        "neither eta, task_id nor effect_name": {**request, "business_key": "b", "effect_name": "os.system"},
    }
    for expected, keywords in refused.items():
        task = hint(shop, "tape.effect", **keywords)
        worker.wait_for(f"[{task}] succeeded")
        assert expected in worker.text()
    assert worker.text().count("an intent was refused and dropped") == len(refused)
    assert shop.tape.effects() == []
    task = hint(shop, "tape.effect", "bank", {"amount": 1}, idempotency_key="k1", countdown=60, expires=120)
    worker.wait_for(f"[{task}] succeeded")
    (effect,) = shop.tape.effects()
    assert (effect.idempotency_key, effect.due_at_ms - effect.created_at_ms) == ("k1", 60_000)
    assert effect.expires_at_ms - effect.created_at_ms == 120_000
    assert shop.tape.effect.delay("bank", {"amount": 1}, idempotency_key="k1").id == effect.effect_key
    task = hint(shop, "tape.effect", "bank", {"amount": 2}, idempotency_key="k1")
    worker.wait_for(f"[{task}] succeeded")
    assert "KeyConflict" in worker.text()


def test_an_intent_waits_for_a_store_that_is_away(make_shop: MakeShop, own_postgres: PostgresServer) -> None:
    """Only the recording is tried again, for as long as it takes; it meets the same effect if it had been recorded."""
    shop = make_shop(store_url=own_postgres.fresh_database())
    worker = shop.open()
    own_postgres.kill9()
    task = hint(shop, "tape.effect", "bank", {"script": ["land"]}, business_key="patient")
    worker.wait_for(re.compile(rf"\[{task}\] retry"))
    own_postgres.start()
    (effect,) = until(
        lambda: shop.tape.effects(business_key="patient"), what="the recording", timeout=20, ignore=(Exception,)
    )
    shop.ends(effect.effect_key, "CONFIRMED")
    assert effect.run_id == task
    assert worker.alive


def test_an_intent_waits_for_a_worker_that_can_record_it(shop: Shop) -> None:
    """A worker whose schema is not the store's cannot, in the middle of a deployment: the message is not used up, and
    what is printed of it while it waits holds no payload."""
    worker = shop.worker("tape.sweep")

    def stamp(revision: str) -> None:
        with shop.tape.database._engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")

    stamp("9999")
    request = {"script": ["land"], "account": "canary-4711"}
    task = hint(shop, "tape.effect", connector="bank", request=request, idempotency_key="patient")
    worker.wait_for(re.compile(rf"\[{task}\] retry"))
    assert "an intent waits to be recorded: SchemaMismatch" in worker.text()
    until(lambda: b"canary-4711" not in everything(broker(shop)), what="the first message to be acknowledged")
    assert "canary-4711" not in worker.text()
    stamp(head())
    worker.wait_for(re.compile(rf"\[{task}\] succeeded"))
    (effect,) = shop.tape.effects()
    assert (effect.idempotency_key, effect.request) == ("patient", request)


def test_hints_and_sweeps_survive_a_store_that_is_away(make_shop: MakeShop, own_postgres: PostgresServer) -> None:
    """kill -9 of the database under a worker in mid-call: the seal is tried again, the call never is."""
    shop = make_shop(store_url=own_postgres.fresh_database(), lease_seconds=30)
    worker = shop.open(concurrency=3)
    handle = shop.delay("land", "wait:store is away")
    until(lambda: shop.landings(handle), what="the landing")
    own_postgres.kill9()
    hint(shop, "tape.dispatch", ["a key"])
    worker.wait_for("the store is away; the sweep comes back to this")
    shop.gate("store is away")
    worker.wait_for("the store is away, a seal is tried again")
    own_postgres.start()
    shop.tape.database.close()
    until(lambda: shop.tape.get(handle.id), what="the store", ignore=(Exception,))
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert len(shop.ledger.entries("called")) == 1
    with pytest.raises(AssertionError):
        worker.wait_for("Traceback", 0)
