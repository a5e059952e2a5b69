"""The ready app: ``celery -A tape_celery.app worker -Q tape.dispatch``, configured from ``TAPE_*`` variables alone.

``TAPE_BROKER_URL`` is the broker; every setting has a variable of its own (``TAPE_STORE_URL``, ``TAPE_CONNECTORS``,
…). Without any of them it runs embedded, with no server at all: SQLite and messages as files in ``.tape/``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from tape_celery.errors import SettingsError
from tape_celery.settings import NAMES, Settings, settings_from
from tape_celery.store.database import Database
from tape_celery.tape import Tape


def environment_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that ``TAPE_*`` variables give; raises `SettingsError` that names the variable."""
    found = {name: environment[variable] for name in NAMES if (variable := f"TAPE_{name.upper()}") in environment}
    try:
        checked = settings_from(found, named=lambda name: f"TAPE_{name.upper()}")
        Database(checked.store_url)  # opens nothing, and refuses what is no store
    except SettingsError as error:
        raise SettingsError(re.sub(r"\btape_(?=[a-z])\w+", lambda setting: setting[0].upper(), str(error))) from None
    return {name: getattr(checked, name) for name in found}


def embedded_broker(store_url: str) -> dict[str, Any]:
    """Celery's configuration for messages as files beside the SQLite store."""
    try:
        database = make_url(store_url).database
    except ArgumentError:
        database = None
    on_sqlite = store_url.startswith("sqlite") and database
    directory = (Path(str(database)).parent if on_sqlite else Path(".tape")).resolve() / "broker"
    return {
        # With a transport that has no event loop, the children of a prefork pool share one lock to take their work;
        # one that is killed while it holds the lock stops the others. Threads have no such lock.
        "worker_pool": "threads",
        # New files are looked for ten times a second: with one message for each thread, no thread would do more.
        "worker_prefetch_multiplier": 16,
        "broker_url": "filesystem://",
        "broker_transport": "tape_celery.embedded:Transport",
        "broker_transport_options": {
            "data_folder_in": str(directory / "messages"),
            "data_folder_out": str(directory / "messages"),
            "control_folder": str(directory / "control"),
            "processed_folder": str(directory / "taken"),
            "polling_interval": 0.1,
        },
    }


def make_app(environment: Mapping[str, str]) -> tuple[Celery, Tape]:
    """The ready app and its Tape for these variables."""
    given = environment_settings(environment)
    settings = Settings(**given)
    app = Celery("tape", set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        event_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_store_errors_even_if_ignored=False,
        task_default_queue=settings.dispatch_queue,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=30,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
    )
    broker = environment.get("TAPE_BROKER_URL")
    app.conf.update({"broker_url": broker} if broker else embedded_broker(settings.store_url))
    return app, Tape(app, **given)


app, tape = make_app(os.environ)
