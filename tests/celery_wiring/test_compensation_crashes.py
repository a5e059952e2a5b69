"""An inverse is itself a call that may land twice.

Killed or stopped in the middle, it is looked after, or waits for a person.
"""

import signal

import pytest

from tape_celery.records import Obligation
from tests.celery_wiring.conftest import MakeShop, Shop, stopped_child
from tests.servers import until

CAN_LOOK, CANNOT_LOOK, MAY_REPEAT = "bank", "vault", "till"


def owed(shop: Shop, connector: str, *undo: str) -> Obligation:
    """A confirmed effect that is to be undone."""
    handle = shop.delay(connector=connector, undo=undo or ["land"])
    shop.ends(handle, "CONFIRMED")
    return shop.tape.owe(handle.id, reason="the order was returned", actor="a person")


def ends(shop: Shop, obligation: Obligation, *statuses: str) -> Obligation:
    """Wait until the obligation is in one of `statuses`."""

    def reached() -> Obligation | None:
        (now,) = shop.tape.obligations(effect_key=obligation.effect_key)
        return now if now.status in statuses else None

    return until(reached, timeout=20, what=f"the obligation to be {statuses}")


def undone(shop: Shop, obligation: Obligation) -> int:
    return len(shop.ledger.entries("undone", obligation.obligation_key))


def asked(shop: Shop, obligation: Obligation) -> int:
    return len(shop.ledger.entries("asked to undo", obligation.obligation_key))


@pytest.mark.parametrize("point", ["claimed", "checked", "called", "sealed"])
def test_a_child_killed_at_any_point_of_a_compensation_never_undoes_twice(shop: Shop, point: str) -> None:
    """kill -9 at each point: looked after where the connector can look, repeated where that is safe, else STUCK."""
    worker = shop.open(failpoints=f"compensate.{point}=kill9*1")
    for connector in (CAN_LOOK, CANNOT_LOOK, MAY_REPEAT):
        shop.rearm()
        obligation = owed(shop, connector)
        stuck = connector == CANNOT_LOOK and point != "sealed"
        now = ends(shop, obligation, "STUCK" if stuck else "COMPENSATED")
        kinds = shop.kinds(obligation.obligation_key)
        assert ("lapsed" in kinds) == (point != "sealed"), kinds
        if point != "sealed":
            assert shop.entry(obligation.obligation_key, "lapsed").status == "UNKNOWN"
        was_undone = not stuck or point == "called"
        assert undone(shop, obligation) == was_undone
        assert asked(shop, obligation) == was_undone + (connector == MAY_REPEAT and point == "called")
        assert not stuck or now.reason
        shop.reached(f"compensate.{point}")
    assert worker.alive
    shop.is_sound()


def test_an_inverse_that_raises_is_looked_after(shop: Shop) -> None:
    """An inverse that raised may have been done.

    It is UNKNOWN until the upstream says, and no exception ends a worker.
    """
    shop.open()
    for act in ("raise", "exit"):
        done, not_done = owed(shop, CAN_LOOK, "land", act), owed(shop, CAN_LOOK, act)
        for obligation in (done, not_done):
            ends(shop, obligation, "COMPENSATED")
            assert undone(shop, obligation) == 1
            assert shop.entry(obligation.obligation_key, "unknown").status == "UNKNOWN"
        assert (asked(shop, done), asked(shop, not_done)) == (1, 2)
        blind = owed(shop, CANNOT_LOOK, "land", act)
        assert ends(shop, blind, "STUCK").reason
        assert undone(shop, blind) == asked(shop, blind) == 1
    shop.is_sound()


def test_the_host_lost_in_the_middle_of_an_inverse(any_shop: Shop) -> None:
    """kill -9 of the whole group after the inverse was done: another worker looks and finds it done."""
    shop = any_shop
    worker = shop.open()
    obligation = owed(shop, CAN_LOOK, "land", "wait:never")
    until(lambda: undone(shop, obligation), what="the inverse")
    worker.killpg()
    shop.worker()
    ends(shop, obligation, "COMPENSATED")
    assert shop.kinds(obligation.obligation_key)[-1] == "observed"
    assert undone(shop, obligation) == asked(shop, obligation) == 1
    shop.is_sound()


@pytest.mark.parametrize("point", ["claimed", "checked"])
def test_a_zombie_in_the_middle_of_an_inverse(make_shop: MakeShop, point: str) -> None:
    """Stopped past its lease before its check it hands back unsent; after its check its late answer counts."""
    shop = make_shop(settle_seconds=60)
    first = shop.open(failpoints=f"compensate.{point}=stop*1")
    obligation = owed(shop, CAN_LOOK)
    child = stopped_child(first)
    shop.worker()
    ends(shop, obligation, "UNKNOWN")
    child.send_signal(signal.SIGCONT)
    ends(shop, obligation, "COMPENSATED")
    assert undone(shop, obligation) == asked(shop, obligation) == 1
    late = shop.entry(obligation.obligation_key, "late", about="sent")
    assert late.evidence["sent"] is (point == "checked")
    assert late.status == ("COMPENSATED" if point == "checked" else "PENDING")
    shop.is_sound()
