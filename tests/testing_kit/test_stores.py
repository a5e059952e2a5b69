"""What a test is given is its own, and what it takes is given back."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery

from tape_celery import Tape, connectors, intent, tape_effect
from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import StoreInUse
from tape_celery.store import emptying
from tape_celery.store.database import Database
from tape_celery.testing import ScriptedConnector, TapeClock, borrowed, drain, kept_registry
from tape_celery.testing.stores import forget, make_store


def test_the_store_is_a_real_one_and_empty(tape_store: str, tape: Tape, tmp_path: Path) -> None:
    assert tape_store == f"sqlite:///{tmp_path / 'tape-store.db'}"
    assert tape.settings.store_url == tape_store
    assert tape.effects() == []
    assert tape.audit(live=True) == []


def test_a_store_that_holds_effects_is_refused_and_not_touched(ready_url: str) -> None:
    """On every kind of database: it may be somebody's, a test neither uses nor empties it."""
    tape = Tape(Celery("somebody", broker="memory://", set_as_current=False), store_url=ready_url)
    with kept_registry():
        connectors.register(ScriptedConnector("bank.wire"))
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    with pytest.raises(StoreInUse, match="holds 1 effects"):
        make_store(ready_url)
    assert emptying.count(tape.database) == 1
    tape.database.close()


def test_what_a_test_has_put_into_a_store_is_taken_out(ready_url: str) -> None:
    """On every kind of database: effects, obligations, journal and all else; the store keeps its schema and its id."""
    from tape_celery.store.inspection import installation_id

    database = make_store(ready_url)
    before = installation_id(database)
    app = Celery("mine", broker="memory://", set_as_current=False)
    with kept_registry(), borrowed(Tape(app), ready_url) as tape:
        connectors.register(ScriptedConnector("bank.wire", ["duplicate"]))
        handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
        drain(tape, advance=True)
        assert handle.status == "CONFIRMED"
        assert tape.obligations()
    forget(database)
    again = make_store(ready_url)
    assert installation_id(again) == before
    again.close()


def test_the_registry_is_as_before(tape_store: str) -> None:
    """Whatever was registered, replaced or cleared inside."""
    mine, other = ScriptedConnector("mine"), ScriptedConnector("mine")
    with kept_registry():
        connectors.clear()
        connectors.register(mine)
        with kept_registry():
            connectors.register(other)
            connectors.register(ScriptedConnector("more"))
        assert connectors.get("mine") is mine
        with kept_registry():
            connectors.clear()
        assert connectors.names() == ["mine"]


@pytest.fixture
def shop(tmp_path: Path) -> Tape:
    """An app's own Tape, whose store and broker no test may touch."""
    app = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)
    return Tape(app, store_url=f"sqlite:///{tmp_path / 'production.db'}", settle_seconds=60.0)


def test_an_apps_own_tape_is_borrowed_and_given_back(shop: Tape, tape_store: str, tmp_path: Path) -> None:
    """Its store is the test's, its hints reach no broker, `tape_effect` finds it; afterwards all is as it was."""
    with kept_registry(), borrowed(shop, tape_store, max_attempts=2) as tape:
        connectors.register(ScriptedConnector("bank.wire", ["lose_ack"]))
        handle = tape_effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
        TapeClock(tape).advance(seconds=1)
        drain(tape)
        assert handle.status == "CONFIRMED"
        assert (tape.settings.max_attempts, tape.settings.settle_seconds) == (2, 1.0)
        assert tape.app is shop.app
    assert shop.settings.settle_seconds == 60.0
    assert shop.settings.store_url.endswith("production.db")
    assert shop.app.conf.broker_url == "redis://127.0.0.1:1/0"
    assert shop.database.shift_ms == 0
    assert not (tmp_path / "production.db").exists()


def test_a_real_connector_is_never_called_by_mistake(
    tape_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app's own are out of the way, whenever they would have been imported, and are back afterwards."""
    (tmp_path / "real_connectors.py").write_text(
        "from tape_celery.connectors import register\n\n\nclass Real:\n    name = 'bank.wire'\n\n"
        "    def dispatch(self, effect):\n        raise SystemExit('a real wire')\n\n"
        "    def observe(self, effect):\n        raise SystemExit('a real look')\n\n\nregister(Real())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    app = Celery("real", broker="redis://127.0.0.1:1/0", set_as_current=False)
    tape = Tape(app, connectors=["real_connectors"])
    with kept_registry():
        for _ in range(2):
            with borrowed(tape, tape_store):
                mine = connectors.register(ScriptedConnector("bank.wire"))
                tape.effect.delay("bank.wire", {"amount": 1}, idempotency_key=intent.new_key())
                drain(tape)
                assert len(mine.calls) == 1
            assert type(connectors.get("bank.wire")).__name__ == "Real"
        with borrowed(tape, tape_store, keep_connectors=True):
            assert type(connectors.get("bank.wire")).__name__ == "Real"


def test_no_broker_of_the_app_is_reached_whatever_names_it(tape_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery takes the environment before the configuration, and an URL for writing before both."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", "redis://127.0.0.1:1/1")
    app = Celery("env", set_as_current=False)
    app.conf.broker_read_url = "redis://127.0.0.1:1/2"
    with borrowed(Tape(app), tape_store):
        assert app.connection_for_write().transport_cls == app.connection_for_read().transport_cls == "memory"
        with app.pool.acquire() as connection:
            assert connection.transport_cls == "memory"
    assert app.conf.broker_write_url == "redis://127.0.0.1:1/1"
    assert app.conf.broker_read_url == "redis://127.0.0.1:1/2"
    assert app.conf.broker_url == "redis://127.0.0.1:1/0"


def test_no_test_finds_the_hints_of_another(tape_store: str) -> None:
    """A broker in memory lives as long as the process."""
    app = Celery("hints", broker="memory://", set_as_current=False)

    def waiting() -> int:
        with app.connection_for_write() as connection:
            return int(connection.default_channel.queue_declare("tape.dispatch").message_count)

    with kept_registry(), borrowed(Tape(app), tape_store) as tape:
        connectors.register(ScriptedConnector("bank.wire"))
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
        assert waiting() == 1
    assert waiting() == 0


def test_time_in_a_store_is_moved_for_that_store_alone(tape: Tape, tape_clock: TapeClock, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    before = tape_clock.now
    assert (tape_clock.advance(days=2) - before).days == 2
    assert (tape.database.shift_ms, other.shift_ms) == (2 * 86_400_000, 0)


def test_a_test_may_register_a_connector_of_its_own(tape: Tape) -> None:
    class Mine:
        name = "mine"

        def dispatch(self, effect: object) -> DispatchResult:
            return DispatchResult("confirmed", "m-1")

        def observe(self, effect: object) -> None:
            raise AssertionError("not asked")

    connectors.register(Mine())
    handle = tape.effect.delay("mine", {"a": 1}, business_key="b-1")
    drain(tape)
    assert handle.effect is not None
    assert handle.effect.external_ref == "m-1"
