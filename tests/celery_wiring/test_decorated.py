"""A worker finds an effect's own functions by the registered name that stands in the row, and by nothing else."""

from __future__ import annotations

from tests.celery_wiring.conftest import BANK, MakeShop
from tests.servers import until

WIRES = "tests.celery_wiring.apps.wires"
NAME = f"{WIRES}.wire"


def test_a_worker_looks_and_undoes_by_the_registered_name(make_shop: MakeShop) -> None:
    """The answer is lost with the worker's child; the `status_check` finds it, `compensate` undoes it."""
    shop = make_shop(connectors=[WIRES])
    shop.open()
    request = {"script": ["land", "kill9"]}
    handle = shop.tape.effect.apply_async(("wires", request), effect_name=NAME)
    assert shop.ends(handle, "CONFIRMED", "STUCK", timeout=40) == "CONFIRMED"
    assert shop.ledger.entries("looked", handle.id)
    assert shop.landings(handle) == 1
    owed = shop.tape.owe(handle.id, reason="sent by mistake", actor="ann")
    until(lambda: shop.ledger.entries("undone", owed.obligation_key), timeout=20, what="the inverse")
    until(
        lambda: [o for o in shop.tape.obligations(effect_key=handle.id) if o.status == "COMPENSATED"],
        timeout=20,
        what="the obligation to be COMPENSATED",
    )
    shop.is_sound()


def test_a_worker_that_does_not_know_the_name_leaves_the_row_alone(make_shop: MakeShop) -> None:
    """Nor is anything imported that a row names: a name is looked up, and that is all."""
    shop = make_shop(connectors=[BANK])
    worker = shop.open()
    stranger = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), business_key="b", effect_name="os.system")
    unknown = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), business_key="c", effect_name=NAME)
    known = shop.delay()  # recorded after them: when it is done, their hints have come
    assert shop.ends(known, "CONFIRMED") == "CONFIRMED"
    for handle in (stranger, unknown):
        assert shop.ledger.entries("called", handle.id) == []
        assert (handle.status, handle.effect.attempt, len(handle.journal)) == ("PENDING", 0, 1)
    worker.kill()
    shop.worker(tape={"connectors": [BANK, WIRES]})
    assert shop.ends(unknown, "CONFIRMED") == "CONFIRMED"
    assert stranger.status == "PENDING"
