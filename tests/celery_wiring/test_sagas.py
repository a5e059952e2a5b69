"""Sagas with real workers: the upstream's own book tells what was undone, in which order, and how often."""

from __future__ import annotations

import pytest

from tape_celery.errors import EffectFailed
from tape_celery.records import RunStatus
from tape_celery.runs import EffectRun
from tests.celery_wiring.conftest import Shop
from tests.servers import until

BY = {"reason": "the customer left", "actor": "a person"}


def ends(run: EffectRun, status: RunStatus, timeout: float = 30) -> None:
    def reached() -> bool:
        return run.status is status

    try:
        until(reached, timeout=timeout, what=f"the run to be {status}")
    except AssertionError as error:
        error.add_note("\n".join(map(str, (run.record, *run.effects, *run.obligations))))
        raise


def undone(shop: Shop) -> list[str]:
    """The records that were reversed at the upstream, in that order."""
    return [line["ref"] for line in shop.ledger.entries("undone")]


def landed(shop: Shop, run_id: str, number: int = 3) -> list[str]:
    """So many confirmed effects of a run, oldest first, by their records."""
    handles = [shop.delay(run_id=run_id) for _ in range(number)]
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    return [f"ref-{handle.id}" for handle in handles]


def test_when_the_third_call_fails_the_two_before_are_undone_newest_first(any_shop: Shop) -> None:
    """Its answer is lost, it did not land; nothing is undone before that is known."""
    shop = any_shop
    shop.open()
    run, refs = shop.tape.run("order"), []

    def saga() -> None:
        with run:
            for script in ("land", "land", "raise"):
                handle = shop.delay(script)
                handle.get(timeout=30)
                refs.append(f"ref-{handle.id}")

    with pytest.raises(EffectFailed):
        saga()
    ends(run, RunStatus.COMPENSATED)
    assert undone(shop) == refs[::-1]
    assert len(refs) == 2
    shop.is_sound()


def test_a_saga_in_a_task_is_undone_too(shop: Shop) -> None:
    shop.worker("celery")
    shop.open()
    shop.app.send_task("shop.saga", ("order", [["land"], ["land"], ["raise"]]))
    run = shop.tape.run("order")
    ends(run, RunStatus.COMPENSATED)
    assert run.record.closing_reason.startswith("EffectFailed")
    assert [effect.business_key for effect in run.effects] == ["order-2", "order-1", "order-0"]
    assert undone(shop) == [effect.external_ref for effect in run.effects[1:]]
    shop.is_sound()


@pytest.mark.parametrize("point", ["run.closed", "run.advanced"])
def test_whoever_closes_a_run_may_be_killed_right_after_it(shop: Shop, point: str) -> None:
    worker = shop.open()
    refs = landed(shop, "order")
    code = f"shop.tape.compensate_run('order', **{BY!r})"
    assert shop.run(code, failpoints=f"{point}=kill9").wait() == -9
    run = shop.tape.run("order")
    ends(run, RunStatus.COMPENSATED)
    assert undone(shop) == refs[::-1]
    assert len(run.obligations) == 3
    assert worker.alive
    shop.is_sound()


@pytest.mark.parametrize(
    "point",
    [
        "compensate.claimed", "compensate.called", "compensate.sealed", "run.advanced", "sweep.selected",
        "sweep.marked",
    ],
)  # fmt: skip
def test_workers_that_are_killed_on_the_way_change_nothing(shop: Shop, point: str) -> None:
    """Twice at the same point: every effect is undone once, newest first."""
    worker = shop.open(failpoints=f"{point}=kill9*2")
    refs = landed(shop, "order")
    shop.rearm()
    run = shop.tape.compensate_run("order", **BY)
    ends(run, RunStatus.COMPENSATED, timeout=60)
    assert undone(shop) == refs[::-1]
    assert len(run.obligations) == 3
    # The walk may be over before beat asks for the sweep that is killed.
    until((shop.directory / f"{point}.0").exists, timeout=30, what=f"a process to be killed at {point}")
    assert worker.alive
    shop.is_sound()


def test_an_inverse_of_which_nobody_knows_stops_the_walk_until_a_person_says(shop: Shop) -> None:
    """The vault cannot be asked whether it undid something."""
    shop.open()
    oldest = shop.delay(run_id="order")
    shop.ends(oldest, "CONFIRMED")
    newest = shop.delay(run_id="order", connector="vault", undo=["land", "raise"])
    shop.ends(newest, "CONFIRMED")
    run = shop.tape.compensate_run("order", **BY)
    ends(run, RunStatus.STUCK)
    (debt,) = run.obligations
    assert debt.obligation_key in run.reason
    assert undone(shop) == [f"ref-{newest.id}"]
    shop.tape.resolve(debt.obligation_key, "confirmed", **BY)
    ends(run, RunStatus.COMPENSATED)
    assert undone(shop) == [f"ref-{newest.id}", f"ref-{oldest.id}"]
    shop.is_sound()


def test_a_call_that_is_under_way_when_the_run_is_closed_is_undone_after_it_has_landed(shop: Shop) -> None:
    shop.open()
    (older,) = landed(shop, "order", 1)
    newer = shop.delay("land", "wait:bank opens", run_id="order")
    until(lambda: shop.landings(newer), what="the call to be under way")
    run = shop.tape.compensate_run("order", **BY)
    assert undone(shop) == []
    shop.gate("bank opens")
    ends(run, RunStatus.COMPENSATED)
    assert undone(shop) == [f"ref-{newer.id}", older]
    shop.is_sound()
