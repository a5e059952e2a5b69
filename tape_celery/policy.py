"""The arithmetic of time, and the terms under which one connector's effects are decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_MARGIN_MS = 5_000


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the deciding functions must know of a connector and the settings. Milliseconds throughout.

    They are journaled with each decision, so that a replay decides the same.
    """

    settle_ms: int = 30_000
    """How long after the end of an attempt an `absent` is not believed: max(settle_seconds, total_seconds)."""
    window_ms: int = 86_400_000
    """How long the upstream remembers an idempotency key."""
    lease_ms: int = 30_000
    """How long after its claim a call may still be sent."""
    observe_attempts: int = 10
    watch_ms: tuple[int, ...] = (3_600_000, 86_400_000)
    can_compensate: bool = False
    """Whether an inverse exists, at the connector or at the decorated effect."""
    compensation_idempotent: bool = False
    """Whether the inverse may be sent again under the same key, inside the window."""


def backoff_ms(tries: int, *, base_seconds: float, cap_seconds: float, jitter: float) -> int:
    """How long to wait after the ``tries``-th try: ``min(cap, base * 2**(tries - 1)) * (0.5 + jitter / 2)``.

    ``jitter`` is a random number from 0 to 1, handed in so that the function stays pure.
    """
    exponent = min(max(tries - 1, 0), 30)
    return int(min(cap_seconds, base_seconds * 2.0**exponent) * 1000 * (0.5 + jitter / 2))


def margin_ms(lease_ms: int) -> int:
    """The part at the end of a lease in which nothing is started: a third of it, 5 s at most."""
    return min(lease_ms // 3, LARGEST_MARGIN_MS)
