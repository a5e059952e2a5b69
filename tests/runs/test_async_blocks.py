"""`async with tape.run(…)`: what the block without ``async`` promises, and an event loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.exceptions import Retry
from sqlalchemy import text

from tape_celery import effect
from tape_celery.errors import RunClosed, StoreUnavailable
from tape_celery.records import EffectStatus, RunStatus
from tests.runs.test_blocks import raised
from tests.servers import until
from tests.state.stage import CONFIRMED, Stage
from tests.transactions.test_async import NOT_STOPPED_SECONDS, longest_pause


async def made(stage: Stage, number: int = 0, **keywords: Any) -> str:
    """Make an effect; returns its key."""
    given = {"business_key": f"b-{number}", **keywords}
    return str((await stage.tape.effect.adelay("scripted", {"n": number}, **given)).id)


async def run_of(stage: Stage, number: int = 0, **keywords: Any) -> str:
    return stage.get(await made(stage, number, **keywords)).run_id


def test_every_async_door_is_in_the_block_and_nothing_after_it(stage: Stage) -> None:
    """So are the tasks that it starts, and what they call in threads; a ``run_id`` of their own goes before."""
    decorated = effect(connector="scripted", name="runs.async", business_key=lambda n: f"d-{n}")(lambda n: {"n": n})
    decorated._caller = stage.tape.effect

    async def shop() -> None:
        async with stage.tape.run("order") as run:
            assert await run_of(stage) == "order"
            assert await run_of(stage, 1, run_id="own") == "own"
            [one] = await decorated.adelay_many([{"n": 1}])
            assert {(await decorated.adelay(2)).effect.run_id, one.effect.run_id} == {"order"}
            async with asyncio.TaskGroup() as group:
                child = group.create_task(run_of(stage, 2))
            assert child.result() == "order"
            assert stage.get(await asyncio.to_thread(stage.record)).run_id == "order"
        assert await run_of(stage, 3) != "order"
        assert run.status is RunStatus.OPEN
        assert len(run.effects) == 5

    asyncio.run(shop())


def test_blocks_of_both_kinds_nest_and_tasks_have_their_own(stage: Stage) -> None:
    async def saga(name: str, number: int) -> list[str]:
        async with stage.tape.run(name):
            with stage.tape.run(f"{name}-inner"):
                inner = await run_of(stage, number)
            return [inner, await run_of(stage, number + 1)]

    async def shop() -> list[list[str]]:
        return await asyncio.gather(*(saga(f"r-{number}", 10 * number) for number in range(5)))

    assert asyncio.run(shop()) == [[f"r-{number}-inner", f"r-{number}"] for number in range(5)]


def test_an_exception_compensates_the_run_and_goes_on_its_way(stage: Stage) -> None:
    async def shop() -> None:
        with raised(ZeroDivisionError):
            async with stage.tape.run("order") as run:
                landed, pending = await made(stage), await made(stage, 1)
                await asyncio.to_thread(stage.dispatch, landed, CONFIRMED)
                raise ZeroDivisionError("by nothing")
        assert (run.status, run.record.closing_reason) == (RunStatus.COMPENSATING, "ZeroDivisionError: by nothing")
        assert stage.get(pending).status is EffectStatus.CANCELLED
        assert [debt.effect_key for debt in run.obligations] == [landed]
        assert await run_of(stage, 2) != "order"
        with pytest.raises(RunClosed):
            async with stage.tape.run("order"):
                raise AssertionError("it is closed")
        assert await run_of(stage, 3) != "order"

    asyncio.run(shop())


@pytest.mark.parametrize("error", [Retry(), SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_what_ends_a_process_or_puts_a_task_off_leaves_the_run_open(stage: Stage, error: BaseException) -> None:
    async def shop() -> None:
        with raised(type(error)):
            async with stage.tape.run("order"):
                await made(stage)
                raise error
        assert await run_of(stage, 1) != "order"

    asyncio.run(shop())
    assert stage.tape.run("order").status is RunStatus.OPEN


def test_a_task_that_is_cancelled_in_the_block_leaves_the_run_open(stage: Stage) -> None:
    """By a timeout around it too; one inside of it is a failure of the block's own."""

    async def saga(name: str, entered: asyncio.Event) -> None:
        async with stage.tape.run(name):
            await made(stage, business_key=name)
            entered.set()
            await asyncio.Event().wait()

    async def shop() -> None:
        entered = asyncio.Event()
        task = asyncio.create_task(saga("cancelled", entered))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        entered = asyncio.Event()
        with raised(TimeoutError):
            async with asyncio.timeout(None) as outside:
                asyncio.get_running_loop().create_task(_expire(entered, outside))
                await saga("timeout outside", entered)
        with pytest.raises(TimeoutError):
            async with stage.tape.run("timeout inside"), asyncio.timeout(0):
                await asyncio.Event().wait()

    asyncio.run(shop())
    ended = {name: stage.tape.run(name).status for name in ("cancelled", "timeout outside", "timeout inside")}
    assert ended == {"cancelled": "OPEN", "timeout outside": "OPEN", "timeout inside": "COMPENSATED"}


