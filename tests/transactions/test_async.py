"""Async apps: the same promises, and an event loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import trace_task
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)

from tape_celery import EffectStatus, Tape, connectors
from tape_celery.concurrency import awaited
from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import EffectTimeout, KeyConflict, NoSuchEffect, RepeatedRequest, WrongSession
from tests.servers import RedisServer, TcpProxy, until
from tests.transactions.conftest import hinted

MakeTape = Callable[..., Tape]
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+asyncmy"}


@asynccontextmanager
async def app_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """The app's own async engine on the store's database."""
    parsed = make_url(url)
    engine = create_async_engine(parsed.set(drivername=DRIVERS[parsed.get_backend_name()]))
    try:
        yield engine
    finally:
        await engine.dispose()


async def pay(tape: Tape, session: Any = None, **keywords: Any) -> Any:
    given = {"allow_unsafe": True, **keywords}
    return await tape.effect.adelay("bank", given.pop("request", {"amount": 1}), session=session, **given)


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    yield
    connectors.clear()


NOT_STOPPED_SECONDS = 2.0
"""Each wait here takes longer than that; a busy machine may hold up an event loop for a part of it."""


async def longest_pause(work: Awaitable[Any]) -> tuple[float, Any]:
    """The longest that the event loop did not come round while ``work`` was awaited, and what that came to."""
    longest, ended = 0.0, False

    async def tick() -> None:
        nonlocal longest
        last = time.monotonic()
        while not ended:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    result = await work
    ended = True
    await ticking
    return longest, result


def test_adelay_records_and_hints(tape: Tape) -> None:
    handle = asyncio.run(pay(tape, business_key="b-1"))
    assert (handle.status, hinted(tape)) == (EffectStatus.PENDING, [handle.id])
    again = asyncio.run(pay(tape, business_key="b-1"))
    assert (again.id, hinted(tape)) == (handle.id, [])
    with pytest.raises(KeyConflict):
        asyncio.run(pay(tape, business_key="b-1", request={"amount": 2}))


@pytest.mark.parametrize("within", [False, True])
def test_adelay_many_records_all_or_none_and_hints_them(tape: Tape, ready_url: str, within: bool) -> None:
    """In the app's transaction they go with it, and the message follows the commit."""

    async def shop() -> list[Any]:
        async with app_engine(ready_url) as engine, AsyncSession(engine) as opened:
            session = opened if within else None
            items = [{"connector": "bank", "request": {"n": n}, "business_key": f"b-{n}"} for n in range(3)]
            assert await tape.effect.adelay_many([], session=session) == []
            with pytest.raises(KeyConflict, match=r"^item 3: "):
                await tape.effect.adelay_many([*items, {**items[0], "request": {}}], session=session)
            handles = await tape.effect.adelay_many((item for item in items), session=session)
            if within:
                assert (tape.effects(), hinted(tape)) == ([], [])
            await opened.commit()
            return handles

    handles = asyncio.run(shop())
    assert [handle.effect.request for handle in handles] == [{"n": n} for n in range(3)]
    found: list[str] = []

    def all_hinted() -> bool:
        found.extend(hinted(tape))
        return len(found) == 3

    until(all_hinted, what="the hints")
    assert found == [handle.id for handle in handles]


@pytest.mark.parametrize("what", ["session", "scoped session", "connection"])
def test_an_async_transaction_carries_the_intent(tape: Tape, ready_url: str, what: str) -> None:
    async def shop() -> None:
        async with app_engine(ready_url) as engine:
            sessions = async_sessionmaker(engine)
            scoped = async_scoped_session(sessions, scopefunc=asyncio.current_task)
            opened = {"session": sessions, "scoped session": lambda: scoped, "connection": engine.connect}[what]()
            if what == "connection":
                await opened.start()
            gone = await pay(tape, opened)
            await opened.rollback()
            kept = await pay(tape, opened, business_key="b-1")
            with pytest.raises(KeyConflict):
                await pay(tape, opened, business_key="b-1", request={"amount": 2})
            with pytest.raises(NoSuchEffect):
                _ = kept.status
            savepoint = await opened.begin_nested()
            lost = await pay(tape, opened)
            await savepoint.rollback()
            assert hinted(tape) == []
            await opened.commit()
            await opened.close()
            assert kept.status == EffectStatus.PENDING
            assert [gone.effect, lost.effect] == [None, None]
            # Its COMMIT did not wait for the broker.
            assert until(lambda: hinted(tape), what="the hint") == [kept.id]

    asyncio.run(shop())


