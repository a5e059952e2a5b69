"""Publishing hints, within a bound, without ever failing the caller.

A hint is a Celery message with keys in it and nothing else. It may be lost, come twice, or come a week late; the row
is the truth, and a sweep publishes again what was lost. So a caller waits for the broker for a moment only: when it
does not answer in time it is taken to be down, and until it answers again nobody waits for it at all.

Of hints that come one right after the other, the first goes at once and is waited for; what follows within
`GATHER_SECONDS` goes together, in messages of many keys, and nobody waits for it. A message, a claim and a seal of many
cost little more than of one.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, signals
from celery.app.routes import Router
from kombu import Exchange, Queue

from tape_celery.errors import ConfigurationError, MissingExtra
from tape_celery.loggers import logger_for
from tape_celery.metering import HINTS, Meter
from tape_celery.signing import serializer_of

logger = logger_for(__name__)

PROBE_SECONDS = 1.0
"""How long a broker that refused is left alone before a hint probes it again, in the background."""
ABANDON_SECONDS = 30.0
"""After how long a publish that never ends is left to its thread, and a new thread started."""
GATHER_SECONDS = 0.02
"""For how long after a hint those that follow are gathered."""

_NO_ROUTES = Router()
"""A hint's queue is settled: an app's route for every task, with an exchange of its own, would lead it astray."""


@dataclass(eq=False)
class _Hint:
    task: str
    queue: str
    keys: list[str]
    hops: int
    priority: int
    ride_with: str | None = None
    """The connector whose hints it may ride along with."""
    callback: Callable[[Any], object] | None = None
    """Sends, by a producer, what is no hint."""
    due: float = 0.0
    """Until then, on the monotonic clock, it is held for more keys to ride along."""
    began: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    @property
    def group(self) -> tuple[object, ...]:
        """What its keys share with those that may ride along."""
        return self.task, self.queue, self.ride_with, self.hops, self.priority


_Hints = queue.SimpleQueue[_Hint | None]
"""``None``: there will be no more."""


class Publisher:
    """Publishes hints for one app. It may be used by many threads and after a fork."""

    def __init__(self, app: Celery, *, timeout_seconds: float, chunk_size: int, meter: Meter | None = None) -> None:
        self._app = app
        self._meter = meter
        self._timeout = timeout_seconds
        self._chunk_size = chunk_size
        self._reset()
        _publishers.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._hints = self._new_queue()
        self._thread: threading.Thread | None = None
        self._down = False
        self._open: dict[tuple[object, ...], _Hint] = {}
        """The hints that are held, by their groups."""
        self._under_way: set[_Hint] = set()
        """Those that the thread has been given and has not done with."""
        self._sent: dict[tuple[object, ...], float] = {}
        """When the last of a group went, or was to go."""
        self._probe: _Hint | None = None
        """The hint that shows whether a broker that is down has come back."""

    def _new_queue(self) -> _Hints:
        hints: _Hints = queue.SimpleQueue()
        # A thread that held its publisher would keep it, its app and its connection for as long as the process lives.
        weakref.finalize(self, hints.put, None).atexit = False
        return hints

    def publish(
        self,
        task: str,
        queue_name: str,
        keys: Sequence[str],
        hops: int = 0,
        priority: int = 0,
        *,
        ride_with: str | None = None,
        wait: bool = True,
        delay_seconds: float = 0.0,
    ) -> bool:
        """Publish one hint, ``delay_seconds`` from now where this process lives so long; with
        ``ride_with``, the name of its connector, alone or together with others of that.

        False when the broker did not take it in time (the sweep then relays it), or was not waited for; True also for
        one that is held, for some milliseconds, to go with others. Never raises for the broker.
        """
        hint = _Hint(task, queue_name, list(keys), hops, priority, ride_with)
        hint.due = hint.began + delay_seconds if delay_seconds > 0 else 0.0
        return self._publish(hint, wait=wait)

    def publish_signature(self, signature: Any, first: Any, options: dict[str, Any]) -> bool:
        """Publish a callback by the app's own routes, with ``first`` as its first argument, like a hint."""

        def send(producer: Any) -> None:
            signature.apply_async((first,), producer=producer, retry=False, add_to_parent=False, **options)

        return self._publish(_Hint("", "", [], 0, 0, callback=send), wait=True)

    def _publish(self, hint: _Hint, *, wait: bool) -> bool:
        with self._lock:
            if self._down and not self._may_probe(hint):
                self._count(hint, "refused")
                return False
            waits = wait and not self._down
            if not self._down and self._rides_along(hint):
                return True
            try:
                self._ensure_thread()
            except RuntimeError as error:  # this process may start no more threads
                self._note_down(hint, str(error))
                return False
            held = hint.due > 0 or (not self._down and self._hold(hint))
            self._give(hint)
        if held:
            return True
        if not waits:
            return False
        if not hint.ended.wait(self._timeout):
            self._note_down(hint, f"no answer within {self._timeout:g} s")
            return False
        return hint.error is None

    def _rides_along(self, hint: _Hint) -> bool:
        """Add the keys to a hint of the same group that is held, where there is room."""
        held = self._open.get(hint.group)
        if held is None or hint.ride_with is None or len(held.keys) + len(hint.keys) > self._chunk_size:
            return False
        held.keys.extend(hint.keys)
        if len(held.keys) == self._chunk_size:
            self._close(held)
        return True

    def _hold(self, hint: _Hint) -> bool:
        """Whether the hint comes so soon after another of its group that it is held for more to ride along."""
        if hint.ride_with is None:
            return False
        if earlier := self._open.get(hint.group):
            self._close(earlier)
        at = self._sent.get(hint.group, 0.0) + GATHER_SECONDS
        self._sent[hint.group] = max(at, hint.began)
        if at <= hint.began or len(hint.keys) >= self._chunk_size:
            return False
        hint.due, self._open[hint.group] = at, hint
        return True

    def _close(self, held: _Hint) -> None:
        """Nothing rides along any more, and it is sent at once."""
        del self._open[held.group]
        self._sent[held.group] = time.monotonic()
        held.due = 0.0
        self._give(held)

    def _give(self, hint: _Hint) -> None:
        self._under_way.add(hint)
        self._hints.put(hint)

    def flush(self) -> None:
        """Send what is held, and wait for it and for what is being sent, within the bound of one hint."""
        with self._lock:
            for hint in list(self._open.values()):
                self._close(hint)
            now = time.monotonic()
            sent = [hint for hint in self._under_way if hint.due <= now]
        for hint in sent:
            hint.ended.wait(max(0.0, now + self._timeout - time.monotonic()))

    def after_fork(self) -> None:
        """In a child: what its parent holds, and the thread and connection for it, are the parent's."""
        self._reset()

    def _may_probe(self, hint: _Hint) -> bool:
        """Whether this hint is the one to find out, in the background, if the broker has come back."""
        last = self._probe
        if last is not None:
            age = hint.began - last.began
            if not last.ended.is_set() and age < ABANDON_SECONDS:
                return False
            if not last.ended.is_set():
                self._hints.put(None)
                self._hints, self._thread = self._new_queue(), None
                self._under_way.clear()
            elif age < PROBE_SECONDS:
                return False
        self._probe = hint
        return True

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(
                target=_serve, args=(weakref.ref(self), self._hints), name="tape-publisher", daemon=True
            )
            thread.start()
            self._thread = thread

    def _deliver(self, connection: Any, hint: _Hint) -> Any:
        """Send ``hint`` by ``connection``, or a new one; returns the connection for the next hint, if any is left."""
        with self._lock:
            if self._open.get(hint.group) is hint:
                del self._open[hint.group]
        for attempt in (1, 2):
            try:
                connection = connection or self.connect()
                self._send(connection, hint)
                self._note_up()
                break
            except Exception as error:  # noqa: BLE001 - a broker may raise anything, and no caller may see it
                # The first failure may be a connection that the broker closed long ago.
                _discard(connection)
                stale, connection = connection is not None, None
                if attempt == 2 or not stale or isinstance(error, ConfigurationError):
                    hint.error = error
                    self._note_down(hint, f"{type(error).__name__}: {error}")
                    break
        self._count(hint, "refused" if hint.error else "published")
        with self._lock:
            self._under_way.discard(hint)
        hint.ended.set()
        return connection

    def _count(self, hint: _Hint, result: str) -> None:
        if self._meter is not None and hint.task:
            self._meter.count(HINTS, hint.task, result)
            self._meter.send()

    def connect(self) -> Any:
        """A connection whose every wait is bounded: kombu's own default is to wait for ever."""
        require_library(self._app.conf.broker_write_url)
        connection = self._app.connection_for_write(connect_timeout=self._timeout)
        bounds = {"socket_timeout": self._timeout, "socket_connect_timeout": self._timeout}
        if connection.transport_cls in ("amqp", "pyamqp", "amqps"):
            bounds = {"read_timeout": self._timeout, "write_timeout": self._timeout}
        connection.transport_options = {**connection.transport_options, **bounds, "max_retries": 0}
        return connection

    def _send(self, connection: Any, hint: _Hint) -> None:
        if hint.callback is not None:
            with self._app.amqp.Producer(connection) as producer:
                hint.callback(producer)
            return
        arguments = self._queue_arguments(hint.queue)
        destination = Queue(hint.queue, Exchange(hint.queue), routing_key=hint.queue, queue_arguments=arguments)
        with self._app.amqp.Producer(connection, auto_declare=False) as producer:
            self._app.send_task(
                hint.task,
                args=[hint.keys, hint.hops] if hint.hops else [hint.keys],
                queue=destination,
                router=_NO_ROUTES,
                producer=producer,
                serializer=serializer_of(self._app),
                compression=None,
                ignore_result=True,
                retry=False,
                argsrepr="(…)",
                kwargsrepr="{}",
                **_told_priority(connection, hint.priority),
            )

    def _queue_arguments(self, name: str) -> dict[str, int] | None:
        """What the app says of the queue's priorities: RabbitMQ refuses a declaration that differs from a worker's."""
        known = self._app.amqp.queues.get(name)
        of_queue = None if known is None else known.max_priority or (known.queue_arguments or {}).get("x-max-priority")
        most = of_queue or self._app.conf.task_queue_max_priority
        return {"x-max-priority": most} if most else None

    def _note_down(self, hint: _Hint, why: str) -> None:
        if not self._down:
            logger.warning("hints wait for the sweep, the broker did not take one: %s", why)
        self._probe = self._probe if self._down else hint
        self._down = True

    def _note_up(self) -> None:
        if self._down:
            logger.warning("the broker takes hints again")
        self._down = False


