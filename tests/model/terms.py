"""The world of the model: three connectors with their terms, three workers with what they know, short spans of time."""

from __future__ import annotations

from tape_celery.intent import digest_of
from tape_celery.policy import Terms
from tape_celery.store.claims import Reach

LEASE_MS = 10_000
SETTLE_MS = 15_000
BACKOFF_MS = 4_000
RETRY_MS = 7_000
EXPIRY_MS = 40_000
WINDOW_MS = 60_000
WATCH_MS = (50_000, 120_000)
DELAY_MS = 3_000
HOLD_MS = 30_000
ALIKE = digest_of("alike")
"""All effects of the model look alike; only what is recorded with a rule is compared."""

_TERMS = Terms(settle_ms=SETTLE_MS, window_ms=WINDOW_MS, lease_ms=LEASE_MS, observe_attempts=2, watch_ms=WATCH_MS)
TERMS = {
    "bank": Terms(**{**_TERMS.__dict__, "can_compensate": True}),
    "shop": Terms(**{**_TERMS.__dict__, "can_compensate": True, "compensation_idempotent": True}),
    "post": _TERMS,
}
"""By connector: the last has no inverse."""
CONNECTORS = tuple(TERMS)
EVERYTHING = Reach(dict.fromkeys(CONNECTORS, LEASE_MS))
WORKERS = {
    "worker-1": EVERYTHING,
    "worker-2": Reach({"bank": LEASE_MS, "shop": 2 * LEASE_MS}),
    "worker-3": EVERYTHING,
}
"""Of the three one does not know all connectors, and takes one of them for longer."""