async def _expire(entered: asyncio.Event, outside: asyncio.Timeout) -> None:
    await entered.wait()
    outside.reschedule(asyncio.get_running_loop().time())


def test_a_store_that_is_away_when_the_block_fails_hides_no_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    async def shop() -> None:
        with raised(ZeroDivisionError) as caught:
            async with stage.tape.run("order"):
                await made(stage)
                monkeypatch.setattr(stage.tape, "close_run", away)
                raise ZeroDivisionError
        assert caught[0].__notes__ == ["run 'order' could not be compensated: StoreUnavailable: gone"]

    asyncio.run(shop())


# --- the event loop goes on ---


@pytest.fixture
def server_stage(ready_postgresql_url: str) -> Iterator[Stage]:
    made = Stage(ready_postgresql_url)
    yield made
    made.close()


@contextmanager
def runs_locked(stage: Stage) -> Iterator[Callable[[], None]]:
    """Nobody reads or writes a run's row in the block, until what it yields is called."""
    locked, release = threading.Event(), threading.Event()

    def hold(connection: Any) -> None:
        connection.execute(text("LOCK TABLE tape_runs IN ACCESS EXCLUSIVE MODE"))
        locked.set()
        release.wait(30)

    holder = threading.Thread(target=stage.tape.database.write, args=(hold,))
    holder.start()
    assert locked.wait(30)
    try:
        yield release.set
    finally:
        release.set()
        holder.join()


@pytest.mark.parametrize("fails", [False, True])
def test_a_locked_store_does_not_stop_the_event_loop(server_stage: Stage, fails: bool) -> None:
    """Neither where the block is entered nor where it fails."""

    async def enter() -> None:
        async with server_stage.tape.run("order"):
            pass

    async def fail(block: Any) -> None:
        error = ZeroDivisionError()
        await block.__aexit__(ZeroDivisionError, error, None)

    async def shop() -> float:
        block = server_stage.tape.run("order")
        await block.__aenter__()
        with runs_locked(server_stage) as release:
            asyncio.get_running_loop().call_later(3.0, release)
            paused, _ = await longest_pause(fail(block) if fails else enter())
        return paused

    assert asyncio.run(shop()) < NOT_STOPPED_SECONDS
    assert server_stage.tape.run("order").status is (RunStatus.COMPENSATED if fails else RunStatus.OPEN)


def test_who_is_cancelled_while_the_run_is_closed_does_not_stop_that(server_stage: Stage) -> None:
    async def saga(entered: asyncio.Event, fail: asyncio.Event) -> None:
        async with server_stage.tape.run("order"):
            await made(server_stage)
            entered.set()
            await fail.wait()
            raise ZeroDivisionError

    async def shop() -> None:
        entered, fail = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(saga(entered, fail))
        await entered.wait()
        with runs_locked(server_stage):
            fail.set()
            await asyncio.to_thread(until, lambda: _waiting(server_stage), what="the closing to wait")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(shop())  # and its threads come to an end
    run = server_stage.tape.run("order")
    assert (run.status, [one.status for one in run.effects]) == (RunStatus.COMPENSATED, [EffectStatus.CANCELLED])


def _waiting(stage: Stage) -> bool:
    statement = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tape_runs'::regclass")
    return bool(stage.tape.database.read(lambda connection: connection.execute(statement).scalar()))