def require_library(broker: str | Sequence[str] | None) -> None:
    """Raise `MissingExtra` where the library of a broker is absent: Celery itself ends in an AttributeError then.

    ``broker`` is what the configuration has: a URL, several with semicolons, or a list.
    """
    urls = broker.split(";") if isinstance(broker, str) else broker or ()
    if any(url.startswith(("redis:", "rediss:", "sentinel:")) for url in urls):
        try:
            import redis  # noqa: F401
        except ImportError:
            raise MissingExtra("A broker on Redis", "redis") from None


def _serve(found: weakref.ref[Publisher], hints: _Hints) -> None:
    """What the thread does, until its publisher is gone."""
    connection: Any = None
    held: list[_Hint] = []
    while True:
        wait = None if not held else max(0.0, min(hint.due for hint in held) - time.monotonic())
        try:
            hint = hints.get(timeout=wait)
        except queue.Empty:
            pass
        else:
            if hint is None:
                break
            if hint not in held and not hint.ended.is_set():
                held.append(hint)
        now = time.monotonic()
        due, held = [hint for hint in held if hint.due <= now], [hint for hint in held if hint.due > now]
        publisher = found()
        if publisher is None:
            break
        for hint in due:
            connection = publisher._deliver(connection, hint)
        del publisher, due
        hint = None
    _discard(connection)


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


def _flush_all(**_: Any) -> None:
    """What a process that ends holds is published; what it cannot publish is the sweep's."""
    for publisher in list(_publishers):
        publisher.flush()


atexit.register(_flush_all)
signals.worker_process_shutdown.connect(_flush_all)  # the children of a prefork pool end without atexit


def _after_fork() -> None:
    for publisher in list(_publishers):
        publisher.after_fork()


# A lock that another thread held at that moment would be locked for ever.
os.register_at_fork(after_in_child=_after_fork)


def _told_priority(connection: Any, priority: int) -> dict[str, int]:
    """How this broker is told that a message is urgent.

    Redis gives out what has the lowest number first, and what has none is 0, before all else. To let one hint pass, all
    others would have to give way to every task of the app: so only where the app says that it uses priorities there.
    """
    if connection.transport.driver_type != "redis":
        return {"priority": priority} if priority else {}
    options = connection.transport_options
    used = "priority_steps" in options or options.get("queue_order_strategy") == "priority"
    return {"priority": 9 - priority} if used else {}


def _discard(connection: Any) -> None:
    try:
        if connection is not None:
            connection.collect()
    except Exception:
        logger.debug("closing a broken connection failed", exc_info=True)
