"""Whatever a connector in Python returns or raises: the effect is where the contract puts it, and the others go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tape_celery.connectors import CompensationResult, DispatchResult, ObservationResult
from tape_celery.records import Effect, Obligation
from tests.hostile import arguments
from tests.hostile.conftest import Examples
from tests.state.stage import CONFIRMED, LOST, Stage, comp, obs

# --- what is returned, and what is raised ---


class Unspeakable(Exception):
    """Its message cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no message")

    __repr__ = __str__


class Wordless(Exception):
    """Its message is no text."""

    def __str__(self) -> Any:
        return 5


def without_end() -> Any:
    return without_end()


RAISED: list[Callable[[], BaseException]] = [
    Unspeakable,
    Wordless,
    lambda: ValueError("x" * 10_000_000),
    lambda: ValueError("a\0b\ud800\n\x1b[31m", b"\xff", object()),
    lambda: ExceptionGroup("several", [ValueError("one"), ExceptionGroup("more", [Unspeakable()])]),
    lambda: type("N" * 100_000, (Exception,), {})("long name"),
    *(
        MemoryError,
        StopIteration,
        StopAsyncIteration,
        RecursionError,
        TimeoutError,
        AssertionError,
        NotImplementedError,
    ),
    *(SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError),
    lambda: BaseExceptionGroup("several", [SystemExit(1), KeyboardInterrupt()]),
]


class Raises:
    """An answer that is an exception."""

    def __init__(self, make: Callable[[], BaseException]) -> None:
        self.make = make


class Sleeper:
    """An awaitable that comes to nothing."""

    def __await__(self) -> Any:
        raise RuntimeError("not to be awaited")
        yield


async def stops_the_loop() -> DispatchResult:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(3600)
    return CONFIRMED


strange_objects = st.sampled_from([Sleeper, DispatchResult, ObservationResult, lambda: iter([]), object]).map(
    lambda make: make if make in (DispatchResult, ObservationResult) else make()
)
raising = st.sampled_from(range(len(RAISED))).map(lambda index: Raises(RAISED[index]))
flags = st.sampled_from([True, False, None, 1, 0, "true"])
words = st.dictionaries(st.sampled_from(["reason", "message", "type", "status"]), arguments.anything, max_size=2)
errors = arguments.anything | st.builds(
    lambda said, told: {**told, **said},
    st.fixed_dictionaries({}, optional=dict.fromkeys(("sent", "may_have_landed", "final", "ambiguous"), flags)),
    words,
)
bodies = arguments.anything | arguments.deep | st.just({"text": "x" * 1_000_000}) | arguments.payloads
some_refs = arguments.any_text | st.sampled_from(
    [7, True, None, b"ref", ["ref"], "r" * 512, "r" * 513, "x" * 1_000_000]
)
times = st.sampled_from([0, 1, -1, 10**13, 10**400, 1.5, float("nan"), "5", None, [1]])


