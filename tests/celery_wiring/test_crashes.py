"""A process that dies in the middle of a call.

One landing at the upstream, a row that ends right, a journal that tells.
"""

import os
import signal

import pytest

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import until

SEMANTICS = ("non_idempotent", "idempotent")


@pytest.mark.parametrize(
    ("any_shop", "point"),
    [
        *(("sqlite", point) for point in ("claimed", "checked", "called", "sealed")),
        *(("postgresql", point) for point in ("claimed", "called")),  # one statement claims there, of its own
    ],
    indirect=["any_shop"],
)
def test_a_child_killed_at_any_point_of_a_dispatch_leaves_one_landing_at_most(any_shop: Shop, point: str) -> None:
    """kill -9 at each point: an idempotent effect is sent again, any other is looked after and never sent again."""
    shop = any_shop
    shop.open(failpoints=f"dispatch.{point}=kill9*1")
    for semantics in SEMANTICS:
        shop.rearm()
        handle = shop.delay(semantics=semantics)
        landed = point in ("called", "sealed")
        if semantics == "idempotent" or landed:
            shop.ends(handle, "CONFIRMED")
            assert shop.landings(handle) == 1
        else:
            shop.ends(handle, "FAILED")
            assert shop.tape.get(handle.id).reason == "absent"
            assert shop.landings(handle) == 0
        assert ("lapsed" in shop.kinds(handle)) == (point != "sealed")
        shop.reached(f"dispatch.{point}")
        calls = len(shop.ledger.entries("called", handle.id))
        assert calls == landed + (semantics == "idempotent" and point != "sealed")
    shop.is_sound()


def test_a_child_killed_in_mid_call_is_a_lost_answer(any_shop: Shop) -> None:
    """The call had landed when its child was killed: the lease ends, the upstream is asked, nothing is sent again."""
    shop = any_shop
    worker = shop.open()
    handle = shop.delay("land", "wait:never")
    (landed,) = until(lambda: shop.ledger.entries("landed", handle.id), what="the landing")
    before = shop.tape.get(handle.id)
    assert before.status == "DISPATCHING"
    assert before.attempt == 1
    os.kill(landed["pid"], signal.SIGKILL)
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle)[:4] == ["recorded", "claimed", "lapsed", "look"]
    assert shop.entry(handle, "lapsed").status == "UNKNOWN"
    assert shop.kinds(handle)[-1] == "observed"
    assert shop.landings(handle) == len(shop.ledger.entries("called")) == 1
    assert shop.tape.get(handle.id).external_ref == f"ref-{handle.id}"
    assert worker.alive
    shop.is_sound()


def test_the_loss_of_the_host_is_a_lost_answer(any_shop: Shop) -> None:
    """kill -9 of the whole process group, once after the call landed and once before: another worker finds both."""
    shop = any_shop
    worker = shop.worker()
    landed, unsent = shop.delay("land", "wait:never"), shop.delay("wait:never")
    until(lambda: len(shop.ledger.entries("called")) == 2, what="both calls")
    until(lambda: shop.landings(landed), what="the landing")
    worker.killpg()
    worker.wait()
    shop.open()
    shop.ends(landed, "CONFIRMED")
    shop.ends(unsent, "FAILED")
    assert shop.tape.get(unsent.id).reason == "absent"
    assert (shop.landings(landed), shop.landings(unsent)) == (1, 0)
    assert len(shop.ledger.entries("called")) == 2
    shop.is_sound()


def test_the_death_of_the_parent_is_a_lost_answer_and_what_an_orphan_says_is_late_evidence(make_shop: MakeShop) -> None:
    """Only the parent is killed. Celery's children die with it where the system can do that; one that lives on may
    land its call after the lease: nobody else sends it, and its answer counts."""
    shop = make_shop(settle_seconds=60)
    worker = shop.worker()
    dead, orphan = shop.delay("land", "wait:never"), shop.delay("outlive", "wait:orphan", "land")
    until(lambda: shop.landings(dead) and shop.ledger.entries("called", orphan.id), what="both calls")
    worker.kill(signal.SIGKILL)
    worker.wait()
    shop.open()
    shop.ends(dead, "CONFIRMED")
    shop.ends(orphan, "UNKNOWN")
    assert len(worker.children()) == 1, "the orphan lives on"
    shop.gate("orphan")
    shop.ends(orphan, "CONFIRMED")
    late = until(lambda: [e for e in shop.tape.journal(orphan.id) if e.kind == "late"], what="the orphan's answer")
    assert late[0].evidence["status"] == "confirmed"
    for handle in (dead, orphan):
        assert shop.entry(handle, "lapsed").status == "UNKNOWN"
        assert len(shop.ledger.entries("called", handle.id)) == shop.landings(handle) == 1
        assert shop.tape.obligations(effect_key=handle.id) == []
    shop.is_sound()