def test_each_kind_of_session_goes_with_its_own_door(make_tape: MakeTape, ready_sqlite_url: str) -> None:
    tape = make_tape(ready_sqlite_url)

    async def shop() -> None:
        async with app_engine(ready_sqlite_url) as engine, AsyncSession(engine) as session:
            with pytest.raises(WrongSession, match="adelay"):
                tape.effect.delay("bank", {}, allow_unsafe=True, session=session)
            with pytest.raises(WrongSession, match="delay"):
                await pay(tape, session.sync_session)
            with pytest.raises(WrongSession, match="AsyncSession"):
                await pay(tape, 1)

    asyncio.run(shop())
    assert tape.effects() == []


# --- the event loop goes on ---


@pytest.fixture
def away(own_redis: RedisServer) -> Iterator[str]:
    """The URL of a broker that takes connections and never answers."""
    with TcpProxy(own_redis.host, own_redis.port) as proxy:
        proxy.mode = "blackhole"
        yield proxy.url(own_redis.url)


@pytest.mark.parametrize("door", ["adelay", "adelay_many"])
@pytest.mark.parametrize("within", [False, True])
def test_a_broker_that_never_answers_does_not_stop_the_event_loop(
    away: str, ready_sqlite_url: str, within: bool, door: str
) -> None:
    app = Celery("away", broker=away, set_as_current=False)
    tape = Tape(app, store_url=ready_sqlite_url, publish_timeout_seconds=4.0)

    async def shop() -> tuple[float, str]:
        async with app_engine(ready_sqlite_url) as engine, AsyncSession(engine) as session:

            async def order() -> str:
                within_or_not = session if within else None
                if door == "adelay":
                    handle = await pay(tape, within_or_not)
                else:
                    item = {"connector": "bank", "request": {"amount": 1}, "allow_unsafe": True}
                    [handle] = await tape.effect.adelay_many([item], session=within_or_not)
                await session.commit()
                return str(handle.id)

            return await longest_pause(order())

    paused, key = asyncio.run(shop())
    assert tape.get(key)
    assert paused < NOT_STOPPED_SECONDS
    tape.database.close()


def test_a_locked_store_does_not_stop_the_event_loop(make_tape: MakeTape, ready_sqlite_url: str) -> None:
    """Somebody holds the file for a moment; the intent waits for it in a thread."""
    tape = make_tape(ready_sqlite_url)
    tape.database.ready()
    locked, release = threading.Event(), threading.Event()

    def hold(connection: Any) -> None:
        connection.execute(text("SELECT 1"))
        locked.set()
        release.wait(30)

    holder = threading.Thread(target=tape.database.write, args=(hold,))
    holder.start()
    locked.wait(30)

    async def shop() -> tuple[float, Any]:
        asyncio.get_running_loop().call_later(3.0, release.set)
        return await longest_pause(pay(tape))

    paused, handle = asyncio.run(shop())
    holder.join()
    assert handle.status == EffectStatus.PENDING
    assert paused < NOT_STOPPED_SECONDS


# --- waiting ---


class Wire:
    """An upstream that books whatever comes."""

    name = "bank"

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult("confirmed", "w-1", {"booked": True})


def test_aget_waits_without_stopping_the_event_loop(make_tape: MakeTape, ready_sqlite_url: str) -> None:
    tape = make_tape(ready_sqlite_url)
    connectors.register(Wire())

    async def shop() -> tuple[float, Any]:
        handle = await pay(tape)
        with pytest.raises(EffectTimeout):
            await handle.aget(timeout=0)
        with pytest.raises(EffectTimeout):
            await handle.aget(timeout=0.2)
        worker = threading.Timer(3.0, tape.dispatch, (handle.id,))
        worker.start()
        return await longest_pause(handle.aget(timeout=30))

    paused, response = asyncio.run(shop())
    assert response == {"booked": True}
    assert paused < NOT_STOPPED_SECONDS


def test_aget_of_nothing(make_tape: MakeTape, ready_sqlite_url: str) -> None:
    tape = make_tape(ready_sqlite_url)
    with pytest.raises(NoSuchEffect):
        asyncio.run(tape.handle("no-such-key").aget(timeout=1))


# --- inside a Celery task ---


def execute(tape: Tape, body: Callable[[], Any]) -> Any:
    """Run ``body`` as a worker runs a delivered task."""
    task = tape.app.task(body, name="tests.body", shared=False)
    request = {"id": "execution-1", "root_id": "root-1", "is_eager": False}
    returned = trace_task(tape.app.tasks[task.name], "execution-1", (), {}, request=request, app=tape.app)
    if returned.info is not None:
        raise returned.info.retval
    return returned.retval


