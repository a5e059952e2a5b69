"""The oracle tells a broken build from a sound one, and soon."""

from itertools import islice

import pytest

from tests.simulation.breaks import BUILDS
from tests.simulation.scenario import play
from tests.simulation.themes import seeds_about

SOON = 400
"""Seeds."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BUILDS)
def test_a_broken_build_is_caught(name: str) -> None:
    seeds = list(islice(seeds_about(BUILDS[name].theme), SOON))
    with pytest.MonkeyPatch.context() as patch:
        BUILDS[name].install(patch)
        caught = next((played for played in map(play, seeds) if played.failures), None)
    assert caught is not None, f"{SOON} seeds, and nothing told that {name}"
    number = seeds.index(caught.seed) + 1
    print(f"{name}: seed {caught.seed}, the {number}. about {BUILDS[name].theme}: {caught.failures[0]}")
    assert play(caught.seed).failures == [], "the sound build fails too"
