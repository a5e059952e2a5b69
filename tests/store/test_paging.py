"""Pages of the list of effects: together they are the list, whatever the filters are, in both directions."""

from __future__ import annotations

import itertools
import random

import pytest

from tape_celery.records import EffectStatus
from tape_celery.store import figures, inspection, listing
from tape_celery.store.database import Database
from tape_celery.store.paging import Filters, read_page
from tests.store.steps import S as Status
from tests.store.steps import execute, in_state


@pytest.mark.parametrize("much_has_ended", [False, True])
def test_pages_are_the_list_in_both_directions(
    database: Database, rng: random.Random, monkeypatch: pytest.MonkeyPatch, *, much_has_ended: bool
) -> None:
    """For filters of every kind; each effect is on one page, and going back ends on a whole first page."""
    if much_has_ended:
        monkeypatch.setattr(listing, "ENDED", 2)
    for number in range(30):
        status, connector = rng.choice([Status.PENDING, Status.CANCELLED]), rng.choice(["bank.wire", "mail"])
        in_state(database, status, connector=connector, run_id=rng.choice(["run-1", "run-2"]))
        execute(database, f"UPDATE tape_effects SET created_at_ms = {number} WHERE created_at_ms > 1000")
    everything = inspection.list_effects(database, limit=1000)
    for filters in (
        Filters(),
        Filters(status=EffectStatus.PENDING),
        Filters(connector="mail"),
        Filters(status=EffectStatus.CANCELLED, connector="bank.wire"),
        Filters(run_id="run-1"),
        Filters(recorded_before_ms=20),
        Filters(recorded_since_ms=5, recorded_before_ms=20, status=EffectStatus.PENDING),
        Filters(recorded_since_ms=5, run_id="run-2"),
        Filters(recorded_since_ms=5),
        Filters(recorded_since_ms=5, connector="mail"),
        Filters(recorded_since_ms=5, status=EffectStatus.CANCELLED),
        Filters(recorded_since_ms=5, recorded_before_ms=20, connector="bank.wire", status=EffectStatus.CANCELLED),
        Filters(recorded_since_ms=25, status=EffectStatus.UNKNOWN),
        Filters(connector="nobody"),
        Filters(connectors=("mail",)),
        Filters(connectors=("mail", "nobody"), status=EffectStatus.PENDING),
        Filters(connectors=("mail",), connector="bank.wire"),
        Filters(connectors=("mail",), run_id="run-1"),
        Filters(connectors=("bank.wire",), recorded_since_ms=5),
        Filters(connectors=()),
    ):
        wanted = [effect for effect in everything if filters.match(effect)]
        pages = [read_page(database, filters, limit=4)]
        assert not pages[0].newer
        while pages[-1].older:
            pages.append(read_page(database, filters, before=pages[-1].effects[-1].effect_key, limit=4))
            assert pages[-1].newer
        assert [effect for page in pages for effect in page.effects] == wanted
        for earlier, page in itertools.pairwise(pages):
            back = read_page(database, filters, after=page.effects[0].effect_key, limit=4)
            assert (back.effects, back.older) == (earlier.effects, True)
            assert back.newer == (earlier is not pages[0])
        if wanted:
            newest = read_page(database, filters, after=wanted[min(2, len(wanted) - 1)].effect_key, limit=4)
            assert newest == pages[0]


def test_the_figures_of_a_connector_are_those_of_its_newest_calls(database: Database) -> None:
    """How long each took, and how many lost their answer; calls that are under way count for neither."""
    for status in (Status.CONFIRMED, Status.FAILED, Status.UNKNOWN, Status.CONFIRMED, Status.DISPATCHING):
        effect = in_state(database, status)
        for entry in inspection.read_journal(database, effect.effect_key):
            at_ms = {"claimed": 1_000, "confirmed": 1_010, "failed": 1_020, "unknown": 1_090}.get(entry.kind, 900)
            moved = "UPDATE tape_journal SET at_ms = :at_ms WHERE effect_key = :key AND seq = :seq"
            execute(database, moved, at_ms=at_ms, key=entry.key, seq=entry.seq)
    told = figures.of_connector(database, "bank.wire")
    assert (told.effects, told.calls, told.lost, told.lost_share) == (5, 4, 1, 0.25)
    assert (told.median_ms, told.p95_ms, told.slowest_ms, told.since_ms) == (20, 90, 90, 1_000)
    assert figures.of_connector(database, "bank.wire", newest=2).calls == 1
    nobody = figures.of_connector(database, "nobody")
    assert (nobody.calls, nobody.lost_share, nobody.median_ms, nobody.since_ms) == (0, 0.0, None, None)


@pytest.mark.parametrize("limit", [1, 3])
def test_no_page_has_more_than_was_asked_for(database: Database, limit: int) -> None:
    """And it says whether there is more."""
    for _ in range(3):
        in_state(database, Status.PENDING)
    page = read_page(database, Filters(), limit=limit)
    assert (len(page.effects), page.newer, page.older) == (limit, False, limit < 3)
