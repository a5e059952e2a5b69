"""What a closed run does next, for what its effects and obligations are."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, Run, RunStatus, Semantics
from tape_celery.run_state import Step, decide, newest_first

S, O, R = EffectStatus, ObligationStatus, RunStatus  # noqa: E741
_numbers = itertools.count(1)


def effect(key: str, status: str, at: int = 0, **given: Any) -> Effect:
    return Effect(
        effect_key=key,
        connector="bank",
        status=S(status),
        idempotency_key=key,
        run_id="r",
        request_json="{}",
        request_digest="",
        created_at_ms=at,
        **{"external_ref": f"ref-{key}", "reason": "why" if status == "STUCK" else "", **given},
    )


def debt(key: str, status: str, ref: str | None = None) -> Obligation:
    return Obligation(
        obligation_key=f"o-{key}",
        effect_key=key,
        run_id="r",
        connector="bank",
        kind="run",
        external_ref=f"ref-{key}" if ref is None else ref,
        payload_json="{}",
        idempotency_key=f"compensate:o-{key}-{next(_numbers)}",
        status=O(status),
        reason="refused" if status == "STUCK" else "",
    )


def step(effects: list[Effect], debts: list[Obligation] | None = None, status: str = "COMPENSATING") -> Step:
    return decide(Run(run_id="r", status=R(status)), effects, debts or [])


WAITS = Step(status=R.COMPENSATING)
DONE = Step(status=R.COMPENSATED)


def owes(key: str) -> Step:
    return Step(status=R.COMPENSATING, owe=key)


@pytest.mark.parametrize(
    ("effects", "debts", "next_step"),
    [
        ([], [], DONE),
        ([effect("a", "FAILED"), effect("b", "CANCELLED")], [], DONE),
        ([effect("a", "CONFIRMED")], [], owes("a")),
        ([effect("a", "CONFIRMED", 1), effect("b", "CONFIRMED", 2)], [], owes("b")),
        ([effect("b", "CONFIRMED", 1), effect("a", "CONFIRMED", 2)], [], owes("a")),
        ([effect("a", "CONFIRMED", 1), effect("b", "CONFIRMED", 1)], [], owes("b")),
        ([effect("a", "CONFIRMED", 1), effect("b", "FAILED", 2)], [], owes("a")),
        ([effect("a", "CONFIRMED", semantics=Semantics.OBSERVE_ONLY)], [], DONE),
        ([effect("a", "PENDING"), effect("b", "CONFIRMED", 1)], [], Step(status=R.COMPENSATING, cancel=("a",))),
        ([effect("a", "HELD"), effect("b", "UNKNOWN", 1)], [], Step(status=R.COMPENSATING, cancel=("a",))),
        ([effect("a", "CONFIRMED", 1), effect("b", "DISPATCHING", 2)], [], WAITS),
        ([effect("a", "UNKNOWN", 1), effect("b", "CONFIRMED", 2)], [], WAITS),
        ([effect("a", "UNKNOWN", semantics=Semantics.OBSERVE_ONLY), effect("b", "CONFIRMED", 2)], [], WAITS),
        ([effect("a", "CONFIRMED", 1), effect("b", "CONFIRMED", 2)], [debt("b", "COMPENSATED")], owes("a")),
        ([effect("a", "CONFIRMED", 1)], [debt("a", "COMPENSATED")], DONE),
        # An extra record's obligation is paid by itself, and neither counts as this one's nor keeps the others.
        ([effect("a", "CONFIRMED")], [debt("a", "COMPENSATED", ref="extra")], owes("a")),
        ([effect("a", "CONFIRMED")], [debt("a", "STUCK", ref="extra"), debt("a", "COMPENSATED")], DONE),
        *(
            ([effect("a", "CONFIRMED", 1), effect("b", "CONFIRMED", 2)], [debt("b", status)], WAITS)
            for status in ("PENDING", "COMPENSATING", "UNKNOWN")
        ),
    ],
)
def test_what_a_run_that_is_being_compensated_does_next(
    effects: list[Effect], debts: list[Obligation], next_step: Step
) -> None:
    for status in ("COMPENSATING", "COMPENSATED", "STUCK"):
        assert step(effects, debts, status) == next_step


def test_what_is_stuck_stops_the_run_and_is_named() -> None:
    stuck = step([effect("a", "STUCK", 1), effect("b", "UNKNOWN", 2), effect("c", "CONFIRMED", 3)])
    assert stuck == Step(status=R.STUCK, reason="effect a is STUCK: why")
    stuck = step([effect("a", "CONFIRMED", 1), effect("b", "CONFIRMED", 2)], [debt("b", "STUCK")])
    assert stuck == Step(status=R.STUCK, reason="obligation o-b of effect b is STUCK: refused")


def test_what_is_not_sent_yet_is_cancelled_even_while_something_else_is_stuck() -> None:
    assert step([effect("a", "STUCK"), effect("b", "PENDING")]).cancel == ("b",)


@pytest.mark.parametrize("status", ["CANCELLING", "CANCELLED"])
def test_a_run_that_is_cancelled_undoes_nothing(status: str) -> None:
    confirmed = effect("a", "CONFIRMED")
    assert step([confirmed, effect("b", "PENDING")], status=status) == Step(status=R.CANCELLING, cancel=("b",))
    for moving in ("DISPATCHING", "UNKNOWN"):
        assert step([confirmed, effect("b", moving)], status=status) == Step(status=R.CANCELLING)
    assert step([confirmed, effect("b", "STUCK")], status=status) == Step(status=R.CANCELLED)


def test_every_state_of_every_pair_has_a_step_that_ends_or_waits_for_something() -> None:
    """No pair of states leaves a run with nothing to do and nothing to wait for before it is over."""
    for one, other in itertools.product(S, S):
        made = step([effect("a", one, 1), effect("b", other, 2)])
        moving = {one, other} & {S.DISPATCHING, S.UNKNOWN}
        assert made.cancel or made.owe or made.status is not R.COMPENSATING or moving


def test_newest_first_is_by_the_time_of_recording() -> None:
    listed = [effect("z", "CONFIRMED", 1), effect("a", "CONFIRMED", 3), effect("b", "CONFIRMED", 3)]
    assert [found.effect_key for found in newest_first(listed)] == ["b", "a", "z"]
