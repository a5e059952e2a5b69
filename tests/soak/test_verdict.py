"""The verdict can fail: each way in which ledger and rows may differ is an error, and what is right is none."""

from __future__ import annotations

from typing import Any

import pytest

from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, Semantics
from tests.soak.gauges import Sample, trend_of
from tests.soak.report import longest_unknown_seconds
from tests.soak.verdict import Asked, Book, judge

ASKED = Asked(frozenset({"e"}))


def effect(status: str = "CONFIRMED", **more: Any) -> Effect:
    known = {"effect_key": "e", "connector": "wire", "idempotency_key": "i", "run_id": "r", "request_json": "{}"}
    ref = {"external_ref": "ref-1"} if status == "CONFIRMED" else {}
    return Effect(**{**known, "request_digest": "d", "status": EffectStatus(status), **ref, **more})


def owed(ref: str, status: str = "COMPENSATED") -> Obligation:
    return Obligation(
        obligation_key=f"o-{ref}",
        effect_key="e",
        run_id="r",
        connector="wire",
        kind="duplicate",
        external_ref=ref,
        payload_json="{}",
        status=ObligationStatus(status),
        idempotency_key=f"compensate:o-{ref}",
    )


def booked(*refs: str, key: str = "e") -> list[dict[str, Any]]:
    return [{"event": "booked", "key": key, "ref": ref} for ref in refs]


def reversed_(*refs: str) -> list[dict[str, Any]]:
    return [{"event": "reversed", "key": "e", "ref": ref} for ref in refs]


def called(*tokens: int) -> list[dict[str, Any]]:
    return [{"event": "called", "key": "e", "token": token} for token in tokens]


CONTRADICTION = {"reason": "contradiction: reported as landed after it had ended FAILED", "ended_at_ms": 1}
RIGHT = {
    "booked once": ([effect()], [], [*called(1), *booked("ref-1")]),
    "booked twice, one taken back": ([effect()], [owed("ref-2")], [*booked("ref-1", "ref-2"), *reversed_("ref-2")]),
    "taken back whole": ([effect()], [owed("ref-1")], [*booked("ref-1"), *reversed_("ref-1")]),
    "an extra one left to people": ([effect()], [owed("ref-2", "STUCK")], booked("ref-1", "ref-2")),
    "failed, not booked": ([effect("FAILED")], [], called(1)),
    "a contradiction that is told": ([effect("STUCK", **CONTRADICTION)], [], booked("ref-1")),
    "stuck, for nobody can look": (
        [effect("STUCK", connector="blind-wire", reason="nothing can observe it")],
        [],
        booked("ref-1"),
    ),
}
WRONG = {
    "lost": ([], [], []),
    "confirmed, not booked": ([effect()], [], []),
    "booked twice": ([effect()], [], booked("ref-1", "ref-2")),
    "booked under another reference": ([effect()], [], booked("ref-2")),
    "failed, but booked": ([effect("FAILED")], [], booked("ref-1")),
    "cancelled, but booked": ([effect("CANCELLED")], [], booked("ref-1")),
    "unsettled": ([effect("UNKNOWN")], [], []),
    "stuck without need": ([effect("STUCK", reason="no answer after 10 looks")], [], booked("ref-1")),
    "a contradiction without a landing": ([effect("STUCK", **CONTRADICTION)], [], []),
    "called twice under one token": ([effect()], [], [*called(1, 1), *booked("ref-1")]),
    "deduplicated, and booked twice": (
        [effect(semantics=Semantics.IDEMPOTENT)],
        [owed("ref-2")],
        [*booked("ref-1", "ref-2"), *reversed_("ref-2")],
    ),
    "an extra one not taken back": ([effect()], [owed("ref-2")], booked("ref-1", "ref-2")),
    "taken back twice": ([effect()], [owed("ref-1")], [*booked("ref-1"), *reversed_("ref-1", "ref-1")]),
    "taken back unasked": ([effect()], [], [*booked("ref-1"), *reversed_("ref-1")]),
    "a reversal left undone": ([effect()], [owed("ref-2", "PENDING")], booked("ref-1", "ref-2")),
    "booked for nobody": ([effect()], [], [*booked("ref-1"), *booked("ref-9", key="nobody")]),
    "a look that booked": ([effect(semantics=Semantics.OBSERVE_ONLY)], [], booked("ref-1")),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_is_no_error(case: str) -> None:
    effects, obligations, lines = RIGHT[case]
    assert judge(ASKED, effects, obligations, Book(lines)).errors == []


@pytest.mark.parametrize("case", WRONG)
def test_every_difference_is_an_error(case: str) -> None:
    effects, obligations, lines = WRONG[case]
    assert judge(ASKED, effects, obligations, Book(lines)).errors


def test_what_was_refused_must_not_be_there() -> None:
    refused = Asked(frozenset(), frozenset({"e"}))
    assert judge(refused, [effect()], [], Book(booked("ref-1"))).errors
    assert judge(refused, [], [], Book([])).errors == []


@pytest.mark.parametrize(
    ("bytes_a_second", "handles_a_second", "flat"), [(0, 0, True), (10**6, 0, False), (0, 1, False)]
)
def test_what_grows_is_not_flat(bytes_a_second: int, handles_a_second: int, flat: bool) -> None:
    samples = [Sample(at, 10**8 + bytes_a_second * at, 20 + handles_a_second * at) for at in range(200)]
    trend = trend_of("worker", samples)
    assert trend is not None
    assert trend.is_flat == flat
    assert trend_of("worker", samples[:50]) is None, "too short a life to tell"


def test_the_longest_unknown_is_read_off_the_journal() -> None:
    class Entry:
        def __init__(self, key: str, status: str, at_ms: int) -> None:
            self.key, self.status, self.at_ms = key, status, at_ms

    told = [("a", "PENDING", 0), ("a", "UNKNOWN", 10), ("a", "UNKNOWN", 500), ("a", "CONFIRMED", 2010)]
    entries = [Entry(*each) for each in [*told, ("b", "UNKNOWN", 0), ("b", "PENDING", 900), ("b", "CONFIRMED", 9000)]]
    assert longest_unknown_seconds(entries) == 2.0
