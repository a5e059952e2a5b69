"""The handle of an effect: a Celery result whose truth is the store, with a result backend and without one."""

import copy
import time
from typing import Any

import pytest
from celery.result import AsyncResult, GroupResult, denied_join_result

from tape_celery import EffectStatus
from tape_celery.connectors import DispatchResult, ObservationResult, register
from tape_celery.errors import (
    EffectCancelled,
    EffectFailed,
    EffectStuck,
    EffectTimeout,
    InvalidIntent,
    KeyConflict,
    NoSuchEffect,
)
from tests.celery_wiring.conftest import MakeShop, Shop


class Desk:
    """A connector in this process that answers what the request says."""

    name = "desk"

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult(effect.request["answer"], response={"receipt": 12}, error={"message": "sold out"})

    def observe(self, effect: Any) -> ObservationResult:
        return ObservationResult("absent")


@pytest.fixture(params=["no result backend", "a result backend that is away"])
def shop(make_shop: MakeShop, request: pytest.FixtureRequest) -> Shop:
    """A shop without a worker: this process does the work, so that every state can be held still."""
    register(Desk())
    away = {"result_backend": "redis://127.0.0.1:1/0"}
    return make_shop(broker_url="memory://", conf=None if request.param.startswith("no ") else away)


def made(shop: Shop, answer: str, **keywords: Any) -> Any:
    """An effect whose one call was answered so."""
    handle = shop.tape.effect.delay("desk", {"answer": answer}, **{"business_key": answer, **keywords})
    shop.tape.dispatch(handle.id)
    return handle


def test_a_handle_tells_the_rows_state(shop: Shop) -> None:
    """In our words and in Celery's; nothing is cached, and PENDING, UNKNOWN and "no such effect" are three answers."""
    handle = shop.tape.effect.delay("desk", {"answer": "confirmed"}, business_key="b")
    assert isinstance(handle, AsyncResult)
    assert (handle.status, handle.state, handle.ready()) == (EffectStatus.PENDING, "PENDING", False)
    assert (handle.successful(), handle.failed(), handle.result) == (False, False, None)
    shop.tape.dispatch(handle.id)
    assert (handle.status, handle.state, handle.ready()) == (EffectStatus.CONFIRMED, "SUCCESS", True)
    assert (handle.successful(), handle.failed(), handle.result) == (True, False, {"receipt": 12})
    assert handle.get() == handle.wait() == {"receipt": 12}
    assert handle.effect.effect_key == handle.id == str(handle)
    assert [entry.kind for entry in handle.journal] == ["recorded", "claimed", "confirmed"]
    lost = made(shop, "unknown")
    assert (lost.status, lost.state, lost.ready()) == ("UNKNOWN", "STARTED", False)


def test_get_says_why_there_is_no_response(shop: Shop) -> None:
    """FAILED, CANCELLED, STUCK, not decided in time, no such effect.

    One named error each, with key, status and reason.
    """
    failed = made(shop, "failed")
    with pytest.raises(EffectFailed, match=f"effect {failed.id} is FAILED: sold out") as caught:
        failed.get()
    assert (caught.value.effect_key, caught.value.status, caught.value.reason) == (failed.id, "FAILED", "sold out")
    assert (failed.state, failed.failed(), failed.ready()) == ("FAILURE", True, True)
    assert isinstance(failed.get(propagate=False), EffectFailed)
    assert isinstance(failed.result, EffectFailed)

    cancelled = shop.tape.effect.delay("desk", {}, business_key="cancelled")
    cancelled.revoke()
    with pytest.raises(EffectCancelled, match="is CANCELLED: revoked"):
        cancelled.get()
    assert (cancelled.state, cancelled.ready()) == ("REVOKED", True)

    lost = made(shop, "unknown")
    started = time.monotonic()
    with pytest.raises(EffectTimeout, match=r"is UNKNOWN: not decided within 0\.2 s") as late:
        lost.get(timeout=0.2)
    assert isinstance(late.value, TimeoutError)
    assert time.monotonic() - started < 1
    with pytest.raises(EffectTimeout):
        lost.get(timeout=0)

    nobody = shop.tape.handle("no-such-key")
    for ask in (nobody.get, nobody.ready, lambda: nobody.status, lambda: nobody.state):
        with pytest.raises(NoSuchEffect, match="no-such-key"):
            ask()
    assert nobody.effect is None
    assert nobody.journal == []


