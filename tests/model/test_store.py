"""Whatever happens in whatever order, the store does what the contract says; and everything in the contract happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tape_celery.records import Semantics
from tests.model.arena import Arena
from tests.model.machine import Begun, StoreMachine
from tests.model.profiles import NIGHTLY, STEPS, profile
from tests.model.terms import EXPIRY_MS
from tests.model.transitions import TRANSITIONS
from tests.model.ways import WAYS

EXAMPLES = 300
NIGHTLY_EXAMPLES = 5_000
POSTGRES_EXAMPLES = 15


def walk_every_way(arena: Arena) -> None:
    """Each of the ways on which examples begin, once for each kind of effect: so that none depends on chance."""
    for way in WAYS:
        for semantics in Semantics:
            walked = StoreMachine(arena)
            facts = {"connector": "bank", "business_key": "order-1", "expires_in_ms": EXPIRY_MS, "max_attempts": 2}
            walked.come(Begun(way=way, semantics=semantics, **facts))
            walked.audit_finds_nothing()
            walked.journals_replay_to_their_rows()
            walked.the_contract_holds()


@pytest.mark.timeout(0 if NIGHTLY else 600)
def test_any_order_on_sqlite(tmp_path: Path) -> None:
    """And every transition of the contract is reached, and no other."""
    with Arena(f"sqlite:///{tmp_path / 'tape.db'}", still=True) as arena:

        def machine() -> StoreMachine:
            return StoreMachine(arena)

        walk_every_way(arena)
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
