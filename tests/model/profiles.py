"""How much of the model is run: a fixed part with every change, much more with ``HYPOTHESIS_PROFILE=nightly``."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
STEPS = 50

_COMMON: dict[str, Any] = {
    "stateful_step_count": STEPS,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": NIGHTLY,
}


def profile(*, examples: int, nightly: int) -> settings:
    """``examples`` that are the same in every run; at night that many random ones, and what failed is kept."""
    if NIGHTLY:
        return settings(**_COMMON, max_examples=nightly)
    # What Hypothesis targets it finds again and again: with few examples that leaves the other places out.
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    return settings(**_COMMON, max_examples=examples, derandomize=True, database=None, phases=phases)
