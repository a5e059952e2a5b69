"""A store that lets nobody write, as a read replica does: all that only looks works, and nothing else half-works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from tape_celery import Tape, connectors
from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import StoreUnavailable

READ_ONLY = "options=-c%20default_transaction_read_only%3Don"


class Wire:
    name = "bank.wire"

    def dispatch(self, effect: object) -> DispatchResult:
        return DispatchResult("confirmed")


@pytest.fixture
def tapes(postgres_url: str) -> Iterator[tuple[Tape, Tape]]:
    """One that writes, and one on the same store that may not."""
    connectors.register(Wire())
    made = [
        Tape(Celery(name, broker="memory://", set_as_current=False), store_url=url)
        for name, url in (("writes", postgres_url), ("looks", f"{postgres_url}?{READ_ONLY}"))
    ]
    made[0].migrate()
    yield made[0], made[1]
    for tape in made:
        tape.database.close()
    connectors.clear()


def test_all_that_only_looks_works(tapes: tuple[Tape, Tape], tmp_path: Path) -> None:
    """Rows, lists, journals, counts, handles, the audit and the export."""
    writes, looks = tapes
    key = writes.effect.delay("bank.wire", {"amount": 5}, business_key="inv-1").id
    writes.engine.dispatch([key])
    assert looks.get(key) == writes.get(key)
    assert looks.effects(business_key="inv-1") == writes.effects(business_key="inv-1")
    assert [entry.kind for entry in looks.journal(key)] == ["recorded", "claimed", "confirmed"]
    assert looks.counts() == writes.counts()
    assert looks.obligations() == []
    assert looks.pruned(key) is None
    assert looks.handle(key).get(timeout=5) == writes.handle(key).get(timeout=5)
    assert looks.audit(live=True) == []
    assert looks.export(tmp_path / "effects.jsonl").effects == 1


def test_what_would_write_is_refused_and_calls_nobody(tapes: tuple[Tape, Tape]) -> None:
    """Recording, claiming and sweeping there raise, and the effect stays as it is."""
    writes, looks = tapes
    key = writes.effect.delay("bank.wire", {"amount": 5}, business_key="inv-1").id
    for attempt in (
        lambda: looks.effect.delay("bank.wire", {"amount": 6}, business_key="inv-2"),
        lambda: looks.engine.dispatch([key]),
        lambda: looks.cancel(key, reason="no", actor="test"),
    ):
        with pytest.raises(StoreUnavailable, match="read-only"):
            attempt()
    assert [effect.status for effect in writes.effects()] == ["PENDING"]