def one_of(*known: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(known) | st.sampled_from(known) | arguments.anything


calls = st.builds(DispatchResult, one_of("confirmed", "failed", "unknown"), some_refs, bodies, errors, times)
looks = st.builds(
    ObservationResult,
    one_of("confirmed", "absent", "duplicate", "failed", "stuck"),
    some_refs,
    bodies | st.builds(lambda listed: {"duplicates": listed}, st.lists(some_refs, max_size=3) | arguments.anything),
)
inverses = st.builds(CompensationResult, one_of("compensated", "failed"), bodies, errors)
others = arguments.anything | raising | strange_objects


# --- what must come of it ---


def flag(error: Any, name: str) -> Any:
    return error.get(name) if isinstance(error, dict) else None


def after_a_call(said: Any) -> set[str]:
    """The contract's rows for a result of a non-idempotent effect with attempts left."""
    if not isinstance(said, DispatchResult) or not isinstance(said.retry_at_ms, int):
        return {"UNKNOWN"}
    if said.status == "confirmed":
        return {"CONFIRMED"}
    if said.status == "unknown":
        return {"PENDING"} if flag(said.error, "sent") is False else {"UNKNOWN"}
    if said.status == "failed":
        if flag(said.error, "may_have_landed") is True:
            return {"UNKNOWN"}
        return {"PENDING"} if said.retry_at_ms > 0 else {"FAILED"}
    return {"UNKNOWN"}


def after_a_look(said: Any) -> set[str]:
    status = said.status if isinstance(said, ObservationResult) and isinstance(said.status, str) else ""
    return {{"confirmed": "CONFIRMED", "duplicate": "CONFIRMED", "failed": "FAILED"}.get(status, "UNKNOWN")}


def after_an_inverse(said: Any) -> set[str]:
    if not isinstance(said, CompensationResult) or said.status not in ("compensated", "failed"):
        return {"UNKNOWN"}
    if said.status == "compensated":
        return {"COMPENSATED"}
    if flag(said.error, "ambiguous") is True:
        return {"UNKNOWN", "STUCK", "PENDING"}  # it contradicts itself, or not
    return {"STUCK"} if flag(said.error, "final") is True else {"PENDING"}


def is_kept_harmless(record: Effect | Obligation, most: int = 65_536) -> None:
    """What stays of it can be read again, is bounded, and breaks no line of a log."""
    assert isinstance(record.response, dict)
    assert isinstance(record.error, dict)
    assert len(record.response_json) <= most
    assert len(record.error_json) <= most
    assert record.reason.isprintable()
    assert len(record.reason) <= 300


def passed(verb: Callable[..., Any], keys: list[str], script: list[Any], sound: Any, said: Any) -> None:
    """One pass over three rows at once, where the upstream is sound for the first and the last."""

    def speak(record: Any) -> Any:
        own = record.effect_key if isinstance(record, Effect) else record.obligation_key
        if own != keys[1]:
            return sound
        if isinstance(said, Raises):
            raise said.make()
        return said

    script.extend([speak] * len(keys))
    fatal = isinstance(said, Raises) and not isinstance(said.make(), Exception)
    # What is to end a process ends it, after everything has been written.
    with contextlib.suppress(BaseException) if fatal else contextlib.nullcontext(), arguments.live():
        assert set(verb(*keys)) == set(keys)
    script.clear()


def test_whatever_a_call_returns_or_raises(stage: Stage, examples: Examples) -> None:
    @examples(200)
    @given(calls | others)
    def check(said: Any) -> None:
        keys = [stage.record() for _ in range(3)]
        passed(stage.tape.dispatch, keys, stage.connector.answers, CONFIRMED, said)
        first, hostile, last = map(stage.get, keys)
        assert (first.status, last.status) == ("CONFIRMED", "CONFIRMED")
        assert {str(hostile.status)} <= after_a_call(said)
        is_kept_harmless(hostile)

    check()


def test_whatever_a_look_returns_or_raises(stage: Stage, examples: Examples) -> None:
    @examples(100)
    @given(looks | others)
    def check(said: Any) -> None:
        keys = [stage.record() for _ in range(3)]
        stage.connector.answers.extend([LOST] * 3)
        stage.tape.dispatch(*keys)
        passed(stage.tape.observe, keys, stage.connector.looks, obs("confirmed", "ref-1"), said)
        first, hostile, last = map(stage.get, keys)
        assert (first.status, last.status) == ("CONFIRMED", "CONFIRMED")
        assert {str(hostile.status)} <= after_a_look(said)
        is_kept_harmless(hostile)
        owed = stage.tape.obligations(effect_key=keys[1])
        assert not owed or said.status == "duplicate"
        assert all(
            obligation.external_ref != hostile.external_ref or obligation.status == "STUCK" for obligation in owed
        )

    check()


def test_whatever_an_inverse_returns_or_raises(stage: Stage, examples: Examples) -> None:
    @examples(70)
    @given(inverses | others)
    def check(said: Any) -> None:
        effects = [stage.record() for _ in range(3)]
        stage.connector.answers.extend([CONFIRMED] * 3)
        stage.tape.dispatch(*effects)
        keys = [stage.tape.owe(key, reason="returned", actor="ann").obligation_key for key in effects]
        passed(stage.tape.compensate, keys, stage.connector.inverses, comp("compensated"), said)
        first, hostile, last = (stage.tape.obligations(effect_key=key)[0] for key in effects)
        assert (first.status, last.status) == ("COMPENSATED", "COMPENSATED")
        assert {str(hostile.status)} <= after_an_inverse(said)
        is_kept_harmless(hostile)

    check()


def test_a_connector_that_stops_its_own_loop_stops_no_other(stage: Stage) -> None:
    """The thread's event loop is used again."""
    for _ in range(2):
        key = stage.record()
        stage.dispatch(key, lambda _: stops_the_loop())
        assert stage.get(key).status == "UNKNOWN"
    assert stage.dispatch(stage.record(), CONFIRMED) == "confirmed"
