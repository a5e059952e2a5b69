"""Two installations on one broker, and a schema that is changed under those that use it."""

import os
import signal
from pathlib import Path

import pytest

from tape_celery.errors import SchemaMismatch
from tape_celery.migrations import VERSION_TABLE, head
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import PostgresServer, Processes, until


def two_shops(tmp_path: Path, processes: Processes, broker: str, *prefixes: str) -> list[Shop]:
    """A red and a blue shop, each with a store and an upstream of its own."""
    made = []
    for name, prefix in zip(("red", "blue"), prefixes, strict=True):
        url = f"sqlite:///{tmp_path / name / 'tape.db'}"
        made.append(Shop(tmp_path / name, processes, store_url=url, broker_url=broker, queue_prefix=prefix))
    return made


def test_without_prefixes_hints_go_astray_and_no_effect_does(
    tmp_path: Path, processes: Processes, redis_url: str
) -> None:
    """Half of the hints come to workers that have no such key: they do nothing, and sweeps hint again until one comes
    to the right one. Each effect ends in its own store, and lands at its own upstream once."""
    shops = two_shops(tmp_path, processes, redis_url, "tape.", "tape.")
    workers = [shop.open() for shop in shops]
    handles = {shop.directory.name: [shop.delay(script) for script in ("land", "raise") * 5] for shop in shops}
    for shop in shops:
        for number, handle in enumerate(handles[shop.directory.name]):
            shop.ends(handle, "FAILED" if number % 2 else "CONFIRMED", timeout=30)
            assert len(shop.ledger.entries("called", handle.id)) == 1
            assert shop.landings(handle) == (number % 2 == 0)
        assert {effect.effect_key for effect in shop.tape.effects()} == {h.id for h in handles[shop.directory.name]}
        assert len(shop.ledger.entries("called")) == 10
        shop.is_sound()
    assert all(worker.alive and "Traceback" not in worker.text() for worker in workers)


def test_with_prefixes_they_are_apart(tmp_path: Path, processes: Processes, redis_url: str) -> None:
    """Also for an intent that comes by message, which whoever takes it records in his own store."""
    red, blue = two_shops(tmp_path, processes, redis_url, "red.", "blue.")
    workers = [shop.open() for shop in (red, blue)]
    for shop, prefix in ((red, "red."), (blue, "blue.")):
        keywords = {"connector": "bank", "request": {"script": ["land"]}, "business_key": prefix}
        shop.app.send_task("tape.effect", kwargs=keywords, queue=f"{prefix}sweep")
    for shop, other, prefix in ((red, blue, "red."), (blue, red, "blue.")):
        (sent,) = until(lambda s=shop, p=prefix: s.tape.effects(business_key=p), timeout=30, what="the recording")
        for key in (sent.effect_key, shop.delay().id):
            shop.ends(key, "CONFIRMED")
            assert shop.kinds(key) == ["recorded", "claimed", "confirmed"]
            assert shop.landings(key) == 1
            assert other.tape.get(key) is None
            assert other.ledger.entries("called", key) == []
        shop.is_sound()
    assert all(worker.alive for worker in workers)


def test_an_empty_database_is_refused_with_the_command_that_makes_the_tables(
    make_shop: MakeShop, postgres: PostgresServer
) -> None:
    """By the producer and by the worker, which ends; neither makes the tables."""
    wrong = postgres.fresh_database()
    shop = make_shop()
    environment = shop.environment(store_url=wrong)
    code = "import tests.celery_wiring.apps.shop as shop\nshop.tape.effect.delay('bank', {}, business_key='b')"
    producer = shop.processes.python("-c", code, env=environment, forked=True)
    worker = shop.worker(tape={"store_url": wrong}, ready=False)
    for refused in (producer, worker):
        assert refused.wait(30) != 0
        assert "SchemaMismatch" in refused.text()
        assert "celery -A APP tape migrate" in refused.text()
    with postgres.connect(wrong) as connection:
        assert connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'").fetchall() == []
    postgres.drop_database(wrong)


def test_a_status_that_this_code_does_not_know_is_left_alone(
    make_shop: MakeShop, postgres: PostgresServer, postgres_url: str
) -> None:
    """A newer migration may allow one under workers that still run. Its row is nobody's; all others go on."""
    shop = make_shop(store_url=postgres_url)
    held = shop.delay()
    with postgres.connect(postgres_url) as connection:
        connection.execute("ALTER TABLE tape_effects DROP CONSTRAINT tape_effects_status_is_known")
        connection.execute("UPDATE tape_effects SET status = 'DREAMT', sweep_at_ms = due_at_ms")
        row = "SELECT * FROM tape_effects WHERE effect_key = %s"
        before = connection.execute(row, [held.id]).fetchone()
        worker = shop.open()
        for script, end in (("land", "CONFIRMED"), ("raise", "FAILED")):
            other = shop.delay(script)
            shop.ends(other, end)
            assert len(shop.ledger.entries("called", other.id)) == 1
        until(lambda: worker.text().count("Task tape.sweep") >= 3, what="three sweeps")
        with pytest.raises(SchemaMismatch, match="'DREAMT', of a newer tape_celery"):
            shop.tape.get(held.id)
        assert connection.execute(row, [held.id]).fetchone() == before
    assert shop.ledger.entries("called", held.id) == []
    assert worker.alive


@pytest.mark.parametrize("revision", ["9999", ""], ids=["newer", "gone"])
def test_a_schema_that_is_not_ours_any_more_under_a_running_worker(
    make_shop: MakeShop, postgres: PostgresServer, postgres_url: str, revision: str
) -> None:
    """Who has checked it goes on until it ends, and what is under way is sealed. A new child, a new producer do
    nothing by halves: they refuse, until the schema is theirs again."""
    shop = make_shop(store_url=postgres_url, lease_seconds=60)
    worker = shop.worker(concurrency=1)
    handle = shop.delay("land", "wait:stamped")
    (landed,) = until(lambda: shop.ledger.entries("landed", handle.id), what="the landing")

    def stamp(number: str) -> None:
        with postgres.connect(postgres_url) as connection:
            connection.execute(f"DELETE FROM {VERSION_TABLE}")
            if number:
                connection.execute(f"INSERT INTO {VERSION_TABLE} VALUES (%s)", [number])

    stamp(revision)
    shop.gate("stamped")
    shop.ends(handle, "CONFIRMED")
    os.kill(landed["pid"], signal.SIGKILL)
    refused = shop.delay()
    worker.wait_for("SchemaMismatch")
    shop.tape.database._ready_pid = 0
    with pytest.raises(SchemaMismatch):
        shop.delay(business_key="never")
    stamp(head())
    assert [shop.tape.get(refused.id).status, shop.ledger.entries("called", refused.id)] == ["PENDING", []]
    assert shop.tape.effects(business_key="never") == []
    shop.beat()
    shop.ends(refused, "CONFIRMED")
    for each in (handle, refused):
        assert shop.kinds(each) == ["recorded", "claimed", "confirmed"]
        assert len(shop.ledger.entries("called", each.id)) == shop.landings(each) == 1
    assert worker.alive
    shop.is_sound()
