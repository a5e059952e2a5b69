"""Our tasks: a few lines each, that call the engine. Their messages carry keys; the one exception is `tape.effect`."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celery import current_task
from celery.exceptions import Reject

from tape_celery.engine import Outcome, Report
from tape_celery.errors import InvalidIntent, StoreUnavailable, TapeError
from tape_celery.intent import KEY_LENGTH
from tape_celery.lease import monotonic
from tape_celery.loggers import logger_for
from tape_celery.outcomes import scrub
from tape_celery.signing import SignedTask

if TYPE_CHECKING:
    from tape_celery.tape import Tape

logger = logger_for(__name__)

MOST_KEYS = 1000
MOST_HOPS = 3
"""How many workers that do not know its connector, or its key, pass a hint on."""
_STRANGE = (Outcome.UNKNOWN_CONNECTOR, Outcome.NO_SUCH_KEY)
OPTIONS: dict[str, Any] = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "acks_on_failure_or_timeout": True,
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    "base": SignedTask,
    "track_started": False,
}


def add(tape: Tape) -> None:
    """Add our five tasks to ``tape``'s app."""
    app = tape.app
    pace = _Pace()

    @app.task(name="tape.dispatch", shared=False, **OPTIONS)
    def dispatch(keys: Any, hops: Any = 0) -> None:
        """Call the upstream for the effects of this hint that are due."""
        _pass(tape, "dispatch", keys, hops)

    @app.task(name="tape.observe", shared=False, **OPTIONS)
    def observe(keys: Any, hops: Any = 0) -> None:
        """Ask the upstream about the effects of this hint."""
        _pass(tape, "observe", keys, hops)

    @app.task(name="tape.compensate", shared=False, **OPTIONS)
    def compensate(keys: Any, hops: Any = 0) -> None:
        """Pay the obligations of this hint."""
        _pass(tape, "compensate", keys, hops)

    @app.task(name="tape.sweep", shared=False, **OPTIONS)
    def sweep() -> None:
        """One pass of every sweep; nothing, where this process has made one less than half an interval ago.

        So the sweeps that have piled up while there was no worker cost next to nothing.
        """
        if tape.stopping.asked() or not pace.is_due(tape.settings.sweep_seconds / 2):
            return
        try:
            report = tape.sweep()
        except StoreUnavailable as error:
            logger.warning("not swept, the next sweep goes on: %s", error)
            return
        if report:
            logger.info("swept: %s", report)

    @app.task(name="tape.effect", bind=True, shared=False, max_retries=None, **OPTIONS)
    def record(self: Any, *args: Any, **kwargs: Any) -> None:
        """Record an intent for a producer that has no store; a redelivery meets the same effect."""
        try:
            _record(tape, args, kwargs)
        except InvalidIntent as error:
            logger.error("an intent was refused and dropped: %s: %s", type(error).__name__, scrub(str(error)))
        except TapeError as error:
            # Whatever keeps this worker from recording it, the message is all that there is of it. Only the recording
            # is tried again; its keys lead to the same effect.
            logger.warning("an intent waits to be recorded: %s: %s", type(error).__name__, scrub(str(error)))
            again = min(60, 2 ** min(self.request.retries, 6))
            try:
                raise self.retry(countdown=again, argsrepr="(…)", kwargsrepr="{…}") from error
            except Reject as unpublished:
                raise Reject(unpublished.reason, requeue=True) from error


class _Pace:
    """When this process did something last, on a clock that no wall clock moves."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def is_due(self, seconds: float) -> bool:
        """Whether that is at least so long ago, or never was; then it is now."""
        now, pid = monotonic(), os.getpid()
        if now - self._last.get(pid, -math.inf) < seconds:
            return False
        self._last = {pid: now}
        return True


def _record(tape: Tape, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if not kwargs.get("business_key") and not kwargs.get("idempotency_key"):
        raise InvalidIntent(
            "tape.effect needs an idempotency_key or a business_key, so that its redelivery meets the same effect"
        )
    when = {name: kwargs[name] for name in ("countdown", "expires") if name in kwargs}
    rest = {name: value for name, value in kwargs.items() if name not in when}
    if {"eta", "task_id", "effect_name"} & set(rest):
        raise InvalidIntent(
            "tape.effect takes countdown and expires in seconds, and neither eta, task_id nor effect_name"
        )
    tape.effect.apply_async(args, rest, **when)


def _pass(tape: Tape, verb: str, keys: Any, hops: Any) -> None:
    checked = _checked(keys)
    if not checked:
        return
    run: Callable[..., Report] = getattr(tape.engine, verb)
    try:
        report = run(checked, in_turn=True)
        tape.follow_up(report)
        _pass_on(tape, verb, report, hops)
    except StoreUnavailable as error:
        logger.warning("the store is away; the sweep comes back to this: %s", error)
    except BaseException as error:
        # What is to end the process ends it from its main thread. Raised in a thread of a pool it ends nothing: Celery
        # only never acknowledges the message, and after a few of them takes no more.
        if isinstance(error, Exception) or threading.current_thread() is threading.main_thread():
            raise
        logger.error("a connector raised %s, which ends no process from a thread", type(error).__name__)


def _pass_on(tape: Tape, verb: str, report: Report, hops: Any) -> None:
    """Give a hint that this worker can do nothing with to the next one.

    A broker that serves workers in turn would else give the hints of every sweep to the same wrong one, for ever.
    """
    strange = [key for key, outcome in report.outcomes.items() if outcome in _STRANGE]
    if lost := sum(outcome is Outcome.NO_SUCH_KEY for outcome in report.outcomes.values()):
        logger.warning(
            "%d keys of a hint are not in this store; installations that share a broker need a tape_queue_prefix each",
            lost,
        )
    passed_on = hops if isinstance(hops, int) and hops >= 0 else MOST_HOPS
    if strange and passed_on < MOST_HOPS:
        tape.hint(verb, "", strange, passed_on + 1)
    if left := [key for key, outcome in report.outcomes.items() if outcome is Outcome.STOPPING]:
        # Not by Celery's Reject, which logs a traceback. Should the broker be away, the sweep finds them.
        came_from = (current_task.request.delivery_info or {}).get("routing_key")
        tape.hint(verb, "", left, passed_on, queue=came_from if came_from in tape.app.amqp.queues else None)


def _checked(keys: Any) -> list[str]:
    """The keys of a hint. Whatever else came over the queue is logged and dropped: the row is the truth."""
    if not isinstance(keys, list) or len(keys) > MOST_KEYS:
        logger.error("a hint without a list of at most %d keys was dropped", MOST_KEYS)
        return []
    good = [key for key in keys if isinstance(key, str) and 0 < len(key) <= KEY_LENGTH and key.isprintable()]
    if len(good) < len(keys):
        logger.error("%d of %d keys of a hint are no keys and were dropped", len(keys) - len(good), len(keys))
    return good
