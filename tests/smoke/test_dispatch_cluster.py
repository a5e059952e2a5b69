"""Three dispatch workers over one queue: effects are shared out, and the loss of a worker is a lost answer."""

import random
from collections.abc import Callable

import pytest

from tape_celery.handle import EffectHandle
from tests.servers import until
from tests.smoke.shop import Shop

EFFECTS = 50


@pytest.fixture(scope="module")
def shop_nodes() -> list[str]:
    return [
        *("dispatch_container", "second_dispatch_container", "third_dispatch_container"),
        *("desk_container", "beat_container"),
    ]


def each_is_in_a_call(shop: Shop) -> tuple[list[EffectHandle], list[Callable[[], None]]]:
    """An effect for each of the three workers, in the middle of its call, and what lets their answers come."""
    calls = [shop.start_call() for _ in range(3)]
    handles = [handle for handle, _ in calls]
    pids = {line["pid"] for handle in handles for line in shop.ledger.entries("landed", handle.id)}
    assert len(pids) == 3, "each has its own worker"
    return handles, [answer for _, answer in calls]


def test_fifty_effects_land_once_each(shop: Shop, rng: random.Random) -> None:
    """Every tenth loses its answer, and every hint comes three times."""
    scripts = [["land", "raise"] if number % 10 == 0 else ["land"] for number in range(EFFECTS)]
    rng.shuffle(scripts)
    handles = [shop.delay(*script) for script in scripts]
    for handle in handles:
        shop.tape.hint("dispatch", "bank", [handle.id])
        shop.tape.hint("dispatch", "bank", [handle.id])
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    assert [shop.landed(handle) for handle in handles] == [1] * EFFECTS
    assert [len(shop.ledger.entries("called", handle.id)) for handle in handles] == [1] * EFFECTS


def test_a_worker_killed_in_mid_call_is_a_lost_answer(shop: Shop) -> None:
    """SIGKILL of one of three: its effect is looked after, the others do not notice, the two go on with the rest."""
    handles, answers = each_is_in_a_call(shop)
    shop.node("dispatch").kill()
    assert shop.node("dispatch").container.state() == "exited"
    for answer in answers:
        answer()
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    assert sorted("lapsed" in shop.kinds(handle) for handle in handles) == [False, False, True]
    rest = [shop.delay() for _ in range(10)]
    for handle in (*handles, *rest):
        shop.ends(handle, "CONFIRMED")
        assert shop.landed(handle) == len(shop.ledger.entries("called", handle.id)) == 1


def test_a_worker_paused_past_its_lease_comes_late(shop: Shop) -> None:
    """Its effect is looked up while it is away; what it says when it goes on is journaled, and nothing changes."""
    handles, answers = each_is_in_a_call(shop)
    paused = shop.node("dispatch").container
    paused.pause()
    for answer in answers:
        answer()
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    (late,) = (handle for handle in handles if "lapsed" in shop.kinds(handle))
    before = shop.tape.get(late.id)
    paused.unpause()
    until(lambda: "late" in shop.kinds(late), timeout=20, what="the late answer")
    assert shop.tape.get(late.id).status == before.status == "CONFIRMED"
    assert shop.tape.get(late.id).external_ref == before.external_ref
    assert shop.tape.obligations(effect_key=late.id) == []
    assert [shop.landed(handle) for handle in handles] == [1, 1, 1]
    after = shop.delay()
    shop.ends(after, "CONFIRMED")


def test_the_first_worker_is_dead_before_the_effect_comes(shop: Shop) -> None:
    """Celery's own `test_killing_first_worker`: another takes it."""
    shop.node("dispatch").kill()
    handle = shop.delay()
    shop.ends(handle, "CONFIRMED")
    assert shop.landed(handle) == 1


def test_all_are_killed_and_one_comes_back(shop: Shop) -> None:
    """Celery's own `test_reconnect_to_restarted_worker`, with a call under way in each."""
    handles, answers = each_is_in_a_call(shop)
    for number in range(3):
        shop.node("dispatch", number).kill()
    for answer in answers:
        answer()
    waiting = shop.delay()
    shop.node("dispatch").restart()
    for handle in (*handles, waiting):
        shop.ends(handle, "CONFIRMED")
        assert shop.landed(handle) == len(shop.ledger.entries("called", handle.id)) == 1


def test_a_rolling_restart_loses_nothing(shop: Shop) -> None:
    """`worker.restart()` of each in turn, while effects keep coming: a warm shutdown lets every call end, and hands
    back what was not begun."""

    handles = []
    for number in range(3):
        handles += [shop.delay() for _ in range(10)]
        shop.node("dispatch", number).restart()
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
        assert shop.landed(handle) == 1
        kinds = shop.kinds(handle)
        assert kinds == ["recorded", *["claimed", "unsent"] * kinds.count("unsent"), "claimed", "confirmed"]
        assert shop.tape.get(handle.id).attempt == 1
