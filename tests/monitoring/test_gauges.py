"""The gauges are what the rows say, on each kind of store."""

from __future__ import annotations

from tape_celery import gauges, metering
from tape_celery.gauges import StoreGauges
from tape_celery.metering import Meter
from tape_celery.store import fleet
from tests.state.stage import CONFIRMED, FAILED, LOST, Stage


def test_gauges_tell_how_many_there_are_and_how_old_they_are(ready_url: str) -> None:
    """UNKNOWN is as old as its first call, STUCK as it is STUCK; what is due is so since its time; a state that nothing
    is in is 0; the sweep's lag and the workers that live.
    """
    stage = Stage(ready_url, observe_attempts=1)
    tape, database = stage.tape, stage.tape.database
    try:
        keys = [tape.effect.delay("scripted", {"n": n}, business_key=f"b-{n}").id for n in range(3)]
        stage.connector.answers = [CONFIRMED, FAILED, LOST]
        tape.dispatch(*keys)
        tape.effect.delay("nobody", {}, business_key="typo")
        tape.effect.apply_async(("scripted", {}), {"business_key": "later"}, countdown=60)
        tape.pause("nobody", reason="it is no connector", actor="me")
        database.shift_ms = 100_000
        fleet.mark_swept(database, every_ms=0)
        fleet.say(
            database, "one", version="1", connectors=["scripted"], queues=[], started_at_ms=None, wall_ms=lambda: 0
        )
        database.shift_ms = 130_000
        told = StoreGauges(database).read()
        counts = told[gauges.EFFECTS]
        assert {labels: number for labels, number in counts.items() if number} == {
            ("scripted", "CONFIRMED"): 1, ("scripted", "FAILED"): 1, ("scripted", "UNKNOWN"): 1,
            ("scripted", "PENDING"): 1, ("nobody", "PENDING"): 1,
        }  # fmt: skip
        assert len(counts) == 2 * 8
        [(of, age)] = told[gauges.OLDEST_EFFECT].items()
        assert of == ("scripted", "UNKNOWN")
        assert 130 <= age < 150
        due = told[gauges.DUE]
        assert set(due) == {("scripted", "UNKNOWN"), ("scripted", "PENDING"), ("nobody", "PENDING")}
        assert 60 <= due["scripted", "PENDING"] <= 71
        assert 130 <= due["nobody", "PENDING"] < 150
        assert 90 <= told[gauges.SWEEP_OVERDUE]["nobody",] < 150
        assert 30 <= told[gauges.SWEEP_LAG][()] < 50
        assert told[gauges.CONNECTOR_WORKERS] == {("scripted",): 1, ("nobody",): 0}
        assert told[gauges.PAUSED] == {("scripted",): 0, ("nobody",): 1}
        assert gauges.BREAKER not in told
        assert told[gauges.WORKERS] == told[gauges.UP] == {(): 1}
        assert told[gauges.RUNS] == {("CANCELLING",): 0, ("COMPENSATING",): 0, ("STUCK",): 0}
        stage.connector.looks = [RuntimeError("down")] * 2
        tape.observe(keys[2])
        database.shift_ms = 400_000
        tape.observe(keys[2])
        database.shift_ms = 450_000
        told = StoreGauges(database).read()
        [(of, age)] = told[gauges.OLDEST_EFFECT].items()
        assert of == ("scripted", "STUCK"), tape.get(keys[2])
        assert 50 <= age < 330
        assert told[gauges.WORKERS] == {(): 0}
    finally:
        database.shift_ms = 0
        stage.close()


def test_gauges_tell_what_limits_and_breakers_hold_back(ready_url: str) -> None:
    """Of calls and of looks; each opening of a breaker is counted; a connector of which nothing is said has none."""
    stage = Stage(ready_url)
    tape, database = stage.tape, stage.tape.database
    meter = database.meter = Meter()
    try:
        who = {"reason": "as agreed", "actor": "ann"}
        tape.effect.delay("other", {}, business_key="o")
        keys = [tape.effect.delay("scripted", {"n": n}, business_key=f"b-{n}").id for n in range(3)]
        tape.limit("scripted", at_once=2, looks=True, **who)
        tape.limit("scripted", waiting=5, **who)
        tape.breaker("scripted", share=0.5, least=1, **who)
        told = StoreGauges(database).read()
        call, look = ("scripted", "call"), ("scripted", "look")
        assert told[gauges.BREAKER] == {call: 0}
        assert told[gauges.RESTRAINED] == {call: 0, look: 1}
        assert told[gauges.WAITING] == {call: 3, look: 0}
        assert told[gauges.PLACES] == {look: 2}
        assert told[gauges.IN_USE] == {look: 0}
        assert told[gauges.QUEUE_LIMIT] == {call: 5}
        assert told[gauges.QUEUED] == {call: 3}
        stage.connector.answers = [LOST]
        tape.dispatch(keys[0])
        told = StoreGauges(database).read()
        assert told[gauges.BREAKER] == {call: 2}
        assert told[gauges.RESTRAINED] == {call: 1, look: 1}
        assert told[gauges.WAITING][call] == 2
        assert meter.totals()[metering.BREAKER_OPENINGS] == {call: [1]}
        tape.breaker("scripted", share=0, **who)
        tape.limit("scripted", at_once=0, looks=True, **who)
        tape.limit("scripted", waiting=0, **who)
        assert gauges.RESTRAINED not in StoreGauges(database).read()
    finally:
        stage.close()
        meter.close()
