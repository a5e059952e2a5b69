"""What a system or a connector does to a worker's child beside killing it: limits, memory, handles, threads, a fork."""

import psutil
import pytest

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import until


def landed_once(shop: Shop, handle: object) -> None:
    shop.ends(handle, "CONFIRMED", timeout=40)
    assert len(shop.ledger.entries("called", str(handle))) == shop.landings(handle) == 1
    shop.is_sound()


@pytest.mark.parametrize("limit", ["time_limit", "soft_time_limit"])
def test_a_time_limit_in_mid_call_is_a_lost_answer(shop: Shop, limit: str) -> None:
    """A hint with Celery's own limit: whether the child is killed or interrupted, the call is not made again."""
    handle = shop.delay("land", "wait:never")
    with shop.app.connection() as connection:
        connection.default_channel.queue_purge("tape.dispatch")
    worker = shop.worker("tape.dispatch")
    shop.app.send_task("tape.dispatch", [[handle.id]], queue="tape.dispatch", **{limit: 1})
    worker.wait_for("Soft time limit" if limit == "soft_time_limit" else "Hard time limit")
    assert shop.tape.get(handle.id).status in ("DISPATCHING", "UNKNOWN"), "never FAILED, and never PENDING"
    shop.open()
    landed_once(shop, handle)
    other = shop.delay()
    landed_once(shop, other)
    assert worker.alive


@pytest.mark.parametrize("trouble", ["memory", "segfault"])
def test_a_child_that_runs_out_or_breaks_in_mid_call_is_a_lost_answer(shop: Shop, trouble: str) -> None:
    """No memory left, a segmentation fault: the upstream is asked, and the others go on."""
    shop.open()
    shop.worker("tape.dispatch", "tape.observe")
    handles = [shop.alone("land", trouble, "raise") for _ in range(2)]
    handles += [shop.alone() for _ in range(4)]
    for handle in handles:
        landed_once(shop, handle)


def test_a_child_that_breaks_in_mid_inverse_undoes_once(shop: Shop) -> None:
    """A segmentation fault after the upstream undid it: it is asked, and not told again."""
    shop.open()
    handle = shop.delay(undo=["land", "segfault"])
    landed_once(shop, handle)
    shop.tape.owe(handle.id, reason="returned", actor="ann")
    until(lambda: shop.tape.obligations()[0].status == "COMPENSATED", what="the inverse", timeout=40)
    assert len(shop.ledger.entries("undone")) == len(shop.ledger.entries("asked to undo")) == 1
    shop.is_sound()


def test_a_connector_whose_thread_calls_once_more_is_seen_in_the_upstreams_book_alone(shop: Shop) -> None:
    """A limit: what a connector does behind our back bears the token of a call that had ended. We made one call."""
    shop.open()
    handle = shop.delay("land", "thread")
    shop.ends(handle, "CONFIRMED")
    first, second = until(
        lambda: len(shop.ledger.entries("landed")) == 2 and shop.ledger.entries("landed"), what="both"
    )
    assert first["token"] == second["token"]
    assert len(shop.ledger.entries("called")) == 1
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]


def test_no_connection_to_the_store_is_shared_after_a_fork(make_shop: MakeShop, postgres_url: str) -> None:
    """The worker has used the store before it forked: its children have sockets of their own."""
    shop = make_shop(store_url=postgres_url, chunk_size=1)
    worker = shop.open(concurrency=3)
    handles = [shop.delay("land", "wait:together") for _ in range(3)]
    until(lambda: len(shop.ledger.entries("landed")) == 3, what="three calls at once", timeout=20)
    port = shop.tape.database.url.port
    port = shop.tape.database.url.port

    def sockets(process: psutil.Process) -> set[int]:
        return {end.laddr.port for end in process.net_connections("tcp") if end.raddr and end.raddr.port == port}

    inherited = sockets(psutil.Process(worker.pid))
    own = [found for child in worker.children() if (found := sockets(child) - inherited)]
    assert len(own) >= 3, "each child has made one"
    assert sum(map(len, own)) == len(set().union(*own)), own
    shop.gate("together")
    for handle in handles:
        landed_once(shop, handle)