def test_whatever_a_connector_raises_is_a_lost_answer(shop: Shop) -> None:
    """SystemExit, KeyboardInterrupt, os._exit, kill -9 and an exception, each before and after landing.

    UNKNOWN, then the truth.
    """
    shop.open(concurrency=2)
    acts = ("raise", "exit", "interrupt", "os_exit", "kill9")
    landed = {act: shop.alone("land", act) for act in acts}
    unsent = {act: shop.alone(act) for act in acts}
    for act in acts:
        shop.ends(landed[act], "CONFIRMED", timeout=40)
        shop.ends(unsent[act], "FAILED", timeout=40)
        for handle in (landed[act], unsent[act]):
            assert shop.landings(handle) == (handle is landed[act])
            assert len(shop.ledger.entries("called", handle.id)) == 1
            ended = shop.entry(handle, "lapsed" if act in ("os_exit", "kill9") else "unknown")
            assert ended.status == "UNKNOWN"
            assert "claimed" in shop.kinds(handle)
    shop.is_sound()


def test_a_call_longer_than_its_lease_is_renewed_up_to_its_bound(shop: Shop) -> None:
    """With `total_seconds` a call may outlast its lease many times; what runs past the bound is a lost call."""
    shop.open(concurrency=3)  # one is left for the sweeps
    renewed = shop.delay("wait:long", "land", connector="long")
    hanging = shop.delay("wait:brief", "land", connector="brief")
    shop.ends(hanging, "UNKNOWN", timeout=10)  # past its bound: 2 s, and one lease
    claim = shop.tape.get(renewed.id)
    assert claim.status == "DISPATCHING"
    assert claim.lease_until_ms - claim.claimed_at_ms > 2000, "the lease of 1 s was renewed"
    shop.gate("long")
    shop.ends(renewed, "CONFIRMED")
    assert shop.kinds(renewed) == ["recorded", "claimed", "confirmed"]
    shop.gate("brief")
    shop.ends(hanging, "CONFIRMED")
    assert shop.entry(hanging, "lapsed").at_ms - shop.entry(hanging, "claimed").at_ms >= 2000
    assert shop.landings(renewed) == shop.landings(hanging) == 1
    shop.is_sound()


def test_a_look_killed_at_any_point_is_taken_again(shop: Shop) -> None:
    """kill -9 of three looks at one lost call, each at another point: looks are repeated, the call never is."""
    points = ("claimed", "called", "sealed")
    shop.open(failpoints=",".join(f"observe.{point}=kill9*1" for point in points))
    handle = shop.delay("land", "raise")
    shop.ends(handle, "CONFIRMED")
    until(lambda: all((shop.directory / f"observe.{point}.0").exists() for point in points), what="three kills")
    assert shop.kinds(handle) == ["recorded", "claimed", "unknown", "look", "look", "look", "observed"]
    assert len(shop.ledger.entries("called")) == shop.landings(handle) == 1
    shop.is_sound()


def test_a_producer_killed_before_its_hint_loses_nothing(shop: Shop) -> None:
    """kill -9 between the commit of the intent and its hint: the sweep publishes it."""
    shop.open()
    code = "shop.tape.effect.delay('bank', {'amount': 1}, business_key='wanted')"
    producer = shop.run(code, failpoints="record.committed=kill9")
    assert producer.wait() == -signal.SIGKILL
    (effect,) = shop.tape.effects(business_key="wanted")
    shop.ends(effect.effect_key, "CONFIRMED")
    assert shop.landings(effect.effect_key) == 1


@pytest.mark.parametrize("point", ["selected", "marked"])
def test_a_sweep_killed_in_the_middle_is_made_up_by_the_next(shop: Shop, point: str) -> None:
    """kill -9 of a sweep after it has chosen its rows, or after it has taken their hints upon itself."""
    handle = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), {"business_key": "b"}, countdown=0.2)
    shop.open(failpoints=f"sweep.{point}=kill9*1")
    shop.ends(handle, "CONFIRMED")
    shop.reached(f"sweep.{point}")
    assert shop.landings(handle) == 1
