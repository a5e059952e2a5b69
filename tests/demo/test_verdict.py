"""The verdict sees what is wrong: a truthful world, corrupted in one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tape_celery.demo.ledger import BOOKED, REVERSED, Entry
from tape_celery.demo.orders import read_wires
from tape_celery.demo.verdict import Verdict, judge
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, Violation

WIRES = read_wires(limit=4)
PLAIN, TWICE, REFUSED, ABSENT = range(4)


def effect(number: int, status: EffectStatus, ref: str = "", *, absent: bool = False) -> Effect:
    return Effect(
        effect_key=f"effect-{number}",
        connector="bank.wire",
        status=status,
        idempotency_key=f"effect-{number}",
        business_key=WIRES[number].business_key,
        run_id="run",
        request_json="{}",
        request_digest="",
        external_ref=ref,
        absent=absent,
    )


def booking(number: int, ref: str) -> Entry:
    wire = WIRES[number]
    return Entry(
        ref=ref,
        kind=BOOKED,
        at="2026-11-23T12:00:00.000+00:00",
        idempotency_key=f"effect-{number}",
        business_key=wire.business_key,
        account=wire.creditor_account,
        amount=wire.amount,
        currency=wire.currency,
    )


def reversal(of: Entry, ref: str) -> Entry:
    return replace(of, ref=ref, kind=REVERSED, reverses=of.ref, idempotency_key=f"compensate:{of.ref}")


def obligation(ref: str) -> Obligation:
    return Obligation(
        obligation_key=f"obligation-{ref}",
        effect_key="effect-1",
        run_id="run",
        connector="bank.wire",
        kind="duplicate",
        external_ref=ref,
        payload_json="{}",
        status=ObligationStatus.COMPENSATED,
        idempotency_key=f"compensate:{ref}",
    )


@dataclass
class World:
    """One plain wire, one booked twice and reversed once, one refused, one that the bank does not have."""

    effects: list[Effect] = field(
        default_factory=lambda: [
            effect(PLAIN, EffectStatus.CONFIRMED, "BK1"),
            effect(TWICE, EffectStatus.CONFIRMED, "BK2"),
            effect(REFUSED, EffectStatus.FAILED),
            effect(ABSENT, EffectStatus.FAILED, absent=True),
        ]
    )
    ledger: list[Entry] = field(
        default_factory=lambda: [
            booking(PLAIN, "BK1"),
            booking(TWICE, "BK2"),
            booking(TWICE, "BK3"),
            reversal(booking(TWICE, "BK3"), "BK4"),
        ]
    )
    obligations: list[Obligation] = field(default_factory=lambda: [obligation("BK3")])
    violations: list[Violation] = field(default_factory=list)

    def judged(self) -> Verdict:
        return judge(
            wires=WIRES,
            effects=self.effects,
            ledger=self.ledger,
            obligations=self.obligations,
            violations=self.violations,
        )


def test_the_truth_holds() -> None:
    verdict = World().judged()
    assert verdict.problems == ()
    assert verdict.holds
    assert [row.wire for row in verdict.differing] == [WIRES[TWICE]]
    assert verdict.differing[0].standing == ("BK2",)
    assert len(verdict.with_status(EffectStatus.FAILED)) == 2


def unnoticed_double(world: World) -> None:
    world.ledger.pop()
    world.obligations.clear()


def owed_but_not_paid(world: World) -> None:
    world.ledger.pop()
    world.obligations[0] = replace(world.obligations[0], status=ObligationStatus.STUCK, reason="no inverse")


def paid_on_paper_only(world: World) -> None:
    world.ledger.pop()


def failed_but_booked(world: World) -> None:
    world.ledger.append(booking(ABSENT, "BK5"))


def confirmed_but_not_booked(world: World) -> None:
    del world.ledger[0]


def confirmed_under_another_reference(world: World) -> None:
    world.effects[PLAIN] = replace(world.effects[PLAIN], external_ref="BK77")


def confirmed_without_reference(world: World) -> None:
    world.effects[PLAIN] = replace(world.effects[PLAIN], external_ref="")


def the_wrong_one_reversed(world: World) -> None:
    world.ledger[-1] = reversal(booking(TWICE, "BK2"), "BK4")


def both_reversed(world: World) -> None:
    world.ledger.append(reversal(booking(TWICE, "BK2"), "BK5"))
    world.obligations.append(obligation("BK2"))


def reversed_but_not_owed(world: World) -> None:
    world.obligations.clear()


def reversed_twice(world: World) -> None:
    world.ledger.append(reversal(booking(TWICE, "BK3"), "BK5"))


def left_unknown(world: World) -> None:
    world.effects[PLAIN] = replace(world.effects[PLAIN], status=EffectStatus.UNKNOWN)


def left_pending(world: World) -> None:
    world.effects[REFUSED] = replace(world.effects[REFUSED], status=EffectStatus.PENDING)


def left_stuck(world: World) -> None:
    world.effects[ABSENT] = replace(world.effects[ABSENT], status=EffectStatus.STUCK, reason="nobody can look")


def lost_from_the_journal(world: World) -> None:
    del world.effects[REFUSED]


def two_effects_for_one_wire(world: World) -> None:
    world.effects.append(replace(world.effects[PLAIN], effect_key="effect-9"))


def booked_by_nobody(world: World) -> None:
    world.ledger.append(replace(booking(PLAIN, "BK5"), business_key="W-unheard-of"))


def recorded_by_nobody(world: World) -> None:
    world.effects.append(replace(world.effects[PLAIN], effect_key="effect-9", business_key="W-unheard-of"))


def another_amount(world: World) -> None:
    world.ledger[0] = replace(world.ledger[0], amount="1000000.00")


def another_account(world: World) -> None:
    world.ledger[0] = replace(world.ledger[0], account="DE02120300000000202051")


def audit_not_empty(world: World) -> None:
    world.violations.append(Violation(invariant="one-live-effect", key="effect-1", detail="two hold the same key"))


@pytest.mark.parametrize(
    ("corrupt", "said"),
    [
        (unnoticed_double, "booked 2 times"),
        (owed_but_not_paid, "owed and STUCK (no inverse)"),
        (paid_on_paper_only, "not at the bank"),
        (failed_but_booked, "FAILED, but booked as BK5"),
        (confirmed_but_not_booked, "CONFIRMED, but not booked"),
        (confirmed_under_another_reference, "CONFIRMED as BK77, but booked as BK1"),
        (confirmed_without_reference, "CONFIRMED as (no reference)"),
        (the_wrong_one_reversed, "CONFIRMED as BK2, but booked as BK3"),
        (both_reversed, "not booked any more"),
        (reversed_but_not_owed, "nobody owed it"),
        (reversed_twice, "reversed 2 times"),
        (left_unknown, "left unsettled: UNKNOWN"),
        (left_pending, "left unsettled: PENDING"),
        (left_stuck, "left unsettled: STUCK (nobody can look)"),
        (lost_from_the_journal, "not in the journal"),
        (two_effects_for_one_wire, "2 effects for one wire"),
        (booked_by_nobody, "W-unheard-of: booked"),
        (recorded_by_nobody, "W-unheard-of: in the journal"),
        (another_amount, "not what was asked"),
        (another_account, "not what was asked"),
        (audit_not_empty, "audit: one-live-effect"),
    ],
)
def test_a_lie_is_seen(corrupt: Callable[[World], None], said: str) -> None:
    world = World()
    corrupt(world)
    verdict = world.judged()
    assert not verdict.holds
    assert any(said in problem for problem in verdict.problems), verdict.problems


def test_rows_with_problems_are_shown() -> None:
    world = World()
    left_unknown(world)
    assert WIRES[PLAIN] in [row.wire for row in world.judged().differing]
