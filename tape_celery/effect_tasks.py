"""Effects as tasks of Celery apps, by name, so that canvas can make them parts of chains, groups and chords.

Only an app with a Tape has them. A message with such a name on an ordinary queue records the effect too, once however
often it is delivered.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from celery import Celery, Task

from tape_celery import chords
from tape_celery.errors import TaskNameTaken

_CELERYS_OWN = frozenset(
    {
        "logfile", "loglevel", "throw",
        "add_to_parent", "chord", "connection", "exchange", "group_id", "group_index", "ignore_result", "headers",
        "parent_id", "producer", "queue", "replaced_task_nesting", "reply_to", "result_cls", "retry", "retry_policy",
        "root_id", "router", "routing_key", "serializer", "shadow", "stamped_headers", "time_limit", "soft_time_limit",
    }
)  # fmt: skip
"""Options that canvas gives to every task, and that say nothing of an effect."""
_recorders: dict[str, Callable[..., Any]] = {}
"""What records the effect of a task, by the task's name."""
_handles: dict[str, Callable[[str], Any]] = {}
_apps: weakref.WeakKeyDictionary[Celery, set[str]] = weakref.WeakKeyDictionary()
"""The apps that have a Tape, and the tasks that each was given."""


class EffectTask(Task):  # type: ignore[misc]  # Celery ships no types
    """A Celery task by whose name canvas finds an effect: to apply it is to record the effect, in this process."""

    abstract = True
    typing = False

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Record the effect; a ``task_id`` is its key. Raises `ChordNeedsBackend` for a part of a chord that could
        not be told of it."""
        kept = {name: value for name, value in options.items() if name not in _CELERYS_OWN}
        kept |= chords.own_keys(options)
        if part := chords.part_of(options):
            kept["chord"] = part
        return _recorders[self.name](tuple(args or ()), kwargs or {}, **kept)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """The same, as canvas asks for it under ``task_always_eager``."""
        return self.apply_async(args, kwargs, **options)

    def AsyncResult(self, task_id: str, **_: Any) -> Any:  # noqa: N802 - Celery's name
        """The handle of the effect of that key."""
        return _handles[self.name](task_id)


def add(name: str, record: Callable[..., Any], handle: Callable[[str], Any]) -> None:
    """Make ``record`` a task of every app that has a Tape, now or later; the latest of a name counts.

    Raises `TaskNameTaken` where an app that is complete has a task of its own by that name.
    """
    for app in list(_apps):
        _refuse_taken(app, name)
    _recorders[name], _handles[name] = record, handle
    for app in list(_apps):
        _give(app, name)


def adopt(app: Celery) -> None:
    """Give ``app`` a task for each effect of this process. Raises `TaskNameTaken`, as `add` does."""
    for name in list(_recorders):
        _refuse_taken(app, name)
    _apps.setdefault(app, set())
    for name in list(_recorders):
        _give(app, name)


def check(app: Celery) -> None:
    """Raise `TaskNameTaken` where a task of the app's own, added before an effect, has the effect's name."""
    for name in sorted(_apps.get(app, ())):
        if not isinstance(app.tasks.get(name), EffectTask):
            raise TaskNameTaken(app.main, name)


def _refuse_taken(app: Celery, name: str) -> None:
    """Before anything is done: what is refused leaves no half of itself behind."""
    if name not in _apps.get(app, ()) and app.finalized and name in app.tasks:
        raise TaskNameTaken(app.main, name)


def _give(app: Celery, name: str) -> None:
    if name in _apps[app]:
        return
    _apps[app].add(name)

    def run(*args: Any, **kwargs: Any) -> str:
        return str(_recorders[name](args, kwargs).id)

    app.task(name=name, base=EffectTask, shared=False, acks_late=True)(run)
