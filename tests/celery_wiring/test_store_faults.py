"""The store is there and does not do what it should: a network that swallows, a slow claim, a disk that says no.

The worker is the one that suffers; the test itself has its own way to the store, and so has a second worker.
"""

import time
from collections.abc import Iterator

import pytest

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import PostgresServer, Process, TcpProxy, until
from tests.store.steps import COMMIT


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[TcpProxy]:
    """The way of one worker to PostgreSQL."""
    with TcpProxy(postgres.host, postgres.port) as proxy:
        yield proxy


def far_worker(shop: Shop, proxy: TcpProxy, **how: object) -> Process:
    """A worker behind the proxy that has one child, with one connection that has been used, and that does not sweep."""
    url = proxy.url(shop.settings["store_url"])
    worker = shop.worker("tape.dispatch", "tape.observe", concurrency=1, tape={"store_url": url}, **how)
    first = shop.delay()
    worker.wait_for("succeeded")
    assert shop.tape.get(first.id).status == "CONFIRMED"
    return worker


def calls(shop: Shop, handle: object) -> int:
    return len(shop.ledger.entries("called", str(handle)))


@pytest.mark.parametrize("others", [False, True], ids=["nobody else is there", "another worker looks"])
def test_the_store_is_out_of_reach_while_a_call_is_under_way(
    make_shop: MakeShop, postgres_url: str, proxy: TcpProxy, others: bool
) -> None:
    """Nothing comes through in mid-call: the lease cannot be renewed and runs out. The seal waits, the call is not
    repeated; what others found out meanwhile stands, and the answer is evidence that comes late."""
    shop = make_shop(store_url=postgres_url)
    far_worker(shop, proxy)
    handle = shop.delay("land", "wait:out of reach", connector="long")
    until(lambda: shop.landings(handle), what="the landing")
    proxy.mode = "blackhole"
    if others:
        shop.open()
        shop.ends(handle, "CONFIRMED")
    until(lambda: time.time() * 1000 > shop.tape.get(handle.id).updated_at_ms + 3000, what="the lease to run out")
    shop.gate("out of reach")
    if not others:
        claim = shop.tape.get(handle.id)
        assert claim.status == "DISPATCHING"
        assert claim.lease_until_ms < time.time() * 1000, "it was renewed through a black hole"
    proxy.mode = "pass"
    if others:
        assert shop.entry(handle, "lapsed").status == "UNKNOWN"
        assert shop.entry(handle, "late").evidence["status"] == "confirmed"
    else:
        shop.ends(handle, "CONFIRMED")
        assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert shop.tape.get(handle.id).status == "CONFIRMED"
    assert shop.tape.obligations() == []
    assert calls(shop, handle) == shop.landings(handle) == 1
    shop.is_sound()


def test_a_claim_that_was_swallowed_for_longer_than_its_lease_is_not_sent_on(
    make_shop: MakeShop, postgres_url: str, proxy: TcpProxy
) -> None:
    """The claim is on its way when nothing comes through any more. When it does, the database counts the lease from
    then on, and the worker from when it asked: it hands back unsent, and the call is made under the next claim."""
    shop = make_shop(store_url=postgres_url)
    worker = far_worker(shop, proxy)
    since = worker.mark()
    proxy.mode = "blackhole"
    asked = time.monotonic()
    handle = shop.delay()
    worker.wait_for("tape.dispatch", since=since)
    until(lambda: time.monotonic() > asked + 2.5, what="more than the lease to pass")
    assert shop.tape.get(handle.id).status == "PENDING"
    proxy.mode = "pass"
    shop.open()
    shop.ends(handle, "CONFIRMED")
    unsent = shop.entry(handle, "unsent")
    assert unsent.evidence["sent"] is False
    assert "too little of the lease was left" in unsent.evidence["reason"]
    assert calls(shop, handle) == shop.landings(handle) == 1
    assert shop.tape.get(handle.id).attempt == 1
    shop.is_sound()


def test_a_claim_that_takes_the_database_longer_than_its_lease_is_not_sent_on(
    make_shop: MakeShop, postgres_url: str, postgres: PostgresServer
) -> None:
    """However often it is tried: handed back unsent, no attempt used; one call when the database is quick again."""
    shop = make_shop(store_url=postgres_url)
    with postgres.connect(postgres_url) as connection:
        connection.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.2); "
            "RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER slow_claims BEFORE UPDATE ON tape_effects FOR EACH ROW "
            "WHEN (NEW.status = 'DISPATCHING' AND OLD.status = 'PENDING') EXECUTE FUNCTION slowly()"
        )
        shop.open()
        handle = shop.delay()
        until(lambda: shop.kinds(handle).count("unsent") >= 2, timeout=30, what="two claims that came too late")
        assert calls(shop, handle) == 0
        connection.execute("DROP TRIGGER slow_claims ON tape_effects")
    shop.ends(handle, "CONFIRMED")
    assert calls(shop, handle) == shop.landings(handle) == 1
    assert shop.tape.get(handle.id).attempt == 1
    shop.is_sound()


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("then", ["close", "reset"])
def test_the_commit_of_a_claim_is_cut(
    make_shop: MakeShop, postgres_url: str, proxy: TcpProxy, done: bool, then: str
) -> None:
    """Done, it is read back as one's own and called once; not done, nothing is sent before it was claimed again."""
    shop = make_shop(store_url=postgres_url, lease_seconds=30)
    far_worker(shop, proxy)
    cut = (proxy.cut_after if done else proxy.cut_before)(COMMIT, then=then)  # type: ignore[arg-type]
    handle = shop.delay()
    cut.wait(20)
    shop.worker("tape.sweep")
    shop.beat()
    shop.ends(handle, "CONFIRMED")
    assert cut.happened == 1
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert calls(shop, handle) == shop.landings(handle) == 1
    shop.is_sound()


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
def test_the_commit_of_a_seal_is_cut(make_shop: MakeShop, postgres_url: str, proxy: TcpProxy, done: bool) -> None:
    """The result is written once, by the worker that has it: nobody needs to look, and the call is not repeated."""
    shop = make_shop(store_url=postgres_url, lease_seconds=30)
    far_worker(shop, proxy)
    handle = shop.delay("land", "wait:cut")
    until(lambda: shop.landings(handle), what="the landing")
    cut = (proxy.cut_after if done else proxy.cut_before)(COMMIT)
    shop.gate("cut")
    shop.ends(handle, "CONFIRMED")
    cut.wait(20)
    assert cut.happened == 1
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert calls(shop, handle) == shop.landings(handle) == 1
    shop.is_sound()
