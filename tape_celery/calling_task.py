"""The Celery task that a call comes from: a redelivery or retry of it derives the same keys again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery._state import _task_stack

from tape_celery import intent
from tape_celery.errors import RepeatedRequest
from tape_celery.intent import Intent


def running() -> Any:
    """The request of the Celery task that runs here; ``None`` outside of one.

    A task whose function that task calls, or that it applies on the spot, is a part of it: such a part has no id, or
    one that no redelivery brings again.
    """
    # Celery's own `get_current_worker_task` takes an applied one for the worker's, and loses one that calls itself.
    tasks = _task_stack.stack
    if not tasks:
        return None
    nested = [request for task in tasks for request in task.request_stack.stack]
    run = [request for request in nested if request.id and not request.called_directly]
    delivered = [request for request in run if not request.is_eager]
    if delivered:
        return delivered[-1]
    return run[0] if run else None


def root_run_id() -> str | None:
    request = running()
    return None if request is None else intent.run_of(str(request.root_id or request.id))


def derived_key(connector: str, business_key: str, digest: str) -> str | None:
    """The key that a redelivered or retried task derives again; ``None`` outside of a task."""
    request = running()
    if request is None:
        return None
    key = intent.derived_idempotency_key(str(request.id), connector, business_key, digest)
    if key in _made(request):
        raise RepeatedRequest(
            f"this task execution already made an effect through {connector!r} with the same request; give each a "
            "business_key or an idempotency_key, so that a retry can tell which is meant"
        )
    return key


def remember(recorded: Intent, request: Any) -> Callable[[], None]:
    """Of an intent that has no key but a derived one: that the task execution ``request`` made it.

    Returns how to forget it.
    """
    key = recorded.idempotency_key
    if request is None or recorded.business_key:
        return lambda: None
    made = _made(request)
    made.add(key)
    return lambda: made.discard(key)


def _made(request: Any) -> set[str]:
    made: set[str] = vars(request).setdefault("_tape_keys", set())
    return made
