"""Effects as parts of Celery's chords: the result backend, which counts the parts, is told how each ended.

It is told at least once, and always under the part's own id and index, by which a backend knows what it was told
before. An effect that is in two chords tells each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery import Celery, states
from celery import __version__ as celery_version
from celery.app.task import Context
from celery.backends.base import Backend, BaseKeyValueStoreBackend, DisabledBackend

from tape_celery.errors import ChordNeedsBackend

if TYPE_CHECKING:
    from tape_celery.tape import Tape

PART = "part"
"""The callback of an effect that is a part itself: however it ends, the chord hears of it."""
BROKEN = "broken"
"""That of an effect in a chain which is a part: where the effect does not happen, the chain's end never comes."""
EVENTS = (PART, BROKEN)

_KNOWS_PARTS = "_chord_part_return_script"
"""What the Redis backend has since it counts a part once however often it is told of it, and starts a body once."""

_run_told_of: ContextVar[str | None] = ContextVar("_run_told_of", default=None)


def check_backend(app: Celery) -> None:
    """Raise `ChordNeedsBackend` where the app's result backend cannot be told of a part, or not safely twice."""
    backend = app.backend
    if isinstance(backend, DisabledBackend):
        raise ChordNeedsBackend("an effect in a chord needs a result backend, and this app has none")
    if not (_is_polled(backend) or hasattr(type(backend), _KNOWS_PARTS)):
        raise ChordNeedsBackend(
            "an effect in a chord needs a result backend that knows a part again which it is told twice, and "
            f"{type(backend).__name__} of Celery {celery_version} only counts them: take Redis, from Celery 5.7 on"
        )


def _is_polled(backend: Backend) -> bool:
    """Whether a task of Celery's looks whether all parts are over, as their results have it."""
    own = type(backend).on_chord_part_return
    of_keys_and_values = own is BaseKeyValueStoreBackend.on_chord_part_return and not backend.implements_incr
    return own is Backend.on_chord_part_return or of_keys_and_values


def part_of(options: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """What a chord is to be told of an effect with these options, and when: the event, and the part."""
    if options.get("chord"):
        return PART, _part(options)
    for following in options.get("chain") or ():
        if found := _member(following):
            return BROKEN, _part(found)
    return None


def _member(signature: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The options of the part of a chord that this part of a chain is, if it is one."""
    options: Mapping[str, Any] = signature.get("options") or {}
    if options.get("chord"):
        return options
    body = (signature.get("kwargs") or {}).get("body") if signature.get("subtask_type") == "chord" else None
    return _member(body) if body else None


def _part(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": options.get("task_id"),
        "group": options.get("group_id"),
        "group_index": options.get("group_index"),
        "chord": options["chord"],
    }


def tell(tape: Tape, effect_key: str, run_id: str, event: str, part: Mapping[str, Any]) -> bool:
    """Tell the result backend how the effect ended; False where it is not over, or not any more.

    Whoever tells the last part starts the chord's body, by Celery's own means.
    """
    meta = tape.handle(effect_key).backend.get_task_meta(effect_key)
    status, result = meta["status"], meta["result"]
    if status not in states.READY_STATES:
        return False  # it was STUCK, and a person has asked for another look
    request = Context({**part, "id": part["id"] or effect_key, "errbacks": [], "delivery_info": {}})
    with _telling(run_id):
        if status != states.SUCCESS:
            tape.app.backend.mark_as_failure(request.id, result, request=request)
        elif event == PART:
            tape.app.backend.mark_as_done(request.id, result, request=request)
    return True


@contextmanager
def _telling(run_id: str) -> Iterator[None]:
    token = _run_told_of.set(run_id)
    try:
        yield
    finally:
        _run_told_of.reset(token)


def own_keys(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an effect that a chord's body is: the same whoever tells the last part, and how often."""
    run_id, task_id = _run_told_of.get(), options.get("task_id")
    if run_id is None or not task_id:
        return {}
    return {"idempotency_key": options.get("idempotency_key") or task_id, "run_id": options.get("run_id") or run_id}
