"""What workers say of themselves in the store, whatever pool and broker they have, and who reads it."""

import json
import logging
import signal
import time
from pathlib import Path

import pytest
from celery.bin.celery import celery
from click.testing import CliRunner

from tape_celery import __version__
from tape_celery.presence import PATIENCE_SECONDS, Presence
from tape_celery.records import Worker
from tape_celery.store import fleet, inspection
from tape_celery.store.database import Database
from tests.celery_wiring.brokers import FolderBroker
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import PostgresServer, Process, RedisServer, until, wall_clock

TALKATIVE = "tests.celery_wiring.apps.talkative"
FIRST = {"version": "1", "connectors": ["b", "a"], "queues": ["q"], "wall_ms": lambda: time.time() * 1000}


def talkative(shop: Shop, **how: object) -> Process:
    """A worker that says every half second that it is there."""
    return shop.processes.worker(TALKATIVE, env=shop.environment(), hostname="one@here", **how)


def the_only(shop: Shop) -> Worker:
    """The worker, once it has said something."""
    [found] = until(shop.tape.workers, what="a worker that says something")
    return found


@pytest.mark.parametrize(
    ("pool", "broker", "store"),
    [("prefork", "redis", "postgres"), ("threads", "redis", "ready_sqlite"), ("solo", "redis", "ready_sqlite"),
     ("prefork", "folder", "ready_sqlite")],
)  # fmt: skip
def test_a_worker_says_what_it_knows_and_takes_it_back_when_it_is_stopped(
    make_shop: MakeShop, request: pytest.FixtureRequest, tmp_path: Path, pool: str, broker: str, store: str
) -> None:
    """With a loop or without one: at its start, again and again, and how wrong its clock is; an effect goes through
    meanwhile, and a child that is killed and forked anew changes nothing.
    """
    url = request.getfixturevalue(f"{store}_url")
    if broker == "folder":
        shop = make_shop(store_url=url, broker_url="", conf=FolderBroker(tmp_path / "folder").conf)
    else:
        shop = make_shop(store_url=url)
    shop.surroundings = wall_clock(3600)
    worker = talkative(shop, pool=pool, concurrency=1 if pool == "solo" else 2, queues=["tape.dispatch", "tape.sweep"])
    said = the_only(shop)
    assert (said.name, said.version) == ("one@here", __version__)
    assert {"bank", "vault", "express"} <= set(said.connectors)
    assert said.queues == ("tape.dispatch", "tape.sweep")
    assert 3_590_000 < said.clock_ahead_ms < 3_610_000
    if (pool, broker) == ("prefork", "redis"):
        for child in worker.children():
            child.kill()
    shop.ends(shop.delay("land"), "CONFIRMED")
    later = until(lambda: [w for w in shop.tape.workers() if w.seen_at_ms > said.seen_at_ms], what="it to go on")[0]
    assert later.started_at_ms == said.started_at_ms
    assert later.alive(inspection.now_ms(shop.tape.database))
    worker.kill(signal.SIGTERM)
    assert worker.wait() == 0
    assert shop.tape.workers() == []
    shop.is_sound()


def test_a_worker_that_was_killed_is_seen_to_be_dead_and_forgotten_after_a_day(make_shop: MakeShop) -> None:
    shop = make_shop()
    worker = talkative(shop)
    said = the_only(shop)
    worker.killpg()
    worker.wait()
    assert [w.name for w in shop.tape.workers()] == ["one@here"]
    assert said.alive(said.seen_at_ms + 90_000)
    assert not said.alive(said.seen_at_ms + 90_001)
    database = shop.tape.database
    database.shift_ms = 86_390_000
    fleet.say(database, "other", started_at_ms=None, **FIRST)
    assert [w.name for w in shop.tape.workers()] == ["one@here", "other"]
    database.shift_ms = 86_460_000
    fleet.say(database, "other", started_at_ms=None, **FIRST)
    assert [w.name for w in shop.tape.workers()] == ["other"]


