"""Callbacks of effects: kept with the effect, due with its transition, sent at least once under one task id."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, group
from sqlalchemy import select
from sqlalchemy.orm import Session

from tape_celery import Tape, connectors, effect
from tape_celery.connectors.base import DispatchResult, ObservationResult
from tape_celery.errors import InvalidIntent
from tape_celery.schema import callbacks
from tape_celery.similar import HoldSimilar

HEARD: list[tuple[str, Any]] = []


class Bank:
    """It answers as its request says, and knows nothing when it is asked."""

    name = "canvas.bank"

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult(effect.request["answer"], external_ref="w-1", response={"booked": effect.request})

    def observe(self, effect: Any) -> ObservationResult:
        return ObservationResult("stuck")


@effect(connector="canvas.bank", business_key=lambda note, answer="confirmed": f"{note}", name="canvas.test.wire")
def wire(note: Any, answer: str = "confirmed") -> dict[str, Any]:
    """A wire about something."""
    return {"answer": answer, "note": note}


@pytest.fixture(params=["eager", "broker"])
def tape(request: pytest.FixtureRequest, ready_url: str) -> Iterator[Tape]:
    app = Celery("canvas", broker="memory://")
    app.conf.task_always_eager = request.param == "eager"

    for event in ("confirmed", "failed", "unknown", "stuck"):

        @app.task(name=f"heard.{event}", shared=False)
        def heard(first: Any, event: str = event) -> Any:
            HEARD.append((event, first))
            return {"note": f"after {event}"}

    HEARD.clear()
    tape = Tape(app, store_url=ready_url, observe_attempts=1)
    connectors.register(Bank())
    yield tape
    connectors.clear()
    tape.database.close()


def statuses(tape: Tape) -> dict[str, str]:
    statement = select(callbacks.c.event, callbacks.c.status)
    return {row.event: row.status for row in tape.database.read(lambda c: c.execute(statement).all())}


def callback_statuses(tape: Tape) -> list[str]:
    return tape.database.read(lambda c: sorted(c.execute(select(callbacks.c.status)).scalars()))


def links(tape: Tape) -> dict[str, Any]:
    def heard(event: str) -> Any:
        return tape.app.signature(f"heard.{event}")

    return {
        "link": heard("confirmed"),
        "link_error": heard("failed"),
        "on_unknown": heard("unknown"),
        "on_stuck": heard("stuck"),
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("confirmed", {"confirmed"}), ("failed", {"failed"}), ("unknown", {"unknown", "failed", "stuck"})],
)
def test_each_end_sends_its_callbacks_and_no_other(tape: Tape, answer: str, expected: set[str]) -> None:
    """CONFIRMED, FAILED, and UNKNOWN that gets STUCK."""
    handle = tape.effect.delay("canvas.bank", {"answer": answer}, business_key="b", **links(tape))
    tape.dispatch(handle.id)
    tape.observe(handle.id)
    found = statuses(tape)
    assert {event for event, status in found.items() if status == "SENT"} == expected
    assert all(status == "WAITING" for event, status in found.items() if event not in expected)
    if tape.app.conf.task_always_eager:
        response = {"booked": {"answer": "confirmed"}}
        assert sorted(HEARD, key=str) == sorted(
            ((event, response if event == "confirmed" else handle.id) for event in expected), key=str
        )


def test_cancelled_is_an_end_for_link_error(tape: Tape) -> None:
    handle = tape.effect.apply_async(
        ("canvas.bank", {"answer": "confirmed"}), {"business_key": "b", **links(tape)}, countdown=3600
    )
    tape.cancel(handle.id, reason="no more", actor="test")
    assert statuses(tape)["failed"] == "SENT"


def test_what_is_released_after_its_expiry_sends_its_link_error_at_once(tape: Tape) -> None:
    """To be released too late is one of the ways to be CANCELLED."""
    rule = HoldSimilar(["answer"], within=60)
    for number in range(2):
        keywords = {"business_key": f"b{number}", "hold_similar": rule, **links(tape)}
        handle = tape.effect.apply_async(("canvas.bank", {"answer": "confirmed"}), keywords, expires=3600)
    assert handle.status == "HELD"
    tape.database.shift_ms += 3_601_000
    assert tape.release(handle.id, reason="r", actor="test").status == "CANCELLED"
    statement = select(callbacks.c.event).where(callbacks.c.effect_key == handle.id, callbacks.c.status == "SENT")
    assert tape.database.read(lambda c: list(c.execute(statement).scalars())) == ["failed"]


def test_a_person_who_confirms_a_stuck_effect_sends_what_waited_for_that(tape: Tape) -> None:
    handle = tape.effect.delay("canvas.bank", {"answer": "unknown"}, business_key="b", **links(tape))
    tape.dispatch(handle.id)
    tape.observe(handle.id)
    tape.resolve(handle.id, "confirmed", reason="seen", actor="test")
    assert set(statuses(tape).values()) == {"SENT"}


def test_what_is_due_is_sent_by_a_sweep_where_nobody_sent_it(tape: Tape) -> None:
    """The process that sealed it died before it published anything."""
    tape.app.conf.task_always_eager = False
    handle = tape.effect.delay("canvas.bank", {"answer": "confirmed"}, business_key="b", **links(tape))
    tape.engine.dispatch([handle.id])
    assert statuses(tape)["confirmed"] == "DUE"
    assert tape.sweep().callbacks == 1
    assert statuses(tape)["confirmed"] == "SENT"
    assert tape.sweep().callbacks == 0


def test_a_callback_for_an_effect_that_is_there_already_is_kept_or_sent_at_once(tape: Tape) -> None:
    """The same business key from two callers: each hears of it, and a repeated call adds nothing."""
    handle = tape.effect.delay("canvas.bank", {"answer": "confirmed"}, business_key="b")
    tape.dispatch(handle.id)
    for _ in range(2):
        tape.effect.delay("canvas.bank", {"answer": "confirmed"}, business_key="b", **links(tape))
    assert statuses(tape) == {"confirmed": "SENT", "failed": "WAITING", "unknown": "WAITING", "stuck": "WAITING"}


def test_each_of_many_has_callbacks_of_its_own(tape: Tape) -> None:
    """Recorded or found, or the same twice in one list: nobody's callback is lost, and none is kept twice."""
    there = tape.effect.delay("canvas.bank", {"answer": "confirmed", "n": 0}, business_key="b-0")
    tape.dispatch(there.id)
    items = [
        {"connector": "canvas.bank", "request": {"answer": "confirmed", "n": n}, "business_key": f"b-{n}"}
        for n in range(3)
    ]
    heard, other = tape.app.signature("heard.confirmed"), tape.app.signature("heard.stuck")
    asked = [{**items[0], "link": heard}, {**items[1], "link": heard}, items[2], {**items[1], "link": [other, heard]}]
    for _ in range(2):
        handles = tape.effect.delay_many(asked)
    kept = tape.database.read(lambda c: c.execute(select(callbacks.c.effect_key, callbacks.c.signature_json)).all())
    tasks = sorted((row.effect_key, json.loads(row.signature_json)["task"]) for row in kept)
    first, second = there.id, handles[1].id
    assert tasks == sorted([(first, "heard.confirmed"), (second, "heard.confirmed"), (second, "heard.stuck")])
    assert (handles[0].id, handles[3].id) == (first, second)
    tape.dispatch(*[handle.id for handle in handles])
    assert callback_statuses(tape) == ["SENT"] * 3
    if tape.app.conf.task_always_eager:
        assert sorted(event for event, _ in HEARD) == ["confirmed", "confirmed", "stuck"]


