"""Reissues and holds with real workers, and with processes that are killed or race."""

from __future__ import annotations

import signal

import pytest

from tape_celery.errors import AlreadyReissued
from tests.celery_wiring.conftest import Shop

REISSUE = """
from tape_celery.errors import AlreadyReissued
try:
    print("successor", shop.tape.reissue({key!r}, reason="again", actor="test").id)
except AlreadyReissued as refused:
    print("successor", refused.successor)
"""


def cancelled(shop: Shop) -> str:
    handle = shop.delay()
    shop.tape.cancel(handle.id, reason="not yet", actor="test")
    return str(handle.id)


def test_a_process_killed_right_after_it_reissued_has_reissued(any_shop: Shop) -> None:
    """kill -9 after the COMMIT: the sweep finds the successor, it lands once, and there is no second one."""
    shop = any_shop
    key = cancelled(shop)
    killed = shop.run(REISSUE.format(key=key), failpoints="reissue.committed=kill9")
    assert killed.wait() == -signal.SIGKILL
    successor = shop.tape.get(key).reissued_as
    shop.open()
    shop.ends(successor, "CONFIRMED")
    with pytest.raises(AlreadyReissued, match=successor):
        shop.tape.reissue(key, reason="again", actor="test")
    assert [entry["key"] for entry in shop.ledger.entries("landed")] == [successor]
    shop.is_sound()


def test_processes_that_reissue_the_same_effect_make_one_successor(any_shop: Shop) -> None:
    """Whoever loses is told its name."""
    shop = any_shop
    key = cancelled(shop)
    shop.worker("tape.dispatch")
    racing = [shop.run(REISSUE.format(key=key)) for _ in range(3)]
    assert [process.wait() for process in racing] == [0, 0, 0]
    successor = shop.tape.get(key).reissued_as
    assert all(f"successor {successor}" in process.text() for process in racing)
    shop.ends(successor, "CONFIRMED")
    assert len(shop.ledger.entries("landed")) == 1
    assert len(shop.tape.effects()) == 2
    shop.is_sound()


def test_no_worker_sends_what_is_held_until_it_is_released(any_shop: Shop) -> None:
    """Neither a sweep nor a hint that names it; and after the release it lands once."""
    shop = any_shop
    shop.open()
    rule = {"fields": ["script"], "within": 3600}
    first, held = shop.delay(hold_similar=rule), shop.delay(hold_similar=rule)
    shop.ends(first, "CONFIRMED")
    assert held.status == "HELD"
    shop.tape.hint("dispatch", "bank", [held.id])
    shop.ends(shop.delay(), "CONFIRMED")
    assert (held.status, shop.landings(held)) == ("HELD", 0)
    shop.tape.release(held.id, reason="two orders", actor="test")
    shop.ends(held, "CONFIRMED")
    assert shop.landings(held) == 1
    assert shop.kinds(held) == ["recorded", "released", "claimed", "confirmed"]
    shop.is_sound()
