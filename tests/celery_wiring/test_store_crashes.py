"""The database server is killed and started again, at each point of an effect's life.

A child stops itself at the point, the server dies there (kill -9) and comes back, and the child goes on with a
connection that leads nowhere. Its lease is long: here nobody dies but the database.
"""

import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.celery_wiring.conftest import MakeShop, Shop, stopped_child
from tests.conftest import _installed
from tests.servers import MariaDBServer, PostgresServer, Process, until

Server = PostgresServer | MariaDBServer
POINTS = ("claimed", "checked", "called", "sealed")


@pytest.fixture(scope="module", params=[PostgresServer, MariaDBServer], ids=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for this module alone, that each test kills and leaves running."""
    with _installed(request.param) as started:
        yield started


@pytest.fixture
def mortal(make_shop: MakeShop, server: Server) -> Shop:
    """A shop whose database is about to die."""
    return make_shop(store_url=server.fresh_database(), lease_seconds=60)


def arm(shop: Shop, verb: str, point: str) -> None:
    """Of the points of `verb`, which are all armed in the worker, let this one act once more."""
    for other in POINTS:
        (shop.directory / f"{verb}.{other}.0").touch()
    (shop.directory / f"{verb}.{point}.0").unlink()


def stops(verb: str) -> str:
    return ",".join(f"{verb}.{point}=stop*1" for point in POINTS)


def crash(server: Server, child: psutil.Process) -> None:
    """Kill the server while `child` is stopped, and let both go on."""
    server.kill9()
    server.start()
    child.send_signal(signal.SIGCONT)


def opened(shop: Shop, verb: str) -> Process:
    for point in POINTS:
        (shop.directory / f"{verb}.{point}.0").touch()
    return shop.open(failpoints=stops(verb))


def test_at_each_point_of_a_dispatch(mortal: Shop, server: Server) -> None:
    """The claim was durable and is still one's own: one call, one landing, and the seal is made again."""
    shop = mortal
    worker = opened(shop, "dispatch")
    for point in POINTS:
        arm(shop, "dispatch", point)
        handle = shop.delay()
        child = stopped_child(worker)
        assert shop.tape.get(handle.id).status == ("CONFIRMED" if point == "sealed" else "DISPATCHING")
        crash(server, child)
        shop.ends(handle, "CONFIRMED", timeout=40)
        assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"], point
        assert len(shop.ledger.entries("called", handle.id)) == shop.landings(handle) == 1, point
    assert worker.alive
    shop.is_sound()


def test_at_each_point_of_a_look(mortal: Shop, server: Server) -> None:
    """What the look has seen is written when the server is back; the lost call is not made again."""
    shop = mortal
    worker = opened(shop, "observe")
    for point in POINTS:
        arm(shop, "observe", point)
        handle = shop.delay("land", "raise")
        child = stopped_child(worker)
        assert shop.tape.get(handle.id).status == ("CONFIRMED" if point == "sealed" else "UNKNOWN")
        crash(server, child)
        shop.ends(handle, "CONFIRMED", timeout=40)
        assert shop.kinds(handle) == ["recorded", "claimed", "unknown", "look", "observed"], point
        assert len(shop.ledger.entries("called", handle.id)) == shop.landings(handle) == 1, point
    assert worker.alive
    shop.is_sound()


@pytest.mark.parametrize("connector", ["bank", "vault"], ids=["that can be looked after", "that cannot"])
def test_at_each_point_of_an_inverse(mortal: Shop, server: Server, connector: str) -> None:
    """It is asked for once and done once, also where nobody could look whether it was."""
    shop = mortal
    worker = opened(shop, "compensate")
    handles = {point: shop.delay(connector=connector) for point in POINTS}
    for point, handle in handles.items():
        shop.ends(handle, "CONFIRMED", timeout=40)
        arm(shop, "compensate", point)
        key = shop.tape.owe(handle.id, reason="the order was returned", actor="a person").obligation_key
        crash(server, stopped_child(worker))

        def compensated(effect_key: str = handle.id) -> bool:
            return [owed.status for owed in shop.tape.obligations(effect_key=effect_key)] == ["COMPENSATED"]

        until(compensated, timeout=40, what=f"the inverse, stopped when {point}")
        assert shop.kinds(key) == ["recorded", "claimed", "compensated"], point
        assert len(shop.ledger.entries("asked to undo", key)) == len(shop.ledger.entries("undone", key)) == 1, point
        assert shop.landings(handle) == 1
    assert worker.alive
    shop.is_sound()


def test_after_the_commit_of_an_intent(mortal: Shop, server: Server) -> None:
    """The producer goes on to hint, and what it was told is in the store: one landing."""
    shop = mortal
    code = "print(shop.tape.effect.delay('bank', {'script': ['land']}, business_key='wanted').id, 'was recorded')"
    producer = shop.run(code, failpoints="record.committed=stop")
    stopped = psutil.Process(producer.pid)
    producer.wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED)
    crash(server, stopped)
    assert producer.wait(40) == 0
    (effect,) = shop.tape.effects(business_key="wanted")
    assert f"{effect.effect_key} was recorded" in producer.text()
    shop.open()
    shop.ends(effect.effect_key, "CONFIRMED")
    assert len(shop.ledger.entries("called")) == shop.landings(effect.effect_key) == 1
    shop.is_sound()


def test_in_the_middle_of_a_sweep(mortal: Shop, server: Server) -> None:
    """After it has chosen its rows, and after it has taken their hints upon itself: the hints are published."""
    shop = mortal
    worker = shop.worker(failpoints="sweep.selected=stop*1,sweep.marked=stop*1", ready=False)
    handle = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), {"business_key": "b"}, countdown=0.2)
    shop.beat()
    for point in ("selected", "marked"):
        child = stopped_child(worker)
        assert (shop.directory / f"sweep.{point}.0").exists()
        crash(server, child)
        until(lambda c=child: c.status() != psutil.STATUS_STOPPED, what="the child to go on")
    shop.ends(handle, "CONFIRMED", timeout=40)
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert len(shop.ledger.entries("called")) == shop.landings(handle) == 1
    shop.is_sound()


def test_the_worker_is_lost_together_with_its_database(make_shop: MakeShop, server: Server) -> None:
    """Host and server die in mid-call, one call landed and one did not: what was committed is enough to find both."""
    shop = make_shop(store_url=server.fresh_database())
    worker = shop.worker()
    landed, unsent = shop.delay("land", "wait:never"), shop.delay("wait:never")
    until(lambda: len(shop.ledger.entries("called")) == 2, what="both calls")
    until(lambda: shop.landings(landed), what="the landing")
    worker.killpg()
    server.kill9()
    server.start()
    shop.open()
    shop.ends(landed, "CONFIRMED")
    shop.ends(unsent, "FAILED")
    assert (shop.landings(landed), shop.landings(unsent)) == (1, 0)
    assert len(shop.ledger.entries("called")) == 2
    for handle in (landed, unsent):
        assert shop.entry(handle, "lapsed").status == "UNKNOWN"
    shop.is_sound()
