"""Lists of effects: what they hold is what the filters say, newest first, however they are put together."""

from __future__ import annotations

import random
from itertools import product

from tape_celery.records import EffectStatus
from tape_celery.store import inspection, listing
from tape_celery.store.database import Database
from tests.store.steps import S as Status
from tests.store.steps import in_state


def test_every_combination_of_filters_finds_what_matches_it(database: Database, rng: random.Random) -> None:
    """As picked by hand from a list of all; a run that is named after an effect of it among them, and keys let go."""
    runs, keys, connectors = ["", "run-1", "run-2"], ["", "b-1", "b-2"], ["bank.wire", "mail"]
    first = in_state(database, Status.CONFIRMED)
    runs.append(first.effect_key)
    taken = set()
    for _ in range(40):
        status, connector = rng.choice([Status.PENDING, Status.CANCELLED]), rng.choice(connectors)
        given = {"connector": connector, "business_key": rng.choice(keys)}
        if run := rng.choice(runs):
            given["run_id"] = run
        if (connector, given["business_key"]) in taken:
            given["business_key"] = ""
        effect = in_state(database, status, **given)
        if effect.status is Status.PENDING and effect.business_key:
            taken.add((connector, effect.business_key))
    everything = inspection.list_effects(database, limit=1000)
    assert len(everything) == 41
    assert [effect.effect_key for effect in everything] == sorted((e.effect_key for e in everything), reverse=True)
    asked = product(
        [None, Status.PENDING, Status.CANCELLED, Status.STUCK],
        [None, *connectors, "nobody"],
        [None, *runs, "no run"],
        [None, *keys, "b-3"],
    )
    for status, connector, run_id, business_key in asked:
        wanted = {"status": status, "connector": connector, "run_id": run_id, "business_key": business_key}
        filters = {name: value for name, value in wanted.items() if value is not None}
        matching = [e for e in everything if all(getattr(e, name) == value for name, value in filters.items())]
        for limit in (3, 1000):
            assert inspection.list_effects(database, limit=limit, **filters) == matching[:limit], filters


def test_a_list_of_a_state_holds_the_newest_of_more_connectors_than_one_statement_reads(database: Database) -> None:
    """However many there are."""
    recorded = [
        in_state(database, Status.PENDING, connector=f"c-{number}").effect_key for number in range(listing.AT_ONCE + 10)
    ]
    found = inspection.list_effects(database, status=EffectStatus.PENDING, limit=5)
    assert [effect.effect_key for effect in found] == sorted(recorded, reverse=True)[:5]
    last = inspection.list_effects(database, status=EffectStatus.PENDING, limit=1000)
    assert [effect.effect_key for effect in last] == sorted(recorded, reverse=True)
