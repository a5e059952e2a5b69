"""A seed is all there is to know: played again, in this process or another, it gives the same events."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.scenario import play

SEEDS = range(40)
ROOT = Path(__file__).parents[2]
PRINTING = """
import logging
from tests.simulation import seams
from tests.simulation.scenario import play
logging.disable(logging.CRITICAL)
with seams.installed():
    print(*(play(seed).digest for seed in range({first}, {last})))
"""


def test_a_seed_played_twice_is_the_same() -> None:
    assert [play(seed).digest for seed in SEEDS] == [play(seed).digest for seed in SEEDS]


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_a_seed_is_the_same_in_every_process(hash_seed: str) -> None:
    code = PRINTING.format(first=SEEDS.start, last=SEEDS.stop)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == [play(seed).digest for seed in SEEDS]


def test_a_seed_can_be_told() -> None:
    told = subprocess.run([sys.executable, "-m", "tests.simulation", "7"], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "dispatch.claimed" in told.stdout
    assert "journal " in told.stdout
    assert play(7).digest in told.stdout
