"""Inside a Celery task whose ids somebody else made up: the effect is recorded, and its run has a name that fits."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.trace import trace_task

from tests.state.stage import Stage

IDS = ["x" * 300, "a\0b", "a\nb", "\ud800", "", 5, 1.5, ["x"], {"a": 1}, True]


def delayed_twice(stage: Stage, request: dict[str, Any]) -> list[Any]:
    """What comes of an effect made by a task under these ids, delivered twice."""

    def order(self: Any) -> str:
        return str(stage.tape.effect.delay("scripted", {"n": 1}, allow_unsafe=True).id)

    stage.tape.app.task(order, name="order", shared=False, bind=True)
    task = stage.tape.app.tasks["order"]
    ended = [
        trace_task(task, request["id"], (), {}, request={"is_eager": False, **request}, app=stage.tape.app)
        for _ in range(2)
    ]
    for one in ended:
        if one.info is not None:
            raise one.info.retval
    return [one.retval for one in ended]


@pytest.mark.parametrize("root_id", IDS, ids=ascii)
def test_any_root_id_makes_a_run_id_that_fits(stage: Stage, root_id: Any) -> None:
    first, second = delayed_twice(stage, {"id": "task-1", "root_id": root_id})
    run_id = stage.get(first).run_id
    assert first == second
    assert 1 <= len(run_id) <= 200
    assert run_id.isprintable()


@pytest.mark.parametrize("task_id", [known for known in IDS if known], ids=ascii)
def test_any_task_id_is_met_again(stage: Stage, task_id: Any) -> None:
    """A redelivery derives the same key from it."""
    first, second = delayed_twice(stage, {"id": task_id, "root_id": None})
    assert first == second