@pytest.mark.parametrize("door", ["adelay", "adelay_many"])
@pytest.mark.parametrize("within", [False, True])
def test_the_running_task_is_known_to_the_async_doors(tape: Tape, ready_url: str, within: bool, door: str) -> None:
    """Delivered twice, it meets its own effect; asked for twice in one execution, it is refused."""

    async def one(session: Any) -> Any:
        if door == "adelay":
            return await pay(tape, session)
        item = {"connector": "bank", "request": {"amount": 1}, "allow_unsafe": True}
        [handle] = await tape.effect.adelay_many([item], session=session)
        return handle

    def body() -> str:
        async def shop() -> str:
            async with app_engine(ready_url) as engine, AsyncSession(engine) as session:
                handle = await one(session if within else None)
                with pytest.raises(RepeatedRequest):
                    await one(session if within else None)
                await session.commit()
                return str(handle.id)

        return asyncio.run(shop())

    first = execute(tape, body)
    assert execute(tape, body) == first
    [effect] = tape.effects()
    assert (effect.effect_key, effect.run_id) == (first, "root-1")
    assert effect.idempotency_key.startswith("task-")


def test_two_at_once_of_one_task_are_refused_as_one_after_another(tape: Tape) -> None:
    def body() -> list[Any]:
        async def shop() -> list[Any]:
            return await asyncio.gather(pay(tape), pay(tape), return_exceptions=True)

        return asyncio.run(shop())

    ends = execute(tape, body)
    assert sorted(type(end).__name__ for end in ends) == ["EffectHandle", "RepeatedRequest"]
    assert len(tape.effects()) == 1


def test_who_was_cancelled_meets_the_same_effect_when_they_call_again(
    make_tape: MakeTape, ready_sqlite_url: str
) -> None:
    tape = make_tape(ready_sqlite_url)
    tape.database.ready()
    locked, release = threading.Event(), threading.Event()

    def hold(connection: Any) -> None:
        connection.execute(text("SELECT 1"))
        locked.set()
        release.wait(30)

    def body() -> str:
        async def shop() -> str:
            asking = asyncio.create_task(pay(tape))
            await asyncio.sleep(0.1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            release.set()
            return str((await pay(tape)).id)

        return asyncio.run(shop())

    holder = threading.Thread(target=tape.database.write, args=(hold,))
    holder.start()
    locked.wait(30)
    key = execute(tape, body)
    holder.join()
    assert [effect.effect_key for effect in tape.effects()] == [key]


# --- async connectors ---


class Kept:
    """A connector that keeps what belongs to an event loop over its calls, as one with an `httpx.AsyncClient` does."""

    name = "bank"

    def __init__(self) -> None:
        self.lock: asyncio.Lock | None = None
        self.loops: list[Any] = []

    async def dispatch(self, effect: Any) -> DispatchResult:
        self.lock = self.lock or asyncio.Lock()
        self.loops.append(asyncio.get_running_loop())
        waiting = asyncio.create_task(self.use())
        async with self.lock:
            await asyncio.sleep(0)
        await waiting
        return DispatchResult("confirmed")

    async def use(self) -> None:
        assert self.lock is not None
        async with self.lock:
            await asyncio.sleep(0)


def test_what_a_connector_keeps_over_the_calls_of_one_thread_works(make_tape: MakeTape, ready_sqlite_url: str) -> None:
    tape, kept = make_tape(ready_sqlite_url), Kept()
    connectors.register(kept)
    handles = [tape.effect.delay("bank", {"n": n}, allow_unsafe=True) for n in range(3)]
    for handle in handles:
        tape.dispatch(handle.id)
    assert [handle.status for handle in handles] == ["CONFIRMED"] * 3
    assert len(set(kept.loops)) == 1


def test_a_thread_closes_its_event_loop_when_it_ends() -> None:
    loops: list[Any] = []

    async def call() -> None:
        loops.append(asyncio.get_running_loop())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thread = threading.Thread(target=lambda: [awaited(call()) for _ in range(2)])
        thread.start()
        thread.join()
        gc.collect()
    assert loops[0] is loops[1]
    assert loops[0].is_closed()


def test_greenlet_is_needed_by_async_sessions_alone() -> None:
    """It is no dependency of ours: without it everything else works."""
    code = "import sys; sys.modules['greenlet'] = None; from tape_celery import transactions as t; t._async_kinds()"
    subprocess.run([sys.executable, "-c", code], check=True)


FORKED = """
import asyncio, gc, os, threading, time
from tape_celery.concurrency import awaited

def work():
    threading.Event().wait(0.2)  # longer than the loop needs to begin to wait for it

async def in_a_thread():
    await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, work), 20)

awaited(in_a_thread())
child = os.fork()
if child == 0:
    awaited(asyncio.sleep(0))
    gc.collect()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
began = time.monotonic()
awaited(in_a_thread())
assert time.monotonic() - began < 10, "woken by its own timer alone"
"""


def test_a_forked_child_leaves_its_parents_event_loop_alone() -> None:
    """It shares the parent's selector: closing that loop would leave the parent deaf to its threads."""
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)
