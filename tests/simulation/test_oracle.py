"""The oracle tells a broken build from a sound one, and soon."""

import pytest

from tests.simulation.breaks import BREAKS
from tests.simulation.scenario import Played, play

SOON = 200
"""Seeds."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_build_is_caught(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        BREAKS[name](patch)
        caught = next((played for played in map(play, range(SOON)) if played.failures), None)
    assert caught is not None, f"{SOON} seeds, and nobody saw that {name}"
    print(f"{name}: seed {caught.seed}: {caught.failures[0]}")
    sound: Played = play(caught.seed)
    assert sound.failures == []