def test_a_stuck_effect_says_that_it_waits_for_a_person(shop: Shop) -> None:
    """STUCK is over for a caller who waits, but the row goes on when somebody decides."""

    class Mute(Desk):
        name = "mute"
        can_observe = False

    register(Mute())
    handle = shop.tape.effect.delay("mute", {"answer": "unknown"}, business_key="b")
    shop.tape.dispatch(handle.id)
    shop.tape.observe(handle.id)
    with pytest.raises(EffectStuck, match="is STUCK: nothing can observe it"):
        handle.get(timeout=1)
    assert (handle.state, handle.ready()) == ("FAILURE", True)
    shop.tape.resolve(handle.id, "confirmed", reason="seen on the statement", actor="a person", external_ref="r1")
    assert handle.status == "CONFIRMED"
    assert handle.get(timeout=1) == {}


def test_groups_of_handles(shop: Shop) -> None:
    """`GroupResult` counts, waits and joins over the store, whatever the app's result backend is."""
    handles = [shop.tape.effect.delay("desk", {"answer": "confirmed"}, business_key=f"b{n}") for n in range(3)]
    effects = GroupResult("a-group", handles, app=shop.app)
    assert (effects.ready(), effects.completed_count(), effects.waiting()) == (False, 0, True)
    shop.tape.dispatch(handles[0].id)
    assert effects.completed_count() == 1
    shop.tape.dispatch(*(handle.id for handle in handles))
    assert (effects.ready(), effects.successful(), effects.failed()) == (True, True, False)
    assert effects.get(timeout=2) == effects.join(timeout=2) == [{"receipt": 12}] * 3
    bad = GroupResult("another", [*handles, made(shop, "failed")], app=shop.app)
    assert (bad.ready(), bad.failed()) == (True, True)
    with pytest.raises(EffectFailed):
        bad.get(timeout=2)


def test_a_handle_can_be_copied_compared_and_waited_for_in_vain(shop: Shop) -> None:
    """What code does with results it does with handles."""
    handle = made(shop, "confirmed")
    assert copy.copy(handle) == handle
    assert copy.copy(handle).get() == {"receipt": 12}
    assert handle in {handle}
    assert handle.as_tuple() == ((handle.id, None), None)
    assert (handle.children, handle.exists(), shop.tape.handle("nobody").exists()) == ([], True, False)
    handle.forget()
    assert handle.get() == {"receipt": 12}
    told: list[Any] = []
    assert handle.maybe_throw(callback=lambda key, value: told.append((key, value))) == {"receipt": 12}
    assert told == [(handle.id, {"receipt": 12})]
    assert handle.id in repr(handle)
    assert list(handle.collect()) == [(handle, {"receipt": 12})]


def test_a_task_id_becomes_the_effect_key(shop: Shop) -> None:
    """As canvas hands them out; a key that is taken is an error that names it."""
    handle = shop.tape.effect.apply_async(("desk", {"answer": "confirmed"}), {"business_key": "b"}, task_id="mine-1")
    assert handle.id == "mine-1"
    assert shop.tape.get("mine-1").business_key == "b"
    same = shop.tape.effect.apply_async(("desk", {"answer": "confirmed"}), {"business_key": "b"}, task_id="mine-2")
    assert same.id == "mine-1", "the business key is held: the effect that holds it is returned"
    with pytest.raises(KeyConflict, match="mine-1"):
        shop.tape.effect.apply_async(("desk", {"answer": "failed"}), {"business_key": "c"}, task_id="mine-1")
    with pytest.raises(InvalidIntent, match="task_id"):
        shop.tape.effect.apply_async(("desk", {}), {"business_key": "d"}, task_id="x" * 65)


def test_a_handle_does_not_block_inside_a_task(shop: Shop) -> None:
    """Waiting inside a task can wait for the very worker that it occupies: refused, as Celery refuses it."""
    handle = made(shop, "confirmed")

    @shop.app.task(name="waits", shared=False)
    def waits() -> Any:
        return handle.get()

    with denied_join_result(), pytest.raises(RuntimeError, match=r"Never call result\.get"):
        waits()
    with denied_join_result():
        assert handle.get(disable_sync_subtasks=False) == {"receipt": 12}
