"""Which execution a call belongs to, when tasks are nested in one another: the one that would be delivered again."""

from collections.abc import Callable
from typing import Any

import pytest
from celery.app.trace import trace_task

from tape_celery.errors import InvalidIntent, RepeatedRequest, StoreUnavailable
from tape_celery.store import intents
from tests.state.stage import Stage

Body = Callable[..., Any]


def execute(stage: Stage, body: Body, task_id: str = "execution-1") -> Any:
    """Run ``body`` as a worker runs a task: Celery's own tracing, with the request of a delivered message."""
    task = stage.tape.app.task(body, name=f"tests.{body.__name__}", shared=False, bind=True)
    task = stage.tape.app.tasks[task.name]
    request = {"id": task_id, "root_id": "root-1", "is_eager": False}
    returned = trace_task(task, task_id, (), {}, request=request, app=stage.tape.app)
    if returned.info is not None:
        raise returned.info.retval
    return returned.retval


def delay(stage: Stage, request: dict[str, Any] | None = None, **keywords: Any) -> str:
    given = {"allow_unsafe": True, **keywords}
    return str(stage.tape.effect.delay("scripted", request or {"amount": 1}, **given).id)


@pytest.fixture
def inner(stage: Stage) -> Any:
    """A task of the app that makes an effect."""

    def make() -> str:
        return delay(stage)

    return stage.tape.app.task(make, name="tests.inner", shared=False)


def nested(how: str, inner: Any) -> Body:
    """A task that gets its effect by calling another one."""

    def direct(self: Any) -> Any:
        return inner()

    def applied(self: Any) -> Any:
        return inner.apply().get(disable_sync_subtasks=False)

    return {"direct": direct, "applied": applied}[how]


@pytest.mark.parametrize("how", ["direct", "applied"])
def test_a_task_called_by_a_task_belongs_to_its_execution(stage: Stage, inner: Any, how: str) -> None:
    """Delivered twice, it meets its own effect; another execution makes another."""
    body = nested(how, inner)
    keys = [execute(stage, body, task_id) for task_id in ("one", "one", "two")]
    assert keys[0] == keys[1] != keys[2]
    assert {effect.run_id for effect in stage.tape.effects()} == {"root-1"}
    assert all(effect.idempotency_key.startswith("task-") for effect in stage.tape.effects())


def test_a_task_that_calls_itself_belongs_to_its_execution(stage: Stage) -> None:
    def recursive(self: Any, depth: int = 0) -> Any:
        return delay(stage) if depth == 2 else self(depth + 1)

    keys = {execute(stage, recursive) for _ in range(2)}
    assert len(keys) == 1


@pytest.mark.parametrize("how", ["direct", "applied"])
def test_the_same_request_twice_is_refused_through_inner_tasks_too(stage: Stage, inner: Any, how: str) -> None:
    def twice(self: Any) -> Any:
        call = nested(how, inner)
        return call(self), call(self)

    with pytest.raises(RepeatedRequest):
        execute(stage, twice)
    assert len(stage.tape.effects()) == 1


def test_what_was_refused_does_not_count_as_made(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that recorded nothing may be made again, put right, in the same execution."""
    real = intents.record
    away = [StoreUnavailable("the store is away")]

    def record(*args: Any, **kwargs: Any) -> Any:
        if away:
            raise away.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(intents, "record", record)

    def stubborn(self: Any) -> Any:
        with pytest.raises(InvalidIntent):
            delay(stage, run_id="")
        with pytest.raises(StoreUnavailable):
            delay(stage)
        return delay(stage)

    assert stage.get(execute(stage, stubborn))


def test_outside_of_a_task_the_same_request_twice_is_two_effects(stage: Stage) -> None:
    assert delay(stage) != delay(stage)
