"""12, 48: what others can make long or many has a bound."""

from __future__ import annotations

from sqlalchemy import func, select

from tape_celery import schema, sweep
from tape_celery.connectors.base import DispatchResult
from tests.state.stage import LOST, Stage, obs


def test_no_entry_of_the_journal_is_larger_than_8_kib(ready_sqlite_url: str) -> None:
    """Whatever an upstream says: a huge error, a thousand duplicates with long names; or a person, at length."""
    stage = Stage(ready_sqlite_url)
    long = "\N{PILE OF POO}" * 50_000
    error = {"reason": long, "message": long, "type": long, "body": [long] * 100, long: long}
    refused = stage.record()
    stage.dispatch(refused, DispatchResult("failed", external_ref="r" * 500, response={"b": long}, error=error))
    twice = stage.record()
    stage.dispatch(twice, LOST)
    extras = [f"{number:04}-{'x' * 500}" for number in range(1_000)]
    stage.observe(twice, obs("duplicate", "kept", duplicates=extras))
    assert len(stage.tape.obligations(effect_key=twice)) == 1_000
    asked = stage.record()
    stage.tape.cancel(asked, reason="\N{PARTY POPPER}" * 340, actor="\N{PARTY POPPER}" * 200)
    longest = select(func.max(func.length(schema.journal.c.evidence_json)))
    most = stage.tape.database.read(lambda connection: connection.execute(longest).scalar_one())
    assert 4_000 < most <= 8 * 1024
    stage.close()


def test_one_sweep_hints_a_bounded_number_of_a_backlog(ready_sqlite_url: str) -> None:
    """However many are due, a sweep ends; the next one goes on where it ended."""
    stage = Stage(ready_sqlite_url)
    assert sweep.BATCH == 500
    number = sweep.BATCH + 7
    stage.tape.effect.delay_many(
        [{"connector": "scripted", "request": {"n": n}, "business_key": f"b-{n}"} for n in range(number)]
    )
    stage.move_time(60)
    assert [stage.tape.sweep().dispatch_hints for _ in range(3)] == [sweep.BATCH, 7, 0]
    stage.close()
