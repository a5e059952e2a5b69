"""What a Tape adds to its Celery app, and when: tasks at once, the rest when the app is finalised and when a worker
or beat starts.

What our tasks need stands on our tasks. A later ``config_from_object`` or assignment to ``beat_schedule`` wipes out
nothing, because what it may have wiped is merged again when a worker or beat starts.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from celery import Celery, signals
from kombu import Exchange, Queue

from tape_celery import broker_access, effect_tasks, failpoints, intake, logs, presence, tasks, worker_counts
from tape_celery.connectors import base
from tape_celery.engine import SEAL_FOR_SECONDS
from tape_celery.errors import SettingsError, StoreUnavailable, TapeError
from tape_celery.loggers import logger_for
from tape_celery.publisher import require_library
from tape_celery.settings import Settings

if TYPE_CHECKING:
    from tape_celery.exposition import Served
    from tape_celery.tape import Tape

logger = logger_for(__name__)

BEAT_ENTRY = "tape-sweep"
REFUSED_CONTENT = frozenset({"pickle", "yaml", "application/x-python-serialize", "application/x-yaml"})


def attach(tape: Tape) -> None:
    """Add ``tape``'s tasks to its app, and the rest as soon as its configuration can be read."""
    app = tape.app
    effect_tasks.adopt(app)
    tasks.add(tape)
    found = weakref.ref(tape)

    def our_queues() -> frozenset[str]:
        living = found()
        return frozenset() if living is None else frozenset(_names(living.settings))

    presences = presence.Presences(found)
    serving: dict[str, Served] = {}
    app.steps["consumer"].add(intake.step_for(our_queues))
    app.steps["consumer"].add(presence.step_for(presences))

    def on_finalize(sender: Any = None, **_: Any) -> None:
        living = found()
        if living is not None:
            _merge_quietly(living)

    def on_celeryd_init(sender: Any = None, instance: Any = None, **_: Any) -> None:
        living = found()
        if living is not None and instance is not None and instance.app is living.app:
            _or_exit(lambda: _add_queues(living))

    def on_worker_init(sender: Any = None, **_: Any) -> None:
        living = found()
        if living is not None and sender is not None and sender.app is living.app:
            living.stopping.begin(sender)
            _or_exit(lambda: _start_worker(living))

    def on_worker_shutting_down(sender: Any = None, **_: Any) -> None:
        if (living := found()) is not None:
            living.stopping.ask(sender)

    def on_celeryd_after_setup(sender: Any = None, instance: Any = None, **_: Any) -> None:
        # Logs are set up by now, and no child has been forked yet.
        living = found()
        if living is not None and instance is not None and instance.app is living.app:
            if living.settings.log_json:
                logs.write_json()
            _or_exit(lambda: _serve_metrics(living, instance.hostname, serving))

    def on_worker_shutdown(sender: Any = None, **_: Any) -> None:
        living = found()
        if living is not None and sender is not None and sender.app is living.app:
            living.stopping.end(sender.hostname)
            presences.leave(sender.hostname)
            if (served := serving.pop(sender.hostname, None)) is not None:
                worker_counts.answer(living.app, None)
                living.measure(None)
                served.close()

    def on_beat_init(sender: Any = None, **_: Any) -> None:
        living = found()
        if living is not None and sender is not None and sender.app is living.app:
            _or_exit(lambda: _start_beat(living, sender.scheduler))

    app.on_after_finalize.connect(on_finalize, weak=False)
    signals.celeryd_init.connect(on_celeryd_init, weak=False)
    signals.worker_init.connect(on_worker_init, weak=False)
    signals.celeryd_after_setup.connect(on_celeryd_after_setup, weak=False)
    signals.worker_shutting_down.connect(on_worker_shutting_down, weak=False)
    signals.worker_shutdown.connect(on_worker_shutdown, weak=False)
    signals.beat_init.connect(on_beat_init, weak=False)
    if app.finalized:
        _merge_quietly(tape)


def queues(settings: Settings) -> list[Queue]:
    """Our four queues, as a worker's ``-Q`` would make them."""
    names = (settings.dispatch_queue, settings.observe_queue, settings.compensate_queue, settings.sweep_queue)
    return [Queue(name, Exchange(name), routing_key=name) for name in names]


def _names(settings: Settings) -> set[str]:
    """Of our four queues, and of those that connectors of this process have to themselves."""
    own = (getattr(base.get(name), "dispatch_queue", None) for name in base.names())
    return {*(queue.name for queue in queues(settings)), *(queue for queue in own if queue)}


def merge(tape: Tape) -> None:
    """Merge our routes and our beat entry into the app's configuration; what the app says of the same names stands."""
    app, settings = tape.app, tape.settings
    routes = app.conf.task_routes or ()
    ours = {
        "tape.dispatch": {"queue": settings.dispatch_queue},
        "tape.observe": {"queue": settings.observe_queue},
        "tape.compensate": {"queue": settings.compensate_queue},
        "tape.sweep": {"queue": settings.sweep_queue},
        "tape.effect": {"queue": settings.sweep_queue},
    }
    listed = list(routes) if isinstance(routes, list | tuple) else [routes]
    if ours not in listed:
        app.conf.task_routes = [*listed, ours]
    schedule = dict(app.conf.beat_schedule or {})
    schedule.setdefault(
        BEAT_ENTRY,
        {
            "task": "tape.sweep",
            "schedule": settings.sweep_seconds,
            # No `expires`: a worker compares it with its own clock. RabbitMQ counts `expiration` by itself.
            "options": {"queue": settings.sweep_queue, "expiration": settings.sweep_seconds, "ignore_result": True},
        },
    )
    app.conf.beat_schedule = schedule


