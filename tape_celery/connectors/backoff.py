"""When a connector asks for another attempt, where the upstream does not say."""

from __future__ import annotations

import random

from tape_celery.policy import backoff_ms

BASE_SECONDS = 1.0
CAP_SECONDS = 60.0


def jittered_ms(attempt: int) -> int:
    """How long to wait after the ``attempt``-th attempt, in milliseconds: doubling, and spread at random."""
    jitter = random.random()  # noqa: S311 - it guards nothing
    return backoff_ms(attempt, base_seconds=BASE_SECONDS, cap_seconds=CAP_SECONDS, jitter=jitter)
