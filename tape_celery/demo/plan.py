"""What the bank does to each wire: drawn from a seed before anything starts, so that timing changes nothing. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Script(StrEnum):
    """How the bank answers ``POST /wires`` for one wire."""

    GOOD = "good"
    LOSES_ANSWER = "books, loses the answer"
    ERROR_AFTER = "books, answers 500"
    ERROR_BEFORE = "answers 500, books nothing"
    SLOW = "books, answers too late"
    BOOKS_LATE = "books after the timeout"
    TWICE = "books twice, loses the answer"
    REFUSES = "refuses (422)"
    BUSY = "busy at first (429)"
    UNAVAILABLE = "unavailable (503), books nothing"


class Reversal(StrEnum):
    """How the bank answers the first ``POST /wires/reverse`` for one wire."""

    GOOD = "good"
    LOSES_ANSWER = "reverses, loses the answer"
    BUSY = "busy at first (429)"
    UNAVAILABLE = "unavailable (503) at first"


@dataclass(frozen=True, kw_only=True)
class Misbehaviour:
    """All that the bank does to one wire."""

    script: Script = Script.GOOD
    reversal: Reversal = Reversal.GOOD
    lookup_fails_once: bool = False


SHARES = {
    Script.LOSES_ANSWER: 0.06,
    Script.ERROR_AFTER: 0.05,
    Script.ERROR_BEFORE: 0.04,
    Script.SLOW: 0.03,
    Script.BOOKS_LATE: 0.03,
    Script.TWICE: 0.04,
    Script.REFUSES: 0.03,
    Script.BUSY: 0.03,
    Script.UNAVAILABLE: 0.02,
}
"""The part of the wires that gets each script, one wire at least; the rest goes well."""


def draw_plan(seed: int, business_keys: Sequence[str]) -> dict[str, Misbehaviour]:
    """What happens to each of ``business_keys``, in their order; the same for the same seed and keys.

    One wire in the middle third is always SLOW: it is in flight long enough for a worker to be killed under it.
    """
    draw = random.Random(f"{seed}:{len(business_keys)}")  # noqa: S311 - a plan that can be replayed, not a secret
    count = len(business_keys)
    middle = business_keys[draw.randrange(count // 3, max(2 * count // 3, count // 3 + 1))]
    others = [key for key in business_keys if key != middle]
    draw.shuffle(others)
    scripts = {middle: Script.SLOW}
    for script, share in SHARES.items():
        for _ in range(max(1, round(share * count)) - (script is Script.SLOW)):
            if others:
                scripts[others.pop()] = script
    reversals = list(Reversal)
    draw.shuffle(reversals)
    plan = {}
    for key in business_keys:
        script = scripts.get(key, Script.GOOD)
        reversal = Reversal.GOOD
        if script is Script.TWICE:
            reversal = reversals[0]
            reversals.append(reversals.pop(0))
        plan[key] = Misbehaviour(script=script, reversal=reversal, lookup_fails_once=draw.random() < 0.1)
    return plan
