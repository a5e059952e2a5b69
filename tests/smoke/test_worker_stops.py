"""Every way to stop a worker in the middle of a call, as in Celery's own smoke suite (`test_worker`, `test_tasks`).

Remote control is not among them: workers of effects may run without it.
"""

import threading

import pytest

from tests.smoke.shop import Shop

WARM, COLD = "worker: Warm shutdown (MainProcess)", "worker: Cold shutdown (MainProcess)"
SOFT = "Initiating Soft Shutdown, terminating in 1 seconds"


@pytest.fixture(scope="module")
def shop_nodes() -> list[str]:
    return ["dispatch_container", "express_container", "desk_container", "beat_container"]


@pytest.mark.parametrize("times", [1, 3])
def test_a_warm_shutdown_lets_the_call_end(shop: Shop, times: int) -> None:
    """SIGTERM once or three times: the worker takes nothing new, and ends when the bank has answered."""
    handle, answer = shop.start_call()
    worker = shop.node("dispatch")
    for _ in range(times):
        worker.kill("SIGTERM")
    worker.container.says(WARM)
    answer()
    assert worker.container.ends() == 0
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert shop.landed(handle) == 1


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (["SIGKILL"], []),
        (["SIGQUIT"], [COLD]),
        (["SIGQUIT", "SIGQUIT"], [COLD]),
        (["SIGTERM", "SIGQUIT", "SIGQUIT"], [WARM, COLD]),
    ],
    ids=["killed", "cold", "hard from cold", "hard from warm"],
)
def test_a_worker_that_is_ended_in_mid_call_loses_the_answer(shop: Shop, signals: list[str], words: list[str]) -> None:
    """The call had landed: it is looked up and never sent again, also not by the worker that comes back."""
    handle, _ = shop.start_call()
    worker = shop.node("dispatch")
    for signal in signals:
        worker.kill(signal)
    for said in words:
        worker.container.says(said)
    worker.container.ends()
    worker.restart()
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle)[-1] == "observed"
    assert shop.landed(handle) == len(shop.ledger.entries("called", handle.id)) == 1
    after = shop.delay()
    shop.ends(after, "CONFIRMED")


@pytest.mark.parametrize("signal", ["SIGQUIT", "SIGTERM"])
def test_a_soft_shutdown_lets_the_call_end(shop: Shop, signal: str) -> None:
    """With `worker_soft_shutdown_timeout`; SIGTERM is the same under `REMAP_SIGTERM=SIGQUIT`."""
    handle, answer = shop.start_call("express")
    worker = shop.node("express")
    worker.kill(signal)
    worker.container.says(SOFT)
    answer()
    worker.container.says(COLD)
    worker.container.ends()
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert shop.landed(handle) == 1


def test_a_hard_shutdown_from_a_soft_one_loses_the_answer(shop: Shop) -> None:
    """Three signals end it at once, whatever time it had."""
    handle, _ = shop.start_call("express")
    worker = shop.node("express")
    for _ in range(3):
        worker.kill("SIGQUIT")
    worker.container.ends()
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle)[-1] == "observed"
    assert shop.landed(handle) == len(shop.ledger.entries("called", handle.id)) == 1


@pytest.mark.parametrize("force", [False, True], ids=["gracefully", "by force"])
def test_a_restart_during_a_call(shop: Shop, force: bool) -> None:
    """`worker.restart()` waits for the call that is under way; the one behind it is for the new worker."""
    handle, answer = shop.start_call()
    behind = shop.delay()
    worker = shop.node("dispatch")
    bank = threading.Thread(target=lambda: (worker.container.says(WARM), answer()))
    bank.start()
    worker.restart(force=force)
    bank.join()
    for each in (handle, behind):
        shop.ends(each, "CONFIRMED")
        assert shop.kinds(each) == ["recorded", "claimed", "confirmed"]
        assert shop.landed(each) == 1


@pytest.mark.parametrize("act", ["kill9", "exit", "os_exit", "raise"])
def test_a_child_that_ends_in_mid_call_is_replaced(shop: Shop, act: str) -> None:
    """Celery's `TaskTermination`: the answer is lost, the worker lives on and takes the next effect."""
    handle = shop.delay("land", act, connector="express")
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle)[-1] == "observed"
    assert shop.landed(handle) == len(shop.ledger.entries("called", handle.id)) == 1
    after = shop.delay(connector="express")
    shop.ends(after, "CONFIRMED")
    assert shop.kinds(after) == ["recorded", "claimed", "confirmed"]
    assert shop.node("express").container.state() == "running"
