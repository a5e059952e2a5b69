"""A store of which some calls fail before they are executed, and some after: executed, and the answer lost.

It stands over `Database.write` and `Database.read`, which every unit of work passes. As a pytest plugin it is an
opt-in for all tests that use a store in the tests' own process:

    TAPE_FAULTY_STORE=7 python -m pytest -p tests.soak.faulty_store tests/store tests/state tests/engine tests/client

There a call of the product is asked again, by whoever called it, for as long as the failure was one of these: that is
what the errors tell callers to do. So a test sees what it always sees, or the product lost or doubled something. Where
even the asking again would be seen, no fault is made: right after an answer to COMMIT was lost (else a claim is lost
with its worker), at the mark that a hint is on its way (else it waits for its relay), and where a test counts
statements.
"""

from __future__ import annotations

import functools
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from tape_celery import client, engine
from tape_celery.engine import Outcome
from tape_celery.errors import CommitUncertain, StoreUnavailable
from tape_celery.store import audit, claims, due, inspection, intents, moves
from tape_celery.store.database import Database

VARIABLE = "TAPE_FAULTY_STORE"
CHANCE = 0.01
_MOST_TRIES = 50
_ENTRANCES: tuple[tuple[Any, str], ...] = (
    *((engine.Engine, name) for name in ("dispatch", "observe", "compensate")),
    (client, "submit"),
    (intents, "record"),
    (claims, "take"),
    (claims, "renew"),
    (moves, "move"),
    (moves, "act"),
    (due, "due"),
    (audit, "overdue"),
    *((inspection, name) for name in ("get_effect", "get_obligation", "get_many", "list_effects", "read_journal")),
)
"""What callers use of the product, and the parts of a sweep. Of those that call each other, the outermost is asked
again."""
_CONNECTORS_WORK = ("_dispatch", "_compensate", "_look")
"""Where the engine is in the hands of a connector: what that calls of the product, it calls as any other caller."""
_COUNTS_STATEMENTS = ("test_clock_and_plans.py",)
_HAS_ITS_OWN = ("test_a_store_that_goes_away_takes_no_outcome_and_no_follow_up_with_it",)
"""A pass that ends half-way because of the test's own fault looks like one that does because of ours."""


class NotExecuted(StoreUnavailable):
    """Ours: the store was away."""


class AnswerLost(StoreUnavailable):
    """Ours: a read was done, and its answer lost."""


class CommitLost(CommitUncertain):
    """Ours: a write was committed, and the answer lost."""


OURS = (NotExecuted, AnswerLost, CommitLost)


class Faults:
    """Which calls fail, drawn from ``seed``; counts them by kind."""

    def __init__(self, seed: int, *, chance: float = CHANCE) -> None:
        self.counts: Counter[str] = Counter()
        self._chance = chance
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def draw(self) -> str:
        """What befalls the next call."""
        with self._lock:
            number = self._random.random()
            fate = "before" if number < self._chance else "after" if number < 2 * self._chance else "none"
            self.counts[fate] += 1
        _met_in.half_way |= fate != "none"
        return fate


@contextmanager
def installed(
    faults: Faults, *, when: Callable[[], bool] = lambda: True, spare_the_next: bool = False
) -> Iterator[Faults]:
    """Every unit of work of every store of this process, while ``when`` says so, meets ``faults``.

    With ``spare_the_next``, not the one after a COMMIT whose answer was lost, which reads back or writes again.
    """
    real_write, real_read = Database.write, Database.read
    spared = threading.local()

    def draw() -> str:
        free, spared.now = getattr(spared, "now", False), False
        return faults.draw() if when() and not free else "none"

    def write(database: Database, work: Any) -> Any:
        fate = draw()
        if fate == "before":
            raise NotExecuted("a fault of the test: not executed")
        try:
            result = real_write(database, work)
            if fate == "after":
                raise CommitLost("a fault of the test: the answer to COMMIT was lost")
        except CommitUncertain:
            spared.now = spare_the_next
            raise
        return result

    def read(database: Database, work: Any) -> Any:
        fate = draw()
        if fate == "before":
            raise NotExecuted("a fault of the test: not executed")
        result = real_read(database, work)
        if fate == "after":
            raise AnswerLost("a fault of the test: the answer was lost")
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "write", write)
        patch.setattr(Database, "read", read)
        yield faults


