"""The store, the registry and the Tape of one test, and how they are given back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery import Celery
from celery import _state as celery_state

from tape_celery.connectors import base
from tape_celery.errors import StoreInUse
from tape_celery.store import emptying
from tape_celery.store.database import Database
from tape_celery.tape import Tape

SHORT: dict[str, Any] = {
    "settle_seconds": 1.0,
    "sweep_seconds": 1.0,
    "relay_seconds": 1.0,
    "backoff_base_seconds": 0.5,
    "backoff_cap_seconds": 5.0,
    "publish_timeout_seconds": 0.2,
}
"""Settings under which a test waits for little. Leases keep their 30 s: a debugger needs them."""


def make_store(url: str, template: Path | None = None) -> Database:
    """The store at ``url`` with its schema; a fresh SQLite file is a copy of ``template``.

    Raises `StoreInUse` for one that holds effects: what a test finds there may be somebody's.
    """
    database = Database(url)
    if template is not None and database.url.get_backend_name() == "sqlite":
        path = Path(str(database.url.database))
        if not path.exists():
            database.prepare_file()
            path.write_bytes(template.read_bytes())
    database.prepare_file()
    database.migrate()
    held = emptying.count(database)
    if held:
        database.close()
        raise StoreInUse(
            f"{database!r} holds {held} effects before the test has begun; a test gets a store of its own: "
            "name an empty one in tape_store_url, one for each worker of pytest-xdist"
        )
    return database


def forget(database: Database) -> None:
    """Take out what the test has put into the store, which was empty before it."""
    database.ready()
    emptying.empty(database)
    database.close()


@contextlib.contextmanager
def kept_registry() -> Iterator[None]:
    """What is registered, replaced or cleared inside is as before afterwards."""
    before = dict(base._registered)
    try:
        yield
    finally:
        base.clear()
        base._registered.update(before)


@contextlib.contextmanager
def borrowed(tape: Tape, store_url: str, *, keep_connectors: bool = False, **settings: Any) -> Iterator[Tape]:
    """An app's own ``tape``, over another store and with short settings, until the block is left.

    Its app is the current one meanwhile, with a broker in memory, so that nothing of a test reaches the app's own.
    No connector is registered inside but what the test registers: it calls no real upstream by mistake; with
    ``keep_connectors`` the app's own stay. Afterwards the registry is as before. ``settings`` override those of the app
    and the short ones.
    """
    tape.import_connectors()  # not inside, where it would replace what the test has registered
    app, given, current = tape.app, tape._given, celery_state._tls.current_app
    with kept_registry(), _broker_in_memory(app):
        if not keep_connectors:
            base.clear()
        tape._given = {**given, **SHORT, **settings, "store_url": store_url}
        app.set_current()
        tape.reconfigure()
        tape._publisher = None
        try:
            yield tape
        finally:
            tape.database.close()
            _drop_hints(tape)
            tape._given, tape._publisher = given, None
            celery_state._tls.current_app = current
            tape.reconfigure()


@contextlib.contextmanager
def _broker_in_memory(app: Celery) -> Iterator[None]:
    """Whatever the app's configuration and the environment name."""
    names = ("broker_url", "broker_read_url", "broker_write_url")
    environment = {name: os.environ.pop(name, None) for name in (f"CELERY_{name.upper()}" for name in names)}
    app.conf.get("broker_url")  # loads a configuration that is still to be loaded
    changes = app.conf.changes
    before = {name: changes[name] for name in names if name in changes}
    app.conf.update(dict.fromkeys(names, "memory://"))
    _forget_pools(app)
    try:
        yield
    finally:
        for name in names:
            changes.pop(name, None)
        app.conf.update(before)
        os.environ.update({name: value for name, value in environment.items() if value is not None})
        _forget_pools(app)


def _forget_pools(app: Celery) -> None:
    """Connections are made anew, as after a fork: to the broker that is named now."""
    app._pool = None
    app.amqp._producer_pool = None


def _drop_hints(tape: Tape) -> None:
    """A broker in memory lives as long as the process: the next test must not find this one's hints."""
    settings = tape.settings
    with tape.app.connection_for_write() as connection:
        channel = connection.default_channel
        for name in (
            settings.dispatch_queue,
            settings.observe_queue,
            settings.compensate_queue,
            settings.sweep_queue,
        ):
            with contextlib.suppress(Exception):
                channel.queue_purge(name)
