"""Every transition that the contract's tables know, as the journal tells it: table, kind of entry, from, to.

A run of the model must reach each of them, and no other.
"""

from __future__ import annotations

from tape_celery.records import EffectStatus

Transition = tuple[str, str, str, str]


def _edges(table: str, listed: dict[str, str]) -> set[Transition]:
    found: set[Transition] = set()
    for kind, edges in listed.items():
        for edge in edges.split(","):
            before, after = edge.split(">")
            found.add((table, kind, before.strip(), after.strip()))
    return found


EFFECT_TRANSITIONS = _edges(
    "effect",
    {
        "recorded": ">PENDING, >HELD",
        # A person says that it is meant: PENDING. Its expiry has passed meanwhile: CANCELLED.
        "released": "HELD>PENDING, HELD>CANCELLED",
        "reissued": "FAILED>FAILED, CANCELLED>CANCELLED",
        "claimed": "PENDING>DISPATCHING",
        "look": "UNKNOWN>UNKNOWN, FAILED>FAILED, CANCELLED>CANCELLED",
        "confirmed": "DISPATCHING>CONFIRMED",
        # Definitely not landed: PENDING. It is to stop: CANCELLED; an earlier attempt may have landed: UNKNOWN.
        "unsent": "DISPATCHING>PENDING, DISPATCHING>CANCELLED, DISPATCHING>UNKNOWN",
        "retry": "DISPATCHING>PENDING, DISPATCHING>CANCELLED, DISPATCHING>UNKNOWN",
        "unknown": "DISPATCHING>UNKNOWN",
        "failed": "DISPATCHING>FAILED",
        "withheld": "DISPATCHING>UNKNOWN",
        "lapsed": "DISPATCHING>PENDING, DISPATCHING>UNKNOWN, DISPATCHING>CONFIRMED",
        "observed": "UNKNOWN>CONFIRMED, UNKNOWN>FAILED, UNKNOWN>PENDING, UNKNOWN>UNKNOWN, UNKNOWN>STUCK,"
        "UNKNOWN>CANCELLED",
        "unobservable": "UNKNOWN>PENDING, UNKNOWN>STUCK, FAILED>FAILED, CANCELLED>CANCELLED",
        "watched": "FAILED>FAILED, FAILED>STUCK, CANCELLED>CANCELLED, CANCELLED>STUCK",
        "cancelled": "HELD>CANCELLED, PENDING>CANCELLED, PENDING>UNKNOWN",
        "expired": "HELD>CANCELLED, PENDING>CANCELLED, PENDING>UNKNOWN",
        "cancel requested": "DISPATCHING>DISPATCHING, UNKNOWN>UNKNOWN",
        "resolved": "UNKNOWN>CONFIRMED, UNKNOWN>FAILED, UNKNOWN>UNKNOWN, STUCK>CONFIRMED, STUCK>FAILED, STUCK>UNKNOWN",
        "owed": "CONFIRMED>CONFIRMED",
        "late": "PENDING>PENDING, DISPATCHING>DISPATCHING, CONFIRMED>CONFIRMED, FAILED>FAILED, UNKNOWN>UNKNOWN,"
        "STUCK>STUCK, CANCELLED>CANCELLED,"
        # Late `confirmed`, and what contradicts it.
        "PENDING>CONFIRMED, UNKNOWN>CONFIRMED, STUCK>CONFIRMED, FAILED>STUCK, CANCELLED>STUCK,"
        # From the last call on UNKNOWN, as if it had come in time.
        "UNKNOWN>PENDING, UNKNOWN>FAILED, UNKNOWN>CANCELLED",
    },
)
OBLIGATION_TRANSITIONS = _edges(
    "obligation",
    {
        "recorded": ">PENDING, >STUCK",
        "claimed": "PENDING>COMPENSATING",
        "look": "UNKNOWN>UNKNOWN",
        "compensated": "COMPENSATING>COMPENSATED",
        "unsent": "COMPENSATING>PENDING",
        "retry": "COMPENSATING>PENDING",
        "unknown": "COMPENSATING>UNKNOWN",
        "failed": "COMPENSATING>STUCK",
        "withheld": "COMPENSATING>UNKNOWN, COMPENSATING>COMPENSATED",
        "lapsed": "COMPENSATING>UNKNOWN, COMPENSATING>COMPENSATED",
        "observed": "UNKNOWN>COMPENSATED, UNKNOWN>UNKNOWN, UNKNOWN>STUCK, UNKNOWN>PENDING",
        "unobservable": "UNKNOWN>PENDING, UNKNOWN>STUCK",
        "resolved": "UNKNOWN>COMPENSATED, UNKNOWN>PENDING, UNKNOWN>UNKNOWN,"
        "STUCK>COMPENSATED, STUCK>PENDING, STUCK>UNKNOWN",
        "late": "PENDING>PENDING, COMPENSATING>COMPENSATING, UNKNOWN>UNKNOWN, STUCK>STUCK, COMPENSATED>COMPENSATED,"
        "PENDING>COMPENSATED, UNKNOWN>COMPENSATED, STUCK>COMPENSATED, UNKNOWN>PENDING, UNKNOWN>STUCK",
    },
)
TRANSITIONS = EFFECT_TRANSITIONS | OBLIGATION_TRANSITIONS

NOT_PLAYED = _edges("effect", {"shared": ", ".join(f"{status}>{status}" for status in EffectStatus)})
"""What the model does not do; `tests/runs` does."""