@contextmanager
def patient_callers() -> Iterator[Callable[[], bool]]:
    """Whoever calls the product asks again after a fault of ours; yields whether this thread is inside of a call."""
    inside = threading.local()

    @contextmanager
    def being(store: Any) -> Iterator[Any]:
        before, inside.of = getattr(inside, "of", _NOTHING), store
        try:
            yield before
        finally:
            inside.of = before

    def patient(function: Any) -> Any:
        @functools.wraps(function)
        def asked(*args: Any, **keywords: Any) -> Any:
            store = _store_of(args[0])
            with being(store) as before:
                # On another store than the call that it is made in, it is another caller's.
                if before is not _NOTHING and (store is before or None in (store, before)):
                    return function(*args, **keywords)
                result = again_after_ours(lambda: function(*args, **keywords))
                if isinstance(result, engine.Report):
                    complete(result, lambda keys: function(args[0], keys))
                return result

        return asked

    def handed_over(function: Any) -> Any:
        @functools.wraps(function)
        def called(*args: Any, **keywords: Any) -> Any:
            with being(_NOTHING):
                return function(*args, **keywords)

        return called

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in _ENTRANCES:
            assert isinstance(owner, ModuleType | type)
            patch.setattr(owner, name, patient(getattr(owner, name)))
        for name in _CONNECTORS_WORK:
            patch.setattr(engine.Engine, name, handed_over(getattr(engine.Engine, name)))
        yield lambda: getattr(inside, "of", _NOTHING) is not _NOTHING


_NOTHING = object()


def _store_of(first: Any) -> Database | None:
    """The store that a call is about, by its first argument: a store, an engine or a Tape."""
    return first if isinstance(first, Database) else getattr(first, "_database", None)


def again_after_ours(act: Callable[[], Any]) -> Any:
    """Do ``act`` until none of our faults keeps it from its end."""
    for _ in range(_MOST_TRIES - 1):
        _met_in.half_way = False
        try:
            return act()
        except OURS:
            continue
    return act()


def complete(report: engine.Report, ask: Callable[[list[str]], engine.Report]) -> None:
    """Ask again for the keys of a pass that found the store away half-way, where that was a fault of ours."""
    while _met_in.half_way and (left := [key for key, told in report.outcomes.items() if told is Outcome.STORE_AWAY]):
        _met_in.half_way = False
        rest = again_after_ours(lambda: ask(left))
        report.outcomes |= rest.outcomes
        for name in ("to_dispatch", "to_observe", "to_compensate"):
            getattr(report, name).extend(getattr(rest, name))


class _Met(threading.local):
    half_way = False
    """A fault of ours was met in this thread since its call of the product began."""


_met_in = _Met()


@pytest.fixture(autouse=True)
def _faulty_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """The plugin: all calls of the product in this test meet faults drawn from the seed and the test's name."""
    spared = request.path.name in _COUNTS_STATEMENTS or request.node.originalname in _HAS_ITS_OWN
    if VARIABLE not in os.environ or spared:
        yield
        return
    faults = Faults(_seed(f"{os.environ[VARIABLE]}:{request.node.nodeid}"))
    with patient_callers() as inside, installed(faults, when=inside, spare_the_next=True):
        yield
    _met.update(faults.counts)
    if met := {fate: times for fate, times in faults.counts.items() if fate != "none"}:
        request.node.add_report_section("teardown", "faults of the store", f"{met}")


_met: Counter[str] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many calls of the store met which fate, over all tests of this process."""
    if _met:
        told = f"{_met.total()} calls, {_met['before']} failed before they were executed, {_met['after']} after"
        terminalreporter.write_line(f"the faulty store: {told}")


def _seed(text: str) -> int:
    return random.Random(text).getrandbits(64)
