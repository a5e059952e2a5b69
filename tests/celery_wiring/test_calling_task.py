"""An app's own Celery task makes an effect, and is then retried, killed and redelivered: one effect, one call."""

import uuid

import pytest
from celery.result import AsyncResult

from tape_celery.errors import RepeatedRequest
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import until


@pytest.fixture
def shop(make_shop: MakeShop, redis_url: str) -> Shop:
    """A shop whose tasks have results."""
    return make_shop(broker_url=redis_url, conf={"result_backend": f"{redis_url[:-1]}5"})


def order(shop: Shop, mood: str = "", **keywords: str) -> AsyncResult:
    """Send the app's task; its result is the key of its effect."""
    return shop.app.send_task("shop.order", [{"script": ["land"], "order": mood}, mood], keywords)


@pytest.mark.parametrize("mood", ["", "retry", "kill once"])
def test_a_task_that_runs_again_meets_its_own_effect(shop: Shop, mood: str) -> None:
    """Retried twice by `self.retry`, or its child killed right after `.delay` and the message redelivered.

    Without any key.
    """
    shop.open()
    sent = order(shop, mood)
    key = sent.get(timeout=20)
    shop.ends(key, "CONFIRMED")
    (effect,) = shop.tape.effects()
    assert (effect.effect_key, effect.run_id) == (key, sent.id)
    assert effect.idempotency_key.startswith("task-")
    assert len(shop.ledger.entries("called")) == 1


def test_a_redelivered_task_meets_its_effect_after_it_is_over(shop: Shop) -> None:
    """The same message a second time, when the effect is CONFIRMED.

    Another task with the same request is another effect.
    """
    shop.open()
    request = [{"script": ["land"]}, ""]
    task = str(uuid.uuid4())
    keys = []
    for number in (1, 2):
        sent = shop.app.send_task("shop.order", request, task_id=task)
        keys.append(until(lambda s=sent: s.get(timeout=20), what=f"delivery {number}"))
        shop.ends(keys[-1], "CONFIRMED")
        sent.forget()
    other = shop.app.send_task("shop.order", request).get(timeout=20)
    shop.ends(other, "CONFIRMED")
    assert keys[0] == keys[1] != other
    assert len(shop.ledger.entries("called")) == 2


def test_the_same_request_twice_in_one_execution_needs_keys(shop: Shop) -> None:
    """Which of the two would a retry mean? With a business key it is one effect, which both calls name."""
    shop.open()
    with pytest.raises(RepeatedRequest, match="give each a business_key or an idempotency_key"):
        order(shop, "twice").get(timeout=20)
    assert len(shop.tape.effects()) == 1, "the first of them was recorded"
    key = order(shop, "twice", business_key="order 12").get(timeout=20)
    shop.ends(key, "CONFIRMED")
    assert len(shop.tape.effects(business_key="order 12")) == 1


def test_effects_of_a_whole_chain_are_one_run(shop: Shop) -> None:
    """`run_id` is the root task's id, unless the task names another."""
    shop.open()
    chain = shop.app.signature("shop.order", args=[{"step": 1}]) | shop.app.signature(
        "shop.order", args=[{"step": 2}], immutable=True
    )
    last = chain.apply_async()
    last.get(timeout=20)
    assert {effect.run_id for effect in shop.tape.effects()} == {last.parent.id}
    key = order(shop, run_id="my own run").get(timeout=20)
    assert shop.tape.get(key).run_id == "my own run"
