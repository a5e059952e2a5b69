"""A store that was restored from an older copy: it does not know what has happened since.

What was in doubt in the copy is asked about. What was not sent yet in the copy is sent, and nothing in the store can
tell that it was sent before: see "A restored database" in docs/operations.md.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import PostgresServer, RedisServer, until

Copy = Callable[[Shop], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> str:
    """An empty store, once of each kind."""
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))


@pytest.fixture
def copy_of(tmp_path: Path, request: pytest.FixtureRequest) -> Copy:
    """Copies the store of a shop that nobody uses just now; the copy's URL."""

    def copied(shop: Shop) -> str:
        shop.tape.database.close()
        url = str(shop.settings["store_url"])
        if url.startswith("sqlite"):
            target = tmp_path / "copy.db"
            with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
                connection.execute("VACUUM INTO ?", [str(target)])
            connection.close()
            target.chmod(0o600)
            return f"sqlite:///{target}"
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.connect() as connection:
            name, used = url.rpartition("/")[2], "SELECT FROM pg_stat_activity WHERE datname = %s"
            until(lambda: not connection.execute(used, [name]).fetchall(), what="the ends of those that were killed")
        made = server.fresh_database(template=url)
        request.addfinalizer(lambda: server.drop_database(made))
        return made

    return copied


def closed(shop: Shop) -> None:
    """Everybody who worked for the shop is gone."""
    shop.processes.close()


def calls(shop: Shop, key: object) -> int:
    return len(shop.ledger.entries("called", str(key)))


def test_what_was_in_doubt_in_the_copy_is_asked_about(make_shop: MakeShop, store: str, copy_of: Copy) -> None:
    """UNKNOWN and DISPATCHING then, CONFIRMED since: they end right again, and no call is repeated. What was settled in
    the copy stays so."""
    shop = make_shop(store_url=store)
    worker = shop.worker("tape.dispatch")
    settled, lost, under_way = shop.delay(), shop.delay("land", "raise"), shop.delay("land", "wait:never")
    shop.ends(settled, "CONFIRMED")
    shop.ends(lost, "UNKNOWN")
    until(lambda: shop.landings(under_way), what="the landing")
    worker.killpg()
    worker.wait()
    assert shop.tape.get(under_way.id).status == "DISPATCHING"
    copy = copy_of(shop)
    shop.open()
    for handle in (lost, under_way):
        shop.ends(handle, "CONFIRMED")
    closed(shop)
    restored = make_shop(store_url=copy)
    assert [restored.tape.get(key).status for key in (lost.id, under_way.id)] == ["UNKNOWN", "DISPATCHING"]
    restored.open()
    for handle in (settled, lost, under_way):
        restored.ends(handle, "CONFIRMED")
        assert calls(shop, handle) == shop.landings(handle) == 1
    restored.is_sound()


def test_an_idempotent_effect_that_the_copy_does_not_know_to_have_landed_lands_once(
    make_shop: MakeShop, store: str, copy_of: Copy
) -> None:
    """PENDING in the copy, it is sent again under its key. One that was accepted after the copy is not there: whoever
    submits it again under its key meets the upstream's record."""
    shop = make_shop(store_url=store)
    pending = shop.delay(semantics="idempotent")
    copy = copy_of(shop)
    shop.open()
    younger = shop.delay(semantics="idempotent", business_key="younger")
    asked = shop.tape.get(younger.id)
    for handle in (pending, younger):
        shop.ends(handle, "CONFIRMED")
    closed(shop)
    restored = make_shop(store_url=copy)
    assert restored.tape.get(younger.id) is None
    again = restored.tape.effect.apply_async(
        ("bank", asked.request),
        {"business_key": "younger", "idempotency_key": asked.idempotency_key, "semantics": "idempotent"},
        task_id=younger.id,
    )
    restored.open()
    for handle in (pending, again):
        restored.ends(handle, "CONFIRMED")
        assert (calls(shop, handle), shop.landings(handle)) == (2, 1)
    restored.is_sound()


def test_a_non_idempotent_effect_that_was_pending_in_the_copy_and_landed_since_lands_twice(
    make_shop: MakeShop, store: str, copy_of: Copy
) -> None:
    """The limit: what says that it was sent was lost with the original, and nothing in the copy can see that."""
    shop = make_shop(store_url=store)
    handle = shop.delay()
    copy = copy_of(shop)
    shop.open()
    shop.ends(handle, "CONFIRMED")
    closed(shop)
    restored = make_shop(store_url=copy)
    restored.open()
    restored.ends(handle, "CONFIRMED")
    assert calls(shop, handle) == shop.landings(handle) == 2, "if this is 1, docs/operations.md promises too little"
    assert restored.kinds(handle) == ["recorded", "claimed", "confirmed"]
    restored.is_sound()


def test_nothing_lands_twice_when_what_is_pending_is_cancelled_before_a_worker_starts(
    make_shop: MakeShop, store: str, copy_of: Copy
) -> None:
    """The procedure of docs/operations.md: no worker runs; cancel what is PENDING and may be sent twice; look at the
    upstream; submit again what is not there, for its business key is free."""
    shop = make_shop(store_url=store)
    landed, unsent = shop.delay(), shop.delay(connector="other")
    copy = copy_of(shop)
    shop.open()
    shop.ends(landed, "CONFIRMED")
    closed(shop)
    restored = make_shop(store_url=copy)
    again = {}
    for effect in restored.tape.effects(status="PENDING"):
        assert effect.semantics == "non_idempotent"
        cancelled = restored.tape.cancel(effect.effect_key, reason="restored from a copy", actor="a person")
        assert cancelled.status == "CANCELLED"
        if not shop.landings(effect.effect_key):
            keywords = {"business_key": effect.business_key}
            again[effect.effect_key] = restored.tape.effect.delay("bank", effect.request, **keywords)
    assert list(again) == [unsent.id]
    restored.open()
    restored.ends(again[unsent.id], "CONFIRMED")
    assert restored.tape.get(landed.id).status == "CANCELLED"
    assert calls(shop, landed) == shop.landings(landed) == 1
    assert (shop.landings(unsent), shop.landings(again[unsent.id])) == (0, 1)
    restored.is_sound()


def test_two_systems_on_two_copies_of_one_store_are_two_systems(
    make_shop: MakeShop, sqlite_url: str, copy_of: Copy, redis_server: RedisServer
) -> None:
    """The same limit: each sends what is PENDING. Under its key an idempotent effect lands once, any other twice."""
    one = make_shop(store_url=sqlite_url)
    idempotent, other = one.delay(semantics="idempotent"), one.delay()
    two = make_shop(store_url=copy_of(one), broker_url=redis_server.database_url(1))
    for system in (one, two):
        system.open()
    for system in (one, two):
        for handle in (idempotent, other):
            system.ends(handle, "CONFIRMED")
        system.is_sound()
    assert (calls(one, idempotent), one.landings(idempotent)) == (2, 1)
    assert (calls(one, other), one.landings(other)) == (2, 2)
