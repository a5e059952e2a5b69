"""`delay_many`: the words of `delay`, a list of them at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy.orm import Session

from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import InvalidIntent, KeyConflict, PayloadTooLarge, RepeatedRequest, UnsafeEffect
from tests.client.test_inside_a_task import execute
from tests.state.stage import CONFIRMED, Stage


def items(count: int, **keywords: Any) -> list[dict[str, Any]]:
    return [{"connector": "scripted", "request": {"n": n}, "business_key": f"b-{n}", **keywords} for n in range(count)]


def recorded(stage: Stage) -> int:
    return len(stage.tape.effects(limit=1000))


def test_each_item_has_the_words_of_delay(stage: Stage) -> None:
    """And of the time; a generator will do."""
    last = {"business_key": "late", "countdown": 60, "expires": 90, "priority": 7, "run_id": "run-1"}
    asked = [*items(2), {**items(1)[0], **last}]
    handles = stage.tape.effect.delay_many(item for item in asked)
    assert [handle.effect.business_key for handle in handles] == ["b-0", "b-1", "late"]
    late = handles[2].effect
    assert (late.priority, late.run_id) == (7, "run-1")
    assert late.due_at_ms == late.created_at_ms + 60_000
    assert late.expires_at_ms == late.created_at_ms + 90_000
    assert stage.tape.effect.delay_many([]) == []


@pytest.mark.parametrize(
    ("item", "error", "told"),
    [
        ({"connector": "scripted"}, InvalidIntent, "request missing"),
        ({"connector": "scripted", "request": {"x": "y" * 300_000}, "business_key": "b"}, PayloadTooLarge, "bytes"),
        ({"connector": "scripted", "request": {"x": object()}, "business_key": "b"}, InvalidIntent, "object"),
        ({"connector": "scripted", "request": {}, "colour": "red"}, InvalidIntent, "no option 'colour'"),
        ({"connector": "scripted", "request": {}, "session": 1}, InvalidIntent, "session is one for all"),
        ({"connector": "scripted", "request": {}, "countdown": -1}, InvalidIntent, "countdown"),
        ({"connector": "scripted", "request": {"n": 7}, "business_key": "b-0"}, KeyConflict, "key of item 0"),
        (["scripted", {}], InvalidIntent, "must be a dict"),
    ],
)
def test_one_that_is_refused_refuses_all_and_is_named(stage: Stage, item: Any, error: type, told: str) -> None:
    with pytest.raises(error, match=f"^item 3: .*{told}"):
        stage.tape.effect.delay_many([*items(3), item])
    assert recorded(stage) == 0


def test_one_that_nobody_could_resolve_refuses_all(stage: Stage) -> None:
    stage.connector.can_observe = stage.connector.can_compensate = False
    with pytest.raises(UnsafeEffect, match=r"^item 1: "):
        stage.tape.effect.delay_many([*items(1), {"connector": "scripted", "request": {}}])
    assert recorded(stage) == 0


def test_those_that_exist_are_met_in_their_place(stage: Stage) -> None:
    first = stage.tape.effect.delay("scripted", {"n": 1}, business_key="b-1")
    handles = stage.tape.effect.delay_many(items(3))
    assert handles[1].id == first.id
    assert recorded(stage) == 3


def test_inside_a_task_a_retry_meets_what_the_first_execution_made(stage: Stage) -> None:
    """Keys are derived as for one; the same request twice without keys is refused; what was refused is forgotten."""
    plain = [{"connector": "scripted", "request": {"n": n}} for n in range(3)]

    def body(_: object) -> list[str]:
        with pytest.raises(RepeatedRequest, match=r"^item 3: "):
            stage.tape.effect.delay_many([*plain, plain[0]])
        made = [handle.id for handle in stage.tape.effect.delay_many(plain)]
        with pytest.raises(RepeatedRequest):
            stage.tape.effect.delay("scripted", {"n": 2})
        return made

    assert execute(stage, body) == execute(stage, body)
    assert recorded(stage) == 3


def test_in_the_apps_transaction_all_go_with_it(stage: Stage) -> None:
    """Rolled back, or a savepoint of it, none is there; committed, all are."""
    engine = stage.tape.database._engine
    with Session(engine) as session:
        stage.tape.effect.delay_many(items(3), session=session)
        session.rollback()
        assert recorded(stage) == 0
        with pytest.raises(KeyConflict, match=r"^item 3: "):
            stage.tape.effect.delay_many([*items(3), {**items(1)[0], "request": {}}], session=session)
        handles = stage.tape.effect.delay_many(items(3), session=session)
        session.commit()
    assert [handle.status for handle in handles] == ["PENDING"] * 3


def test_under_task_always_eager_all_are_sent_however_long_each_takes(ready_sqlite_url: str) -> None:
    """The bound on publishing is the broker's, which has no part in it."""
    stage = Stage(ready_sqlite_url, chunk_size=1, publish_timeout_seconds=0.1)
    stage.tape.app.conf.task_always_eager = True

    def slowly(_: object) -> DispatchResult:
        threading.Event().wait(0.2)
        return CONFIRMED

    stage.connector.answers = [slowly] * 3
    assert [handle.status for handle in stage.tape.effect.delay_many(items(3))] == ["CONFIRMED"] * 3
    stage.close()
