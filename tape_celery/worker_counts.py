"""What workers have counted, asked of all of them over the broker, by Celery's remote control.

For whoever reaches the broker but not the workers: Flower. A worker answers with the totals of its `Meter`, so what its
children did is in them. One that takes no remote control (``worker_enable_remote_control = False``) says nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery

from tape_celery.loggers import logger_for
from tape_celery.metering import Meter, Totals, totals_of

logger = logger_for(__name__)

COMMAND = "tape_counts"
ASK_SECONDS = 10.0
"""How often workers are asked."""
WAIT_SECONDS = 2.0
"""How long for their answers, each time."""
FORGET_SECONDS = 60.0
"""For how long a worker that answers no more is still told as it was."""

_meters: WeakKeyDictionary[Celery, Meter] = WeakKeyDictionary()


def answer(app: Celery, meter: Meter | None) -> None:
    """Have the worker of ``app`` answer with what ``meter`` counts, from now on; with ``None``, with nothing."""
    from celery.worker.control import inspect_command

    if meter is None:
        _meters.pop(app, None)
        return
    _meters[app] = meter
    inspect_command(name=COMMAND, visible=False)(_answered)


def _answered(state: Any) -> dict[str, Any]:
    """The totals of this worker, one series a line."""
    meter = _meters.get(state.app)
    if meter is None:
        return {"ok": []}
    meter.receive()
    return {"ok": meter.lines()}


class WorkerCounts:
    """The totals of each worker, by its name, as it said last. A thread asks, as long as this is not closed.

    Nothing is raised where the broker is away, or an answer is none: what is known stands for `FORGET_SECONDS`.
    """

    def __init__(self, app: Celery, *, ask_seconds: float = ASK_SECONDS) -> None:
        self._app, self._ask_seconds = app, ask_seconds
        self._known: dict[str, tuple[float, Totals]] = {}
        self._ended = threading.Event()
        self._away = False
        threading.Thread(target=self._ask_on, name="tape-worker-counts", daemon=True).start()

    def read(self) -> Mapping[str, Totals]:
        """What is known now; it waits for nothing."""
        since = time.monotonic() - FORGET_SECONDS
        return {worker: totals for worker, (at, totals) in list(self._known.items()) if at >= since}

    def close(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _ask_on(self) -> None:
        while not self._ended.is_set():
            try:
                self._take(self._app.control.broadcast(COMMAND, reply=True, timeout=WAIT_SECONDS) or [])
                self._away = False
            except Exception as error:  # noqa: BLE001 - whatever the client of the broker raises
                if not self._away:
                    logger.warning("workers cannot be asked what they counted: %s: %s", type(error).__name__, error)
                self._away = True
            self._ended.wait(self._ask_seconds)

    def _take(self, answers: Iterable[Mapping[str, Any]]) -> None:
        now = time.monotonic()
        for worker, said in (pair for one in answers for pair in one.items()):
            try:
                self._known[worker] = (now, totals_of(said["ok"]))
            except (LookupError, TypeError, ValueError):
                logger.warning("worker %r did not say what it counted, but %.200r", worker, said)
        self._known = {worker: known for worker, known in self._known.items() if known[0] >= now - FORGET_SECONDS}
