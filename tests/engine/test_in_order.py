"""Effects of one ordering key under the engine: calls that never overlap, in the order in which they were recorded."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from tape_celery import connectors
from tape_celery.connectors.base import DispatchResult, ObservationResult
from tape_celery.engine import Outcome
from tape_celery.records import Effect
from tests.servers import until
from tests.state.stage import CONFIRMED, FAILED, LOST, RETRY, Stage
from tests.store.steps import together

KEY = "account-7"


def test_one_that_waits_its_turn_says_so_and_uses_no_attempt(stage: Stage) -> None:
    """UNKNOWN holds the key; when it is resolved the next one is called."""
    first, second = (stage.record(ordering_key=KEY) for _ in range(2))
    assert stage.dispatch(second, CONFIRMED) is Outcome.WAITING_ITS_TURN
    assert stage.dispatch(first, LOST) is Outcome.UNKNOWN
    assert stage.dispatch(second, CONFIRMED) is Outcome.WAITING_ITS_TURN
    assert (stage.get(second).attempt, stage.get(second).token) == (0, 0)
    stage.tape.resolve(first, "failed", reason="asked the bank", actor="ann")
    assert stage.dispatch(second, CONFIRMED) is Outcome.CONFIRMED
    assert [effect.effect_key for effect in stage.connector.dispatched] == [first, second]


def test_when_one_is_settled_the_next_is_to_be_hinted_at_once(stage: Stage) -> None:
    """And only the next; one that is to be tried again still holds the key."""
    first, second, _ = (stage.record(ordering_key=KEY) for _ in range(3))
    for answer, follows in ((RETRY, []), (LOST, [])):
        stage.connector.answers[:] = [answer]
        report = stage.tape.engine.dispatch([first])
        assert [effect.effect_key for effect in report.to_dispatch if effect.effect_key != first] == follows
        stage.move_time(60)
    stage.connector.looks[:] = [ObservationResult("confirmed", external_ref="ref-1")]
    assert [effect.effect_key for effect in stage.tape.engine.observe([first]).to_dispatch] == [second]


def test_one_pass_over_all_of_a_key_calls_one(stage: Stage) -> None:
    """Whatever keys a hint carries: the rest waits for the hint that follows."""
    keys = [stage.record(ordering_key=KEY) for _ in range(4)]
    stage.connector.answers[:] = [FAILED]
    outcomes = stage.tape.dispatch(*reversed(keys))
    assert [outcomes[key] for key in keys] == [Outcome.FAILED, *[Outcome.WAITING_ITS_TURN] * 3]


def test_a_sweep_hints_only_the_one_whose_turn_it_is(stage: Stage) -> None:
    """However many wait behind it; a reissue goes to the end of the line."""
    keys = [stage.record(ordering_key=KEY) for _ in range(5)]
    stage.move_time(60)
    report = stage.tape.sweep()
    assert (report.dispatch_hints, report.waiting) == (1, 4)
    stage.move_time(60)
    report = stage.tape.sweep()
    assert (report.dispatch_hints, report.waiting) == (1, 0)
    stage.tape.cancel(keys[0], reason="r", actor="ann")
    again = stage.tape.reissue(keys[0], reason="r", actor="ann").effect
    assert (again.ordering_key, again.order_number) == (KEY, 6)
    assert stage.tape.sweep().dispatch_hints == 1


class Line:
    """A connector that checks at each call that it is alone and in order; its answers are drawn."""

    name = "scripted"
    can_observe = True
    total_seconds = 0.0

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._open: dict[str, int] = {}
        self.calls: dict[str, list[int]] = {}
        self.wrong: list[str] = []

    def dispatch(self, effect: Effect) -> DispatchResult:
        key, number = effect.ordering_key, effect.order_number
        with self._lock:
            if key in self._under_way or self._open.get(key, number) != number:
                self.wrong.append(f"{key} {number} while {self._open.get(key)} is not settled")
            self._under_way.add(key)
            self.calls.setdefault(key, []).append(number)
            answer = self._rng.choice(["confirmed", "failed", "unknown", "retry", "raise"])
            self._open[key] = number
        try:
            if answer == "raise":
                raise ConnectionError("the connection broke")
            if answer == "retry":
                return DispatchResult("failed", retry_at_ms=1)
            if answer != "unknown":
                with self._lock:
                    del self._open[key]
            return DispatchResult(answer)
        finally:
            with self._lock:
                self._under_way.discard(key)

    def observe(self, effect: Effect) -> ObservationResult:
        with self._lock:
            found = self._rng.choice(["confirmed", "failed", "stuck"])
            if found != "stuck":
                self._open.pop(effect.ordering_key, None)
        return ObservationResult(found)


@pytest.fixture(params=["sqlite", "postgresql"])
def line_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(
        request.getfixturevalue(f"ready_{request.param}_url"),
        settle_seconds=0,
        backoff_base_seconds=0.1,
        backoff_cap_seconds=0.1,
        observe_attempts=1000,
        max_attempts=1000,
    )
    yield made
    made.close()


def test_calls_of_a_key_never_overlap_and_come_in_order(line_stage: Stage, rng: random.Random) -> None:
    """Four workers dispatch and look at everything at once, over three keys, with every kind of outcome."""
    stage, line = line_stage, Line(rng)
    connectors.clear()
    connectors.register(line)
    made: dict[str, list[str]] = {}
    for _ in range(24):
        key = rng.choice(["a", "b", "c"])
        made.setdefault(key, []).append(stage.record(ordering_key=key))
    every = [key for keys in made.values() for key in keys]

    def all_settled() -> bool:
        return all(stage.get(key).status.settled for key in every)

    def work(seed: int) -> bool:
        mine = random.Random(seed)

        def one_round() -> bool:
            asked = mine.sample(every, 10)
            stage.tape.dispatch(*asked)
            stage.tape.observe(*[key for key in asked if stage.get(key).status == "UNKNOWN"])
            return all_settled()

        return bool(until(one_round, timeout=60, what="all of them to be settled"))

    seeds = [rng.randrange(2**32) for _ in range(4)]
    assert all(together([lambda seed=seed: work(seed) for seed in seeds]))  # type: ignore[misc]
    assert line.wrong == []
    assert set(line.calls) == set(made)
    for key, numbers in line.calls.items():
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(1, len(made[key]) + 1))
    assert stage.tape.audit() == []