def test_a_callback_of_many_goes_with_the_transaction_that_it_was_asked_in(tape: Tape) -> None:
    item = {"connector": "canvas.bank", "request": {"answer": "confirmed"}, "business_key": "b", **links(tape)}
    engine = tape.database._engine
    with Session(engine) as session:
        tape.effect.delay_many([item], session=session)
        session.rollback()
        assert statuses(tape) == {}
        [handle] = tape.effect.delay_many([item], session=session)
        session.commit()
    tape.dispatch(handle.id)
    assert statuses(tape)["confirmed"] == "SENT"


@pytest.mark.parametrize("many", [False, True])
def test_a_callback_of_what_was_pruned_is_refused(tape: Tape, many: bool) -> None:
    """Its response is gone, so nobody would ever send it; taken in silence it would be lost."""
    item = {"connector": "canvas.bank", "request": {"answer": "confirmed"}, "business_key": "b"}
    handle = tape.effect.delay(**item)
    tape.dispatch(handle.id)
    tape.database.shift_ms += 3 * 86_400_000
    assert tape.prune(2).effects == 1
    asked = {**item, **links(tape)}
    new = {**item, "request": {"n": 1}, "business_key": "c"}
    with pytest.raises(InvalidIntent, match="was pruned") as refused:
        tape.effect.delay_many([new, asked]) if many else tape.effect.delay(**asked)
    assert many == str(refused.value).startswith("item 1: ")
    assert (tape.effects(), statuses(tape)) == ([], {})
    [again] = tape.effect.delay_many([item])
    assert again.id == handle.id


