"""29: what comes from outside is a parameter of a statement and never a part of it."""

from __future__ import annotations

import pytest

from tape_celery import Tape
from tape_celery.errors import NoSuchEffect
from tests.state.stage import CONFIRMED, Stage

HOSTILE = [
    "' OR '1'='1",
    '" OR "1"="1',
    "x'; DROP TABLE tape_journal; --",
    "\\' OR 1=1 #",
    "') UNION SELECT installation_id FROM tape_installation --",
    "%' OR '%'='",
    "/*!50000 OR 1=1 */",
    ":effect_key",
    "%(effect_key)s %s ? {0}",
    "1; SELECT pg_sleep(10)",
]


def test_a_hostile_text_finds_nothing_but_what_is_called_so(ready_url: str) -> None:
    """As a key, in every filter, and in what people write; on every database."""
    stage = Stage(ready_url)
    other = stage.record(run_id="other")
    for text in HOSTILE:
        finds_nothing(stage.tape, text)
        finds_its_own(stage, text)
    assert stage.get(other).status == "PENDING"
    stage.close()


def finds_nothing(tape: Tape, text: str) -> None:
    assert tape.get(text) is None
    assert tape.journal(text) == []
    assert tape.obligations(run_id=text) == tape.obligations(effect_key=text) == []
    for name in ("connector", "run_id", "business_key"):
        assert tape.effects(**{name: text}) == [], (name, text)
    with pytest.raises(NoSuchEffect):
        tape.cancel(text, reason=text, actor=text)


def finds_its_own(stage: Stage, text: str) -> None:
    named = stage.record(business_key=text, run_id=text)
    stage.dispatch(named, CONFIRMED)
    stage.tape.owe(named, reason=text, actor=text)
    assert [effect.effect_key for effect in stage.tape.effects(business_key=text)] == [named]
    assert [effect.effect_key for effect in stage.tape.effects(run_id=text)] == [named]
    [owed] = stage.tape.obligations(run_id=text)
    assert (owed.effect_key, stage.tape.journal(owed.obligation_key)[0].actor) == (named, text)


@pytest.mark.parametrize("filters", [{"status": "' OR 1=1 --"}, {"order_by": "amount"}, {"where": "1=1"}], ids=str)
def test_a_filter_that_is_none_is_refused(ready_sqlite_url: str, filters: dict[str, str]) -> None:
    """A state is one of the states; a column that nobody offers cannot be named."""
    stage = Stage(ready_sqlite_url)
    stage.record()
    with pytest.raises((TypeError, ValueError)):
        stage.tape.effects(**filters)
    stage.close()
