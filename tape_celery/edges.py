"""Every edge of the two transition tables, by the journal entry that records it.

A store is audited against them: an entry that is not listed was not written by this code.
"""

from __future__ import annotations

from tape_celery.records import EffectStatus

Edge = tuple[str, str, str]
"""Kind of entry, status before, status after."""


def _edges(listed: dict[str, str]) -> frozenset[Edge]:
    """``{"claimed": "PENDING>DISPATCHING"}`` as edges; several of one kind stand apart by spaces."""
    return frozenset(
        (kind, before, after)
        for kind, several in listed.items()
        for before, _, after in (one.partition(">") for one in several.split())
    )


EFFECT_EDGES = _edges(
    {
        "recorded": ">PENDING >HELD",
        "released": "HELD>PENDING HELD>CANCELLED",
        "claimed": "PENDING>DISPATCHING",
        "look": "UNKNOWN>UNKNOWN FAILED>FAILED CANCELLED>CANCELLED",
        "confirmed": "DISPATCHING>CONFIRMED",
        "unsent": "DISPATCHING>PENDING DISPATCHING>CANCELLED DISPATCHING>UNKNOWN",
        "retry": "DISPATCHING>PENDING DISPATCHING>CANCELLED DISPATCHING>UNKNOWN",
        "unknown": "DISPATCHING>UNKNOWN",
        "failed": "DISPATCHING>FAILED",
        "withheld": "DISPATCHING>UNKNOWN",
        "lapsed": "DISPATCHING>PENDING DISPATCHING>UNKNOWN DISPATCHING>CONFIRMED",
        "observed": "UNKNOWN>CONFIRMED UNKNOWN>FAILED UNKNOWN>PENDING UNKNOWN>UNKNOWN UNKNOWN>STUCK UNKNOWN>CANCELLED",
        "unobservable": "UNKNOWN>PENDING UNKNOWN>STUCK FAILED>FAILED CANCELLED>CANCELLED",
        "watched": "FAILED>FAILED FAILED>STUCK CANCELLED>CANCELLED CANCELLED>STUCK",
        "cancelled": "PENDING>CANCELLED PENDING>UNKNOWN HELD>CANCELLED",
        "expired": "PENDING>CANCELLED PENDING>UNKNOWN HELD>CANCELLED",
        "cancel requested": "DISPATCHING>DISPATCHING UNKNOWN>UNKNOWN",
        "resolved": ("UNKNOWN>CONFIRMED UNKNOWN>FAILED UNKNOWN>UNKNOWN STUCK>CONFIRMED STUCK>FAILED STUCK>UNKNOWN"),
        "owed": "CONFIRMED>CONFIRMED",
        "reissued": "FAILED>FAILED CANCELLED>CANCELLED",
        "shared": " ".join(f"{status}>{status}" for status in EffectStatus),
        "late": (
            "PENDING>PENDING DISPATCHING>DISPATCHING CONFIRMED>CONFIRMED FAILED>FAILED UNKNOWN>UNKNOWN STUCK>STUCK "
            "CANCELLED>CANCELLED PENDING>CONFIRMED UNKNOWN>CONFIRMED STUCK>CONFIRMED FAILED>STUCK CANCELLED>STUCK "
            "UNKNOWN>PENDING UNKNOWN>FAILED UNKNOWN>CANCELLED"
        ),
    }
)
OBLIGATION_EDGES = _edges(
    {
        "recorded": ">PENDING >STUCK",
        "claimed": "PENDING>COMPENSATING",
        "look": "UNKNOWN>UNKNOWN",
        "compensated": "COMPENSATING>COMPENSATED",
        "unsent": "COMPENSATING>PENDING",
        "retry": "COMPENSATING>PENDING",
        "unknown": "COMPENSATING>UNKNOWN",
        "failed": "COMPENSATING>STUCK",
        "withheld": "COMPENSATING>UNKNOWN COMPENSATING>COMPENSATED",
        "lapsed": "COMPENSATING>UNKNOWN COMPENSATING>COMPENSATED",
        "observed": "UNKNOWN>COMPENSATED UNKNOWN>UNKNOWN UNKNOWN>STUCK UNKNOWN>PENDING",
        "unobservable": "UNKNOWN>PENDING UNKNOWN>STUCK",
        "resolved": (
            "UNKNOWN>COMPENSATED UNKNOWN>PENDING UNKNOWN>UNKNOWN STUCK>COMPENSATED STUCK>PENDING STUCK>UNKNOWN"
        ),
        "late": (
            "PENDING>PENDING COMPENSATING>COMPENSATING UNKNOWN>UNKNOWN STUCK>STUCK COMPENSATED>COMPENSATED "
            "PENDING>COMPENSATED UNKNOWN>COMPENSATED STUCK>COMPENSATED UNKNOWN>PENDING UNKNOWN>STUCK"
        ),
    }
)