def test_under_task_always_eager_many_are_sent_before_delay_many_returns(tape: Tape) -> None:
    tape.app.conf.task_always_eager = True
    handles = wire.delay_many([{"note": 1}, wire.si(2).set(link=tape.app.signature("heard.confirmed"))])
    assert [handle.status for handle in handles] == ["CONFIRMED"] * 2
    assert HEARD == [("confirmed", {"booked": {"answer": "confirmed", "note": 2}})]


def test_a_chain_goes_from_effect_to_task_to_effect(tape: Tape) -> None:
    """Each part gets the sealed effect's response, and the last effect has the id that the chain told."""
    tape.app.conf.task_always_eager = True
    told = chain(wire.s("one"), tape.app.signature("heard.confirmed"), wire.s()).apply_async()
    first, last = sorted(tape.effects(), key=lambda found: found.request["note"] != "one")
    assert [("confirmed", first.response)] == HEARD
    assert last.request["note"] == {"note": "after confirmed"}
    assert str(told) == last.effect_key
    assert told.get(timeout=5) == last.response


def test_a_chain_of_effects_needs_no_broker_between_them(tape: Tape) -> None:
    told = chain(wire.s("one"), wire.si("two"), wire.si("three")).apply_async()
    for _ in range(3):
        tape.dispatch(*[found.effect_key for found in tape.effects()])
    assert sorted(found.request["note"] for found in tape.effects()) == ["one", "three", "two"]
    assert told.status == "CONFIRMED"
    if not tape.app.conf.task_always_eager:
        assert len({found.run_id for found in tape.effects()}) == 1


def test_a_group_is_as_ready_as_its_effects(tape: Tape) -> None:
    told = group(wire.s(note) for note in ("one", "two")).apply_async()
    tape.dispatch(*[found.effect_key for found in tape.effects()])
    assert told.ready()
    assert told.successful()
    assert [answer["booked"]["note"] for answer in told.get(timeout=5)] == ["one", "two"]


def test_an_effect_as_a_link_is_recorded_once_however_often_it_is_sent(tape: Tape) -> None:
    handle = tape.effect.delay("canvas.bank", {"answer": "confirmed"}, business_key="b", link=wire.si("linked"))
    tape.dispatch(handle.id)
    tape.sweep()
    assert {found.request.get("note") for found in tape.effects()} == {"linked", None}
    assert len(tape.effects()) == 2


@pytest.mark.parametrize("link", ["a name", 7, {"no": "task"}, [None]])
def test_what_is_no_signature_is_refused_and_nothing_is_recorded(tape: Tape, link: Any) -> None:
    with pytest.raises(InvalidIntent, match="signature"):
        tape.effect.delay("canvas.bank", {"answer": "confirmed"}, business_key="b", link=link)
    assert tape.effects() == []


def test_a_link_whose_body_raises_keeps_nothing_else_from_being_sent(
    tape: Tape, caplog: pytest.LogCaptureFixture
) -> None:
    """Its arguments do not fit; the next sweeps go on, and it stays due for a worker that has a better body. The log
    names its effect.
    """
    for number in range(2):
        link = [wire.s("one", "confirmed", "too many"), tape.app.signature("heard.confirmed")]
        handle = tape.effect.delay("canvas.bank", {"answer": "confirmed"}, business_key=f"b{number}", link=link)
        tape.dispatch(handle.id)
    tape.sweep()
    assert callback_statuses(tape) == ["DUE", "DUE", "SENT", "SENT"]
    told = [vars(record)["effect"] for record in caplog.records if "it is sent again" in record.msg]
    assert set(told) == {effect.effect_key for effect in tape.effects() if not effect.request.get("note")}
