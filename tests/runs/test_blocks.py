"""`with tape.run(…)`: what is called inside belongs together, and an exception undoes it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from celery import Celery
from celery.exceptions import Retry

from tape_celery import Tape, effect
from tape_celery.errors import InvalidIntent, RunClosed, StoreUnavailable
from tape_celery.records import EffectStatus, RunStatus
from tests.state.stage import CONFIRMED, Stage


@pytest.fixture
def stage(ready_sqlite_url: str) -> Iterator[Stage]:
    made = Stage(ready_sqlite_url)
    yield made
    made.close()


@contextmanager
def raised(kind: type[BaseException]) -> Iterator[list[BaseException]]:
    """That the block raises it; what it raised is in the list afterwards."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    assert caught


def run_of(stage: Stage, **keywords: object) -> str:
    return stage.get(stage.record(**keywords)).run_id


def test_effects_in_the_block_have_its_run_unless_they_are_given_another(stage: Stage) -> None:
    with stage.tape.run("order") as run:
        assert run_of(stage) == "order"
        assert run_of(stage, run_id="own") == "own"
        decorated = effect(connector="scripted", name="runs.decorated", business_key=lambda n: f"d-{n}")(
            lambda n: {"n": n}
        )
        decorated._caller = stage.tape.effect
        assert stage.get(str(decorated.delay(1).id)).run_id == "order"
    assert run_of(stage) != "order"
    assert run.status is RunStatus.OPEN
    assert len(run.effects) == 2
    with stage.tape.run("order"):
        assert run_of(stage) == "order"


def test_the_inner_of_nested_blocks_counts(stage: Stage) -> None:
    with stage.tape.run("outer"):
        with stage.tape.run("inner"):
            assert run_of(stage) == "inner"
        assert run_of(stage) == "outer"


def test_a_block_is_of_one_tape(stage: Stage, sqlite_url: str) -> None:
    other = Tape(Celery("other", broker="memory://", set_as_current=False), store_url=f"{sqlite_url}-2")
    with other.run("theirs"):
        assert run_of(stage) != "theirs"
    other.database.close()


def test_an_exception_compensates_the_run_and_goes_on_its_way(stage: Stage) -> None:
    with raised(ZeroDivisionError), stage.tape.run("order") as run:
        landed, pending = stage.record(), stage.record()
        stage.dispatch(landed, CONFIRMED)
        raise ZeroDivisionError("by nothing")
    assert run.status is RunStatus.COMPENSATING
    assert run.record.closing_reason == "ZeroDivisionError: by nothing"
    assert stage.get(pending).status is EffectStatus.CANCELLED
    assert [debt.effect_key for debt in run.obligations] == [landed]
    with pytest.raises(RunClosed):
        stage.record(run_id="order")


def test_an_exception_closes_a_run_that_nothing_is_in_yet(stage: Stage) -> None:
    with raised(ZeroDivisionError), stage.tape.run("order") as run:
        raise ZeroDivisionError
    assert run.status is RunStatus.COMPENSATED
    with pytest.raises(RunClosed):
        stage.record(run_id="order")


@pytest.mark.parametrize("error", [Retry(), SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_ends_a_process_or_puts_a_task_off_leaves_the_run_open(stage: Stage, error: BaseException) -> None:
    with raised(type(error)), stage.tape.run("order") as run:
        stage.record()
        raise error
    assert run.status is RunStatus.OPEN
    assert run_of(stage) != "order"


def test_a_run_that_somebody_else_has_closed_stays_as_it_is(stage: Stage) -> None:
    with raised(RunClosed), stage.tape.run("order") as run:
        key = stage.record()
        stage.dispatch(key, CONFIRMED)
        run.cancel(reason="not wanted", actor="a person")
        stage.record()
    assert (run.status, run.obligations) == (RunStatus.CANCELLED, [])


def test_a_store_that_is_away_when_the_block_fails_hides_no_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    with raised(ZeroDivisionError) as caught, stage.tape.run("order") as run:
        stage.record()
        monkeypatch.setattr(stage.tape, "close_run", away)
        raise ZeroDivisionError
    assert caught[0].__notes__ == ["run 'order' could not be compensated: StoreUnavailable: gone"]
    assert run.status is RunStatus.OPEN


def test_each_task_of_asyncio_has_blocks_of_its_own(stage: Stage) -> None:
    async def saga(name: str) -> str:
        with stage.tape.run(name):
            await asyncio.sleep(0)
            return await asyncio.to_thread(run_of, stage)

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(saga(f"r-{number}") for number in range(5)))

    assert asyncio.run(all_of_them()) == [f"r-{number}" for number in range(5)]


def test_a_thread_is_in_the_block_when_it_is_given_the_context(stage: Stage) -> None:
    with ThreadPoolExecutor(1) as threads, stage.tape.run("order"):
        assert threads.submit(run_of, stage).result() != "order"
        assert threads.submit(contextvars.copy_context().run, run_of, stage).result() == "order"


def test_a_run_needs_an_id_that_can_be_stored(stage: Stage) -> None:
    for wrong in ("", "x" * 201, "a\0b", 7):
        with pytest.raises(InvalidIntent, match="run_id"):
            stage.tape.run(wrong)  # type: ignore[arg-type]


def test_what_a_run_is_told_must_say_who_and_why(stage: Stage) -> None:
    stage.record(run_id="order")
    for act in (stage.tape.compensate_run, stage.tape.cancel_run):
        with pytest.raises(InvalidIntent, match="reason"):
            act("order", reason=" ", actor="me")
        with pytest.raises(InvalidIntent, match="actor"):
            act("order", reason="why", actor="")
    assert stage.tape.run("order").status is RunStatus.OPEN
