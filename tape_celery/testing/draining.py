"""`drain`: what the workers and the sweep would do, here and now, one row after another, until nothing is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tape_celery.engine import Outcome
from tape_celery.errors import NotAtRest
from tape_celery.records import Effect, Obligation
from tape_celery.tape import Tape
from tape_celery.testing.clock import TapeClock, open_effects, open_obligations, open_rows, watched

MOST_PASSES = 200
DID = frozenset(
    {
        Outcome.CONFIRMED,
        Outcome.FAILED,
        Outcome.UNKNOWN,
        Outcome.PENDING,
        Outcome.CANCELLED,
        Outcome.STUCK,
        Outcome.COMPENSATED,
        Outcome.LATE,
    }
)
"""Outcomes that say that something was done; the others say why not."""


@dataclass(frozen=True)
class Done:
    """One thing that was done to one row."""

    verb: str
    key: str
    outcome: Outcome


@dataclass
class Drained:
    """What a `drain` did, and what is left."""

    done: list[Done] = field(default_factory=list)
    """In the order in which it was done."""
    lapsed: int = 0
    """Leases that were over and were ended."""
    expired: int = 0
    advanced_seconds: float = 0.0
    """By how much time was moved ahead."""
    left: list[Effect | Obligation] = field(default_factory=list)
    """What is not settled: it waits for its time, for a person, or for something else."""

    def count(self, verb: str, outcome: str | None = None) -> int:
        """How often ``dispatch``, ``observe`` or ``compensate`` did something (that came to ``outcome``)."""
        return sum(one.verb == verb and outcome in (None, one.outcome) for one in self.done)

    def __str__(self) -> str:
        lines = [f"{one.verb:<10}  {one.key}  {one.outcome}" for one in self.done]
        lines += [f"{'left':<10}  {_key(row)}  {row.status} {row.reason}".rstrip() for row in self.left]
        return "\n".join([*lines, f"time was moved ahead by {self.advanced_seconds:g} s"])


def drain(tape: Tape, *, advance: bool = False, watches: bool = False, most_passes: int = MOST_PASSES) -> Drained:
    """Sweep, dispatch, observe and compensate what is due, one row after another, until nothing is.

    What is urgent goes first, then what was recorded first.

    ``advance``: then move time to the next moment at which something is due, and go on, until all is settled or
    nothing more can happen by itself. ``watches``: the later looks at a believed absence, an hour and a day after, are
    waited for too. Raises `NotAtRest`, which lists what is still due, after ``most_passes`` passes, and where something
    is due whose connector is not registered here. What a connector raises is an outcome, as in a worker.
    """
    report, clock = Drained(), TapeClock(tape)
    for _ in range(most_passes):
        if _one_pass(tape, report):
            continue
        moved = clock.tick(watches=watches) if advance else None
        if moved is None:
            report.left = open_rows(tape)
            return report
        report.advanced_seconds += moved
    now = clock.now_ms
    due = [row for row in open_rows(tape) if row.due_at_ms and row.due_at_ms <= now]
    raise NotAtRest(f"there was more to do after each of {most_passes} passes", [_shown(row) for row in due])


def _one_pass(tape: Tape, report: Drained) -> bool:
    """Whether anything happened."""
    swept = tape.sweep()
    report.lapsed += swept.lapsed
    report.expired += swept.expired
    # Hints say that something is due, which is looked at below; they change nothing.
    moved = {name: number for name, number in vars(swept).items() if not name.endswith("_hints")}
    happened, unknown = any(moved.values()), []
    for verb, row, act in _todo(tape):
        key = _key(row)
        outcome = act(key)[key]
        if outcome is Outcome.UNKNOWN_CONNECTOR:
            unknown.append(_shown(row))
        if outcome in DID:
            report.done.append(Done(verb, key, outcome))
            happened = True
    if unknown and not happened:
        raise NotAtRest("its connector (or the effect's own name) is not registered in this process", unknown)
    return happened


def _todo(tape: Tape) -> Iterator[tuple[str, Effect | Obligation, Callable[[str], dict[str, Outcome]]]]:
    """What may be due, read anew for each verb: one brings about work for the next."""
    pending = sorted((row for row in open_effects(tape) if row.status == "PENDING"), key=lambda row: -row.priority)
    yield from (("dispatch", row, tape.dispatch) for row in pending)
    looking = [row for row in open_effects(tape) if row.status == "UNKNOWN"]
    yield from (("observe", row, tape.observe) for row in [*looking, *watched(tape)])
    yield from (("compensate", row, tape.compensate) for row in open_obligations(tape))


def _key(row: Effect | Obligation) -> str:
    return row.effect_key if isinstance(row, Effect) else row.obligation_key


def _shown(row: Effect | Obligation) -> str:
    words = f"{_key(row)} is {row.status}, connector {row.connector!r}, attempt {row.attempt}"
    return f"{words}: {row.reason}" if row.reason else words