def _merge_quietly(tape: Tape) -> None:
    """At finalisation a setting that cannot work is left for the first use, or the start of a worker, to name."""
    try:
        merge(tape)
    except SettingsError as error:
        logger.debug("not merged yet: %s", error)


def _add_queues(tape: Tape) -> None:
    require_library(tape.app.conf.broker_read_url)
    tape.reconfigure()
    known = tape.app.amqp.queues
    for queue in queues(tape.settings):
        if queue.name not in known:
            known.add(queue)


def _start_worker(tape: Tape) -> None:
    _add_queues(tape)
    merge(tape)
    tape.import_connectors()
    known = tape.app.amqp.queues
    ours = [queue.name for queue in queues(tape.settings)]
    if known._consume_from is None:
        # No -Q: the worker goes on to consume what it did, and ours beside it.
        known.select([*known.consume_from, *ours])
    if _names(tape.settings) & set(known.consume_from):
        refuse_unsafe_content(tape.app)
        _refuse_open_broker(tape)
    effect_tasks.check(tape.app)
    _bound_tasks(tape)
    if failpoints.armed():
        logger.warning("failpoints are armed: %s", ", ".join(failpoints.armed()))
    try:
        tape.database.ready()
    except StoreUnavailable as error:
        logger.error("the store is away; this worker goes on and tries again: %s", error)


def _serve_metrics(tape: Tape, worker: str, serving: dict[str, Served]) -> None:
    """The children of its pool, which are forked later, tell the worker what they count."""
    address = tape.settings.metrics_address
    if not address:
        return
    from tape_celery.exposition import Served
    from tape_celery.metering import Meter

    meter = Meter()
    try:
        serving[worker] = Served(meter, tape.database, address, lambda: tape.engine.reach().lease_ms)
    except OSError as error:
        logger.error("nobody can listen at tape_metrics_address %s, this worker has no metrics: %s", address, error)
        meter.close()
        return
    tape.measure(meter)
    worker_counts.answer(tape.app, meter)


def _start_beat(tape: Tape, scheduler: Any) -> None:
    if tape.settings.log_json:
        logs.write_json()
    _add_queues(tape)
    merge(tape)
    # Celery has read the schedule before it says that beat starts.
    if BEAT_ENTRY not in scheduler.schedule:
        scheduler.update_from_dict({BEAT_ENTRY: tape.app.conf.beat_schedule[BEAT_ENTRY]})


def refuse_unsafe_content(app: Celery) -> None:
    """Raise `SettingsError` where this process, a worker of our queues or Flower, would read what can run code.

    Tasks, commands and what answers them are read by ``accept_content``; events, by ``event_serializer``.
    """
    conf = app.conf
    for name, read in (("accept_content", conf.accept_content or ()), ("event_serializer", [conf.event_serializer])):
        if unsafe := sorted(REFUSED_CONTENT & set(read)):
            raise SettingsError(
                f"{name} allows {', '.join(unsafe)}: whoever can write to the broker could run code in this process. "
                "Consume the tape queues, and start Flower, with an app that accepts json only"
            )


def _refuse_open_broker(tape: Tape) -> None:
    if tape.settings.allow_insecure_broker:
        return
    connections = (tape.app.connection_for_read(), tape.app.connection_for_write())
    if broker := next(filter(None, map(broker_access.open_to_all, connections)), ""):
        raise SettingsError(
            f"the broker {broker} is on another machine and is used without a password: whoever reaches it may drop "
            "our messages and send some of their own. Give it a password, or say tape_allow_insecure_broker = True "
            "where nobody else reaches it"
        )
    if broker := next(filter(None, map(broker_access.unverified, connections)), ""):
        raise SettingsError(
            f"the broker {broker} is on another machine and its certificate is not checked: whoever stands between may "
            "read its password, and send messages. Say ssl_cert_reqs=required in its URL, or in broker_use_ssl; or "
            "tape_allow_insecure_broker = True where nobody else reaches it"
        )


def call_limit(settings: Settings) -> float:
    """The hard time limit, in seconds, of our tasks that call upstreams: the longest call, the longest seal, and some.

    It is for what no connector bounds.
    """
    totals = [float(getattr(base.get(name), "total_seconds", 0) or 0) for name in base.names()]
    return max([settings.lease_seconds, *totals]) + SEAL_FOR_SECONDS + 30


def _bound_tasks(tape: Tape) -> None:
    limit = call_limit(tape.settings)
    for name in ("tape.dispatch", "tape.observe", "tape.compensate"):
        tape.app.tasks[name].time_limit = limit


def _or_exit(start: Any) -> None:
    """Celery logs what a signal's receiver raises and goes on; a worker that cannot work must not."""
    try:
        start()
    except TapeError as error:
        raise SystemExit(f"tape_celery: {type(error).__name__}: {error}") from error
