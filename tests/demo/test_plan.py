"""The plan of misbehaviour: drawn from the seed alone, and never without what the demo is about."""

from __future__ import annotations

from collections import Counter

import pytest

from tape_celery.demo.bank import read_plan, write_plan
from tape_celery.demo.orders import FEWEST_WIRES, MOST_WIRES
from tape_celery.demo.plan import SHARES, Reversal, Script, draw_plan


def keys(count: int) -> list[str]:
    return [f"W-{number}" for number in range(count)]


def test_same_seed_same_plan() -> None:
    assert draw_plan(7, keys(300)) == draw_plan(7, keys(300))
    assert draw_plan(7, keys(300)) != draw_plan(8, keys(300))


@pytest.mark.parametrize("count", [FEWEST_WIRES, 40, MOST_WIRES])
@pytest.mark.parametrize("seed", range(20))
def test_every_script_is_played_and_most_wires_go_well(count: int, seed: int) -> None:
    scripts = Counter(what.script for what in draw_plan(seed, keys(count)).values())
    assert set(scripts) == set(Script)
    assert scripts[Script.GOOD] >= count / 2
    assert scripts.total() == count
    if count == MOST_WIRES:
        for script, share in SHARES.items():
            assert scripts[script] == round(share * count)


@pytest.mark.parametrize("seed", range(20))
def test_a_slow_wire_is_in_the_middle_third(seed: int) -> None:
    plan = draw_plan(seed, keys(60))
    assert any(plan[key].script is Script.SLOW for key in keys(60)[20:40])


def test_all_ways_of_a_reversal_are_played() -> None:
    plan = draw_plan(3, keys(MOST_WIRES))
    assert {what.reversal for what in plan.values() if what.script is Script.TWICE} == set(Reversal)


def test_a_plan_survives_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    plan = draw_plan(5, keys(50))
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
