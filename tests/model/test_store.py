"""Whatever happens in whatever order, the store does what the contract says; and everything in the contract happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.model.arena import Arena
from tests.model.machine import StoreMachine
from tests.model.profiles import NIGHTLY, STEPS, profile
from tests.model.transitions import TRANSITIONS

EXAMPLES = 250
NIGHTLY_EXAMPLES = 5_000
POSTGRES_EXAMPLES = 15


@pytest.mark.timeout(0 if NIGHTLY else 600)
def test_any_order_on_sqlite(tmp_path: Path) -> None:
    """And every transition of the contract is reached, and no other."""
    with Arena(f"sqlite:///{tmp_path / 'tape.db'}", still=True) as arena:

        def machine() -> StoreMachine:
            return StoreMachine(arena)

        run_state_machine_as_test(machine, settings=profile(examples=EXAMPLES, nightly=NIGHTLY_EXAMPLES))
        reached = set(arena.reached)
        print(f"{arena.examples} examples of {STEPS} steps, {arena.steps} acts; transitions: {len(reached)}")
        rarest = sorted((count, transition) for transition, count in arena.reached.items())[:10]
        print("the rarest:", *rarest, sep="\n  ")
    assert not sorted(TRANSITIONS - reached), "these were never reached"
    assert not sorted(reached - TRANSITIONS), "the contract knows nothing of these"


@pytest.mark.timeout(0 if NIGHTLY else 600)
def test_any_order_on_postgresql(postgres_url: str) -> None:
    """With the clock of a server, and others that really get in between the read and the write."""
    with Arena(postgres_url, still=False) as arena:

        def machine() -> StoreMachine:
            return StoreMachine(arena)

        run_state_machine_as_test(machine, settings=profile(examples=POSTGRES_EXAMPLES, nightly=500))
        print(f"{arena.examples} examples of {STEPS} steps, {arena.steps} acts")
        assert not sorted(set(arena.reached) - TRANSITIONS), "the contract knows nothing of these"
