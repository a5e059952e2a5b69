"""Effects as tasks by their names: in the apps that have a Tape, and never in the place of a task of the app's own."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain

from tape_celery import Tape, connectors, effect, tape_effect
from tape_celery.connectors.base import DispatchResult
from tape_celery.effect_tasks import EffectTask
from tape_celery.errors import TaskNameTaken
from tests.celery_wiring.conftest import BANK, MakeShop


class Post:
    """It does what it is asked."""

    name = "tasks.post"

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult("confirmed", response=effect.request)


@pytest.fixture
def make_tape(tmp_path: Path) -> Iterator[Callable[..., Tape]]:
    made: list[Tape] = []

    def make(app: Celery) -> Tape:
        made.append(Tape(app, store_url=f"sqlite:///{tmp_path}/{app.main}.db"))
        return made[-1]

    connectors.register(Post())
    yield make
    connectors.clear()
    for tape in made:
        tape.database.close()


def decorated(name: str) -> Any:
    @effect(connector="tasks.post", business_key=lambda text: text, name=name)
    def letter(text: str) -> dict[str, str]:
        return {"text": text}

    return letter


def test_only_an_app_with_a_tape_has_effects_as_tasks(make_tape: Callable[..., Tape]) -> None:
    """Whether the effect or the Tape comes first; another app of the process is left as it is."""
    with_tape, without = Celery("with", broker="memory://"), Celery("without", broker="memory://")
    decorated("tasks.before")
    make_tape(with_tape)
    decorated("tasks.after")
    with_tape.finalize()
    decorated("tasks.late")
    for name in ("tape.intent", "tasks.before", "tasks.after", "tasks.late"):
        assert isinstance(with_tape.tasks[name], EffectTask)
        assert name not in without.tasks


def test_an_effect_by_the_name_of_a_known_task_is_refused(make_tape: Callable[..., Tape]) -> None:
    """Where it is decorated: a chain would run the other one."""
    app = Celery("full", broker="memory://")
    make_tape(app)

    @app.task(name="tasks.letter", shared=False)
    def letter(text: str) -> None:
        """A task of the app's own."""

    app.finalize()
    with pytest.raises(TaskNameTaken, match=r"Celery app full has a task of its own called 'tasks\.letter'"):
        decorated("tasks.letter")


def test_an_app_that_is_complete_and_has_such_a_task_gets_no_tape(make_tape: Callable[..., Tape]) -> None:
    """And is not left with half of one: renamed, it gets a whole one."""
    decorated("tasks.postcard")
    app = Celery("complete", broker="memory://")

    @app.task(name="tasks.postcard", shared=False)
    def postcard(text: str) -> None:
        """A task of the app's own."""

    app.finalize()
    with pytest.raises(TaskNameTaken):
        make_tape(app)
    assert "tape.dispatch" not in app.tasks
    del app.tasks["tasks.postcard"]
    make_tape(app)
    assert "tape.dispatch" in app.tasks


def test_a_worker_whose_app_has_a_task_by_an_effects_name_does_not_start(make_shop: MakeShop) -> None:
    """An app that was not complete when the effect was decorated: the worker says which name, and ends."""
    shop = make_shop(connectors=[BANK, "tests.celery_wiring.apps.twice_named"])
    worker = shop.worker(ready=False)
    assert worker.wait() != 0
    assert "TaskNameTaken" in worker.text()
    assert "'twice.named'" in worker.text()


def test_signatures_of_tape_effect_take_options_as_celerys_do(make_tape: Callable[..., Tape]) -> None:
    """`.s`, `.si` and `.signature`, with `.set`: what is sent stands in them, and nothing before it is passed on."""
    app = Celery("signed", broker="memory://")
    tape = make_tape(app)
    app.set_current()
    for signature in (
        tape_effect.s("tasks.post", {"text": "hello"}, business_key="s"),
        tape_effect.si("tasks.post", {"text": "hello"}, business_key="si"),
        tape_effect.signature(("tasks.post", {"text": "hello"}), {"business_key": "signature"}),
    ):
        handle = signature.set(countdown=3600, priority=4).apply_async()
        found = tape.get(handle.id)
        assert found is not None
        assert (found.request, found.priority) == ({"text": "hello"}, 4)
        assert (found.due_at_ms or 0) - found.created_at_ms == timedelta(hours=1) / timedelta(milliseconds=1)
    first = decorated("tasks.first")
    chain(first.s("one"), tape_effect.s("tasks.post", {"text": "two"}, business_key="two")).apply_async()
    (begun,) = tape.effects(business_key="one")
    tape.dispatch(begun.effect_key)
    (following,) = tape.effects(business_key="two")
    assert following.request == {"text": "two"}
