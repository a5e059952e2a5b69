"""Put our pages into Flower and start it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from flower import command, urls
from flower.views.auth import LoginHandler
from prometheus_client import REGISTRY
from tornado.web import url

from tape_celery.errors import ConfigurationError
from tape_celery.exposition import Collector
from tape_celery.flower.access import LOOKING_ONLY, Asked, access
from tape_celery.flower.connector_page import ConnectorPage
from tape_celery.flower.door import Door
from tape_celery.flower.effect_page import EffectPage
from tape_celery.flower.gate import MetricsForWhoIsLoggedIn, guarded, guarded_login
from tape_celery.flower.handler import Shared, StaticFiles
from tape_celery.flower.list_page import EffectsPage
from tape_celery.flower.loader import loader
from tape_celery.flower.run_page import RunPage
from tape_celery.loggers import logger_for
from tape_celery.metering import Meter
from tape_celery.tape import Tape
from tape_celery.wiring import refuse_unsafe_content
from tape_celery.worker_counts import WorkerCounts

logger = logger_for(__name__)

ROUTES = (
    (r"/effects", EffectsPage, "tape-effects"),
    (r"/effects/effect/(.+)", EffectPage, "tape-effect"),
    (r"/effects/run/(.+)", RunPage, "tape-run"),
    (r"/effects/connector/(.+)", ConnectorPage, "tape-connector"),
)
METRICS_WAIT_SECONDS = 0.5
"""How long the store may hold up Flower's loop when it is asked for metrics."""
STATIC = (r"/effects/static/(.+)", StaticFiles, "tape-static")


def start(context: click.Context, tape: Tape, asked: Asked, arguments: Sequence[str]) -> None:
    """Run Flower with ``arguments``, which are its own, until it is stopped.

    It listens on this machine alone unless ``--address`` says otherwise. Where nobody may act all of it is read only,
    not our pages alone. Raises `ConfigurationError` where it would let in everybody, for options of ours that do not
    exist, for connectors that cannot be imported, and where Flower would read what can run code.
    """
    strange = [argument for argument in arguments if argument.lstrip("-").replace("_", "-").startswith("tape-")]
    if strange:
        raise ConfigurationError(f"there is no option {strange[0]}; Flower would not say so, and ignore it")
    refuse_unsafe_content(tape.app)
    people = tape.settings.people
    tape.import_connectors()
    command.options.address = "127.0.0.1"
    started: Any = command.Flower

    class Flower(started):
        """Flower, which looks at its options when all of them are read, and before it listens."""

        def __init__(self, options: Any, **settings: Any) -> None:
            allowed = access(options, asked, people)
            if allowed.may_not_act:
                options.read_only = True  # then nobody stops workers or runs tasks, either
            if allowed.may_not_act == LOOKING_ONLY:
                logger.info("Nobody may act: started without --tape-allow-actions")
            shared = Shared(tape, allowed, door_of(options))
            super().__init__(options=options, **settings, tape=shared)

        def get_handler_delegate(self, request: Any, target_class: Any, *arguments: Any, **named: Any) -> Any:
            """Nothing of Flower is reached but through the gate."""
            behind = guarded_login() if target_class is LoginHandler else guarded(target_class)
            return super().get_handler_delegate(request, behind, *arguments, **named)

    install(urls.handlers, urls.settings)
    if asked.metrics_login or not all(person.sees_all for person in people.values()):
        urls.handlers.insert(0, (r"/metrics", MetricsForWhoIsLoggedIn))
    command.Flower = Flower
    try:
        with _told_at_metrics(tape, asked.worker_metrics):
            context.invoke(command.flower, tornado_argv=tuple(arguments))
    finally:
        command.Flower = started


def door_of(options: Any) -> Door | None:
    """The door for those of ``--basic_auth``, if there are any; Flower is left with what the door hands on."""
    if not options.basic_auth:
        return None
    door = Door(options.basic_auth)
    options.basic_auth = door.entries
    return door


@contextmanager
def _told_at_metrics(tape: Tape, of_workers: bool) -> Iterator[None]:
    """Flower's ``/metrics`` tells what the store says, what people do here, and, where asked, what workers do."""
    meter = Meter()
    workers = WorkerCounts(tape.app) if of_workers else None
    collector = Collector(
        meter,
        tape.database,
        wait_seconds=METRICS_WAIT_SECONDS,
        lease_ms=lambda: tape.engine.reach().lease_ms,
        workers=workers.read if workers else None,
    )
    tape.measure(meter)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
        tape.measure(None)
        meter.close()
        if workers:
            workers.close()


def install(handlers: list[Any], settings: dict[str, Any]) -> None:
    """Add our pages, before what answers 404 to everything, and our templates; done before, nothing is added."""
    if "template_loader" in settings:
        return
    path, handler, name = STATIC
    static = url(path, handler, {"path": str(StaticFiles.ROOT)}, name=name)
    # Our most special route is first: an effect may have any key.
    handlers[-1:-1] = [static, *(url(path, handler, name=name) for path, handler, name in ROUTES)]
    settings["template_loader"] = loader(settings)