def test_a_worker_goes_on_saying_it_when_its_broker_was_away(make_shop: MakeShop, own_redis: RedisServer) -> None:
    """It waits for the broker in the meantime, and says nothing."""
    shop = make_shop(broker_url=own_redis.url)
    worker = talkative(shop)
    before = the_only(shop)
    own_redis.kill9()
    worker.wait_for("Trying to reconnect|Connection refused|connection lost|re-establish", 20) if False else None
    worker.wait_for("Trying again")
    own_redis.start()
    after = until(lambda: [w for w in shop.tape.workers() if w.seen_at_ms > before.seen_at_ms + 1000], timeout=30)[0]
    assert after.started_at_ms == before.started_at_ms


def test_a_name_has_one_row_and_a_predecessor_does_not_take_it_away(database: Database) -> None:
    first = fleet.say(database, "one", started_at_ms=None, **FIRST)
    again = fleet.say(database, "one", started_at_ms=first.started_at_ms, **FIRST)
    assert fleet.list_workers(database) == [again]
    assert (again.connectors, again.queues) == (("a", "b"), ("q",))
    assert abs(again.clock_ahead_ms) < 2000
    database.shift_ms = 5
    successor = fleet.say(database, "one", started_at_ms=None, **FIRST)
    fleet.leave(database, again)
    assert fleet.list_workers(database) == [successor]
    fleet.leave(database, successor)
    assert fleet.list_workers(database) == []


def test_that_a_sweep_began_is_noted_now_and_then(database: Database) -> None:
    """Also where the clock was put back since."""
    assert fleet.last_sweep_ms(database) is None or database.url.get_backend_name() != "sqlite"
    fleet.mark_swept(database, every_ms=0)
    first = fleet.last_sweep_ms(database)
    assert first is not None
    database.shift_ms = 1000
    fleet.mark_swept(database, every_ms=60_000)
    assert fleet.last_sweep_ms(database) == first
    fleet.mark_swept(database, every_ms=500)
    second = fleet.last_sweep_ms(database)
    assert second is not None
    assert second >= first + 900
    database.shift_ms = -50_000
    fleet.mark_swept(database, every_ms=60_000)
    third = fleet.last_sweep_ms(database)
    assert third is not None
    assert third < first


def test_a_store_that_does_not_answer_keeps_a_worker_for_a_moment_and_is_named_once(
    own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused or frozen: two seconds at the most, one line in the log, and when it is back the row is there."""
    database = Database(own_postgres.fresh_database())
    database.migrate()
    presence = Presence(database, "one")
    caplog.set_level(logging.INFO, "tape_celery.presence")

    def say_in_time() -> None:
        began = time.monotonic()
        presence.say(["q"])
        assert time.monotonic() - began < PATIENCE_SECONDS + 1

    own_postgres.pause()
    say_in_time()
    say_in_time()
    own_postgres.resume()
    until(lambda: (presence.say(["q"]), fleet.list_workers(database))[1], what="the row")
    own_postgres.stop()
    say_in_time()
    say_in_time()
    own_postgres.start()
    presence.leave()
    assert fleet.list_workers(database) == []
    database.close()
    told = [record.getMessage() for record in caplog.records]
    assert [("does not know" in line, "again" in line) for line in told] == [(True, False), (False, True)] * 2


def test_the_command_lists_workers_and_tells_by_its_exit_code_whether_any_lives(make_shop: MakeShop) -> None:
    shop = make_shop()

    class Context:
        app = shop.app

    def run(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(celery.commands["tape"], ["workers", *options], obj=Context())
        return done.exit_code, done.output

    assert run()[0] == 1
    fleet.say(shop.tape.database, "one@here", started_at_ms=None, **FIRST)
    shop.tape.sweep()
    code, shown = run()
    assert code == 0
    assert "one@here" in shown
    told = json.loads(run("--json")[1])
    assert [(worker["name"], worker["alive"]) for worker in told["workers"]] == [("one@here", True)]
    assert told["last_sweep_ms"] == shop.tape.last_sweep_ms() is not None
    shop.tape.database.shift_ms = 100_000
    assert run()[0] == 1
