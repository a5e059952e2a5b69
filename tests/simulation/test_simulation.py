"""Fixed seeds and fresh ones: whatever goes wrong in them, no effect is done twice, and none is lost."""

import pytest

from tests.simulation.scenario import play

FIXED = 18_000
"""With the fresh ones 20,000."""
FRESH = 2_000
BLOCK = 500


@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", range(0, FIXED, BLOCK))
def test_fixed_seeds_break_nothing(start: int) -> None:
    _play_all(range(start, start + BLOCK))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", range(FRESH // BLOCK))
def test_fresh_seeds_break_nothing(block: int, seed: int) -> None:
    start = (seed << 20) + block * BLOCK
    print(f"seeds {start} to {start + BLOCK - 1}")
    _play_all(range(start, start + BLOCK))


def _play_all(seeds: range) -> None:
    failed = [played for played in map(play, seeds) if played.failures]
    for played in failed:
        print(f"python -m tests.simulation {played.seed}    # {played.failures[0]}")
    assert not failed
