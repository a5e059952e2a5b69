"""What comes off our queues before Celery's consumer sees it: a message that would end the worker is rejected.

Celery 5 leaves a message that it cannot make a task of unacknowledged and ends the worker, so the broker delivers it to
the next worker, and to the restarted one; others take a place of the pool for ever. Whoever can write to a queue could
stop it with one message, and forge lines of its log, which shows a task's name and id as they came. Here such a
message is rejected, once, with an error in the log that shows none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.concurrency import solo

from tape_celery.loggers import logger_for

logger = logger_for(__name__)

_TEXTS = ("eta", "expires", "shadow")
_SHOWN = ("task", "id", "shadow")
"""Celery logs these as they came, line ends and all: whoever writes to a queue would write lines of the log."""
_CALLBACKS = ("callbacks", "errbacks", "chain")


class Intake(bootsteps.Step):  # type: ignore[misc]  # Celery's classes have no types
    """A step of a worker's consumer. It leaves messages alone that came for a queue that is not ``queues()``'s."""

    queues: Callable[[], frozenset[str]]

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        make_handler, ours = consumer.create_task_handler, type(self).queues()

        def create_task_handler(*args: Any, **keywords: Any) -> Callable[[Any], None]:
            handle = make_handler(*args, **keywords)

            def on_task_received(message: Any) -> None:
                if not _is_for(message, ours):
                    handle(message)
                    return
                judged = False
                try:
                    problem, judged = malformed(message), True
                    if problem is None:
                        handle(message)
                        return
                except consumer.connection_errors:
                    raise
                except Exception as error:
                    if judged and isinstance(consumer.pool, solo.TaskPool):
                        raise  # the task has run in here: this is what Celery makes of a connector's SystemExit
                    problem = f"it cannot be read ({type(error).__name__})"
                logger.error("a message was rejected: %s", problem)
                message.reject_log_error(logger, consumer.connection_errors)

            return on_task_received

        consumer.create_task_handler = create_task_handler


def step_for(queues: Callable[[], frozenset[str]]) -> type[Intake]:
    """The step for the queues of one Tape; Celery makes an object of it in each worker."""
    return type("Intake", (Intake,), {"queues": staticmethod(queues), "name": f"tape_celery.intake.{id(queues)}"})


def malformed(message: Any) -> str | None:
    """What makes ``message`` one that Celery's consumer or pool cannot handle, or would log as several lines; ``None``
    where nothing does.

    Both of Celery's message protocols are known; a message of neither is left to Celery, which drops it.
    """
    headers = message.headers
    if isinstance(headers, dict) and "task" in headers:
        body = message.payload
        if not (isinstance(body, list | tuple) and len(body) == 3):
            return "its body is not the three parts of a task's message"
        args, kwargs, embedded = body
    else:
        headers = message.payload
        if not (isinstance(headers, dict) and "task" in headers):
            return None
        args, kwargs, embedded = headers.get("args") or (), headers.get("kwargs") or {}, headers
    return _wrong_header(headers) or _wrong_body(args, kwargs, embedded)


def _wrong_header(headers: dict[str, Any]) -> str | None:
    if not (isinstance(headers["task"], str) and isinstance(headers.get("id"), str)):
        return "its task or id is no text"
    for name in _TEXTS:
        if not isinstance(headers.get(name), str | None):
            return f"its {name} is no text"
    for name in _SHOWN:
        if not (headers.get(name) or "").isprintable():
            return f"its {name} cannot be printed"
    limits = headers.get("timelimit")
    if limits is not None and not (
        isinstance(limits, list | tuple) and len(limits) == 2 and all(_is_span(limit) for limit in limits)
    ):
        return "its timelimit is no pair of numbers"
    if not isinstance(headers.get("stamped_headers"), list | tuple | None):
        return "its stamped_headers are no list"
    if not isinstance(headers.get("retries"), int | None):
        return "its retries are no number"
    return None


def _wrong_body(args: Any, kwargs: Any, embedded: Any) -> str | None:
    if not (isinstance(args, list | tuple) and isinstance(kwargs, dict) and isinstance(embedded, dict | None)):
        return "its arguments are not a list and a dict"
    parts = embedded or {}
    for name in _CALLBACKS:
        listed = parts.get(name)
        if listed is not None and not (isinstance(listed, list | tuple) and all(isinstance(x, dict) for x in listed)):
            return f"its {name} are no list of signatures"
    if not isinstance(parts.get("chord"), dict | None):
        return "its chord is no signature"
    return None


def _is_span(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_for(message: Any, queues: frozenset[str]) -> bool:
    """Whether it came for one of ``queues``, or does not say what it came for."""
    told = message.delivery_info.get("routing_key") if isinstance(message.delivery_info, dict) else None
    return not isinstance(told, str) or not told or told in queues
