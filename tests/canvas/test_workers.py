"""Callbacks with a real broker and real workers: what is sent survives whoever should have sent it."""

from typing import Any

import pytest
from celery import chain, group

from tape_celery.handle import EffectHandle
from tape_celery.records import EffectStatus
from tests.canvas.conftest import BALANCE, heard, opened, words
from tests.celery_wiring.apps.heard import note, wire
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import RedisServer, until


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    """A shop on SQLite and Redis."""
    return opened(make_shop)


def has_link(shop: Shop) -> bool:
    return any(found.request.get("linked") for found in shop.tape.effects())


def linked(shop: Shop) -> dict[str, object]:
    request = {"number": 99, "script": ["land"], "undo_script": [], "linked": True}
    return {"link": shop.tape.effect.s("bank", request, business_key="linked")}


def test_a_worker_that_is_killed_before_it_sends_a_callback_loses_nothing(shop: Shop) -> None:
    """It dies between the seal and the callback; the sweep of the next worker sends it, and it lands once."""
    handle = shop.delay(**linked(shop))
    shop.open(failpoints="callbacks.taken=kill9*1")
    shop.ends(handle, EffectStatus.CONFIRMED)
    until(lambda: has_link(shop), timeout=20, what="the linked effect")
    [found] = [found for found in shop.tape.effects() if found.effect_key != handle.id]
    shop.ends(found.effect_key, EffectStatus.CONFIRMED)
    assert shop.landings(found.effect_key) == 1
    shop.is_sound()


def test_a_chain_goes_from_task_to_effect_to_task_over_two_workers(shop: Shop) -> None:
    """Each part gets what the one before it returned; the effect lands once, and has the id that the chain told."""
    shop.open()
    shop.worker()
    told = chain(note.s("begin", word="first"), wire.s("middle"), note.s(word="last")).apply_async()
    assert heard(shop, "last") == [BALANCE]
    assert heard(shop, "first") == ["begin"]
    [found] = shop.tape.effects()
    assert found.effect_key == told.parent.id
    assert found.request["first"] == {"word": "first", "first": "begin"}
    assert shop.landings(found.effect_key) == 1
    shop.is_sound()


def test_a_group_of_effects_is_done_by_whichever_workers_there_are(shop: Shop) -> None:
    shop.open()
    shop.worker()
    told = group(wire.s("x", name=f"part{number}") for number in range(4)).apply_async()
    until(told.ready, timeout=20, what="the group")
    assert told.successful()
    assert told.get(timeout=5) == [BALANCE] * 4
    assert [shop.landings(one.id) for one in told.results] == [1] * 4
    shop.is_sound()


def links() -> dict[str, Any]:
    return {
        "link": note.s(word="link"),
        "link_error": note.s(word="link_error"),
        "on_unknown": note.s(word="on_unknown"),
        "on_stuck": note.s(word="on_stuck"),
    }


def test_link_error_of_a_failed_effect_is_run_and_nothing_else(shop: Shop) -> None:
    shop.open()
    handle = wire.apply_async(("x", "no"), {"answer": "refused"}, **links())
    shop.ends(handle, EffectStatus.FAILED)
    assert heard(shop, "link_error") == [handle.id]
    assert words(shop) == ["link_error"]
    shop.is_sound()


def test_on_unknown_of_a_lost_answer_is_run_before_anybody_knows(shop: Shop) -> None:
    """The worker's child dies when the wire has landed; the look that follows finds it, and its link is run too."""
    shop.open()
    handle = shop.delay("land", "kill9", **links())
    shop.ends(handle, EffectStatus.CONFIRMED)
    assert heard(shop, "on_unknown") == [handle.id]
    heard(shop, "link")
    assert words(shop) == ["link", "on_unknown"]
    assert shop.landings(handle) == 1
    shop.is_sound()


def test_a_callback_waits_for_a_broker_that_is_down_when_its_effect_is_sealed(
    make_shop: MakeShop, own_redis: RedisServer
) -> None:
    """The seal stands without the broker; the sweep sends the callback when it is back, once."""
    shop = opened(make_shop, broker_url=own_redis.url, publish_timeout_seconds=0.5)
    handle: EffectHandle = shop.delay(link=note.s(word="link"))
    own_redis.kill9()
    sealed = shop.run(f"print(shop.tape.dispatch({handle.id!r}))")
    sealed.wait_for("confirmed", 20)
    assert handle.status == "CONFIRMED"
    assert words(shop) == []
    own_redis.start()
    shop.open()
    assert heard(shop, "link") == [BALANCE]
    assert words(shop) == ["link"]
    shop.is_sound()
