"""An effect's spans, from the app's own span to a look that comes much later, with OpenTelemetry's own SDK."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.errors import KeyConflict
from tests.state.stage import CONFIRMED, FAILED, LOST, Stage
from tests.tracing.conftest import MakeTraced, Traced, links, written

SEEN = ObservationResult("confirmed", "ref-1")


def test_what_is_done_with_an_effect_is_in_its_producers_trace_however_much_later(
    any_stage: Stage, traced: Traced
) -> None:
    """The call whose answer is lost, the look that finds it, and the inverse: each a child of the span in which the
    effect was asked for, with links to that and to the last call."""
    with traced.request() as request:
        key = any_stage.record()
    any_stage.dispatch(key, TimeoutError("no answer"))
    any_stage.move_time(3 * 86_400)
    any_stage.observe(key, SEEN)
    any_stage.tape.owe(key, reason="returned", actor="a person")
    [debt] = any_stage.tape.obligations(effect_key=key)
    any_stage.compensate(debt.obligation_key, CompensationResult("compensated"))

    record, dispatch = traced.one("record"), traced.one("dispatch")
    observe, compensate = traced.one("observe"), traced.one("compensate")
    assert record.parent == request.get_span_context()
    assert record.kind is SpanKind.PRODUCER
    for span in (dispatch, observe, compensate):
        assert span.parent is not None
        assert (span.parent.span_id, span.parent.is_remote) == (record.get_span_context().span_id, True)
        assert span.get_span_context().trace_id == request.get_span_context().trace_id
        assert span.kind is SpanKind.CONSUMER
    of_producer = {"producer": written(record)}
    assert links(dispatch) == of_producer
    assert links(observe) == links(compensate) == of_producer | {"call": written(dispatch)}
    effect, [debt] = any_stage.get(key), any_stage.tape.obligations(effect_key=key)
    assert (effect.traceparent, effect.dispatch_traceparent) == (written(record), written(dispatch))
    assert (debt.traceparent, debt.dispatch_traceparent) == (written(record), written(compensate))
    told = [entry.evidence.get("traceparent", "") for entry in any_stage.tape.journal(key)]
    assert [text for text in told if text] == [written(dispatch), written(observe)]


def test_a_span_says_what_was_done_and_what_came_of_it(stage: Stage, traced: Traced) -> None:
    """By OpenTelemetry's names for messaging, and by ours; the claim that it was is the journal's by its token."""
    with traced.request():
        key = stage.record(run_id="run-1")
    stage.dispatch(key, CONFIRMED)
    about = {
        "messaging.system": "tape_celery",
        "messaging.destination.name": "scripted",
        "messaging.message.id": key,
        "messaging.message.conversation_id": "run-1",
        "tape.effect_key": key,
        "tape.connector": "scripted",
        "tape.run_id": "run-1",
    }
    assert dict(traced.one("record").attributes or {}) == about | {
        "messaging.operation.type": "send",
        "messaging.operation.name": "record",
        "tape.outcome": "recorded",
    }
    assert dict(traced.one("dispatch").attributes or {}) == about | {
        "messaging.operation.type": "process",
        "messaging.operation.name": "dispatch",
        "tape.attempt": 1,
        "tape.token": 1,
        "tape.outcome": "confirmed",
    }


@pytest.mark.parametrize(
    ("answer", "look", "outcome", "error"),
    [
        (CONFIRMED, None, "confirmed", ""),
        (FAILED, None, "failed", "failed"),
        (LOST, None, "unknown", "unknown"),
        (DispatchResult("unknown", error={"sent": False}), None, "unknown", "unknown"),
        (TimeoutError("no answer"), None, "raised", "builtins.TimeoutError"),
        (LOST, SEEN, "confirmed", ""),
        (LOST, ObservationResult("absent"), "absent", ""),
        (LOST, ObservationResult("failed"), "failed", ""),
        (LOST, ObservationResult("stuck"), "stuck", "stuck"),
        (LOST, OSError("down"), "raised", "builtins.OSError"),
    ],
    ids=str,
)
def test_a_call_without_its_end_and_a_look_without_an_answer_are_errors(
    stage: Stage, traced: Traced, answer: Any, look: Any, outcome: str, error: str
) -> None:
    """That the upstream never had it is an answer to a look; that it refused a call is no end of a call."""
    with traced.request():
        key = stage.record()
    stage.dispatch(key, answer)
    if look is not None:
        stage.observe(key, look)
    span = traced.one("dispatch" if look is None else "observe")
    attributes = dict(span.attributes or {})
    assert (attributes["tape.outcome"], attributes.get("error.type", "")) == (outcome, error)
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert bool(span.status.description) == (outcome == "raised")


def test_nothing_that_was_asked_for_or_answered_is_in_a_span(stage: Stage, traced: Traced) -> None:
    """No request, response or business key; of an exception the text as the journal has it, without a URL's secrets."""
    canary = "canary-55d1"
    answers = [
        DispatchResult("confirmed", canary, {"said": canary}),
        DispatchResult("failed", canary, {"said": canary}, {"reason": canary, "type": canary}),
        DispatchResult("unknown", canary, {"said": canary}, {"message": canary}),
        ConnectionError(f"https://user:{canary}@bank.example/?token={canary} is down"),
    ]
    with traced.request():
        for number, answer in enumerate(answers):
            stage.connector.answers = [answer]
            request = {"note": canary, "number": number}
            keywords = {"business_key": f"{canary}-{number}", "idempotency_key": f"{canary}-i-{number}"}
            key = stage.tape.effect.delay("scripted", request, **keywords).id
            stage.tape.dispatch(key)
        with pytest.raises(KeyConflict, match=canary):
            stage.tape.effect.delay("scripted", {"note": "another"}, business_key=f"{canary}-0")
    texts = [span.to_json() for span in traced.ours()]
    assert len(texts) == 9
    assert [text for text in texts if canary in text] == []
    refused = traced.ours("record")[-1]
    assert dict(refused.attributes or {})["error.type"] == "KeyConflict"
    assert (refused.status.status_code, refused.status.description) == (StatusCode.ERROR, None)
    broken = traced.ours("dispatch")[-1]
    assert broken.status.description == "ConnectionError: https://bank.example/ is down"
    assert not broken.events


def test_many_at_once_have_one_span_and_all_rows_carry_it(stage: Stage, traced: Traced) -> None:
    """However many they are; two connectors have no one name."""
    asked = [{"connector": "scripted", "request": {"n": n}, "business_key": f"b-{n}"} for n in range(3)]
    with traced.request():
        keys = [handle.id for handle in stage.tape.effect.delay_many(asked)]
        others = stage.tape.effect.delay_many(
            [{"connector": name, "request": {"n": 9}, "business_key": "b-9"} for name in ("scripted", "elsewhere")]
        )
    first, second = (span for span in traced.ours() if span.kind is SpanKind.PRODUCER)
    assert {stage.get(key).traceparent for key in keys} == {written(first)}
    assert {stage.get(handle.id).traceparent for handle in others} == {written(second)}
    assert (first.name, second.name) == ("record scripted", "record")
    assert dict(first.attributes or {})["messaging.batch.message_count"] == 3


def test_in_each_thread_the_span_of_its_call_is_the_current_one(stage: Stage, traced: Traced) -> None:
    """So what the connector itself traces nests below it. Calls of one message run in threads, which inherit nothing;
    each leads to the span of the task that made them, and coroutines see it too."""
    here = threading.Barrier(3)
    seen: dict[str, str] = {}

    def answer(effect: Any) -> Any:
        here.wait(10)
        seen[effect.effect_key] = written(trace.get_current_span())

        async def later() -> DispatchResult:
            await asyncio.sleep(0)
            assert seen[effect.effect_key] == written(trace.get_current_span())
            with traced.request("inside"):
                return CONFIRMED

        return later()

    with traced.request():
        keys = [stage.record() for _ in range(3)]
    stage.connector.answers = [answer] * 3
    with traced.request("task") as task:
        assert set(stage.tape.dispatch(*keys).values()) == {"confirmed"}
        assert trace.get_current_span() is task
    dispatched = traced.ours("dispatch")
    by_key = {dict(span.attributes or {})["tape.effect_key"]: span for span in dispatched}
    assert seen == {key: written(span) for key, span in by_key.items()}
    assert {links(span)["caller"] for span in dispatched} == {written(task)}
    trace_ids = {span.get_span_context().trace_id for span in traced.ours("record")}
    assert {span.get_span_context().trace_id for span in dispatched} == trace_ids, "the producer's, not the task's"
    inside = [span.parent.span_id for span in traced.spans if span.name == "inside" and span.parent]
    assert sorted(inside) == sorted(span.get_span_context().span_id for span in dispatched)


def test_an_async_app_and_a_transaction_of_the_apps_are_traced_alike(
    stage: Stage, traced: Traced, ready_sqlite_url: str
) -> None:
    """The row has the producer's span wherever it was written."""

    async def ask() -> str:
        with traced.request():
            return str((await stage.tape.effect.adelay("scripted", {"n": 1}, business_key="b-1")).id)

    key = asyncio.run(ask())
    engine = create_engine(ready_sqlite_url)
    with Session(engine) as session, traced.request():
        within = stage.tape.effect.delay("scripted", {"n": 2}, business_key="b-2", session=session).id
        session.commit()
    engine.dispose()
    assert [stage.get(one).traceparent for one in (key, within)] == [written(span) for span in traced.ours("record")]


def test_an_attempt_leads_to_the_one_before_and_a_reissue_stays_in_the_trace(stage: Stage, traced: Traced) -> None:
    """The one that a person asks for days later is the same wish."""
    with traced.request():
        key = stage.record()
    stage.dispatch(key, DispatchResult("failed", retry_at_ms=1))
    stage.move_time(60)
    stage.dispatch(key, FAILED)
    first, second = traced.ours("dispatch")
    assert links(second)["call"] == written(first)
    again = stage.tape.reissue(key, reason="it was our mistake", actor="a person").id
    assert stage.get(again).traceparent == stage.get(key).traceparent != ""


def test_an_answer_that_comes_too_late_is_what_later_spans_lead_to(stage: Stage, traced: Traced) -> None:
    """It is evidence, and so is its span."""
    with traced.request():
        key = stage.record()

    def slow(_: Any) -> DispatchResult:
        stage.move_time(60)
        stage.tape.sweep()
        assert stage.get(key).status == "UNKNOWN"
        return CONFIRMED

    assert stage.dispatch(key, slow) == "late"
    assert stage.last(key).kind == "late"
    assert stage.last(key).evidence["traceparent"] == written(traced.one("dispatch"))
    assert stage.get(key).dispatch_traceparent == written(traced.one("dispatch"))


def test_a_webhook_about_an_effect_is_in_its_trace(ready_sqlite_url: str, traced: Traced) -> None:
    """It is an effect itself, which nobody asked for in a span."""
    stage = Stage(ready_sqlite_url, webhook_url="http://127.0.0.1:9/nobody", webhook_events="effect.failed")
    with traced.request():
        key = stage.record()
    stage.dispatch(key, FAILED)
    [told] = stage.tape.effects(connector=stage.tape.settings.webhook_connector)
    assert told.traceparent == stage.get(key).traceparent != ""
    stage.close()


def test_of_effects_that_are_sealed_together_each_keeps_its_own_span(ready_postgresql_url: str, traced: Traced) -> None:
    """PostgreSQL writes them by one statement; those that nobody traced keep none."""
    stage = Stage(ready_postgresql_url)
    with traced.request():
        keys = [stage.record() for _ in range(6)]
    untraced = [stage.record() for _ in range(3)]
    stage.connector.answers = [LOST, CONFIRMED, FAILED] * 3
    stage.tape.dispatch(*keys, *untraced)
    spans = {dict(span.attributes or {})["tape.effect_key"]: written(span) for span in traced.ours("dispatch")}
    assert spans.keys() == set(keys)
    assert {key: stage.get(key).dispatch_traceparent for key in keys} == spans
    assert {stage.get(key).dispatch_traceparent for key in untraced} == {""}
    stage.close()


def test_an_effect_that_stood_already_is_named_by_its_own_key(stage: Stage, traced: Traced) -> None:
    """It stays in the trace in which it was asked for first."""
    with traced.request():
        key = stage.record(business_key="b-1")
    with traced.request():
        assert stage.record(business_key="b-1") == key
    first, again = traced.ours("record")
    attributes = dict(again.attributes or {})
    assert (attributes["tape.effect_key"], attributes["tape.outcome"]) == (key, "existing")
    assert stage.get(key).traceparent == written(first)


def test_what_is_not_sampled_stays_so(stage: Stage, make_traced: MakeTraced) -> None:
    """Whoever began the trace has decided it, for the worker too."""
    traced = make_traced(sampler=ParentBased(ALWAYS_OFF))
    with traced.request():
        key = stage.record()
    stage.dispatch(key, LOST)
    stage.observe(key, SEEN)
    effect = stage.get(key)
    assert int(effect.traceparent[-2:], 16) & 1 == 0
    assert effect.dispatch_traceparent == ""
    assert traced.spans == []


@pytest.mark.parametrize("how", ["outside of a span", "turned off"])
def test_without_a_span_or_with_the_setting_off_there_are_none(ready_sqlite_url: str, traced: Traced, how: str) -> None:
    """We begin no trace, and rows carry nothing."""
    stage = Stage(ready_sqlite_url, tracing=how != "turned off")
    if how == "turned off":
        with traced.request():
            key = stage.record()
            stage.dispatch(key, CONFIRMED)
    else:
        key = stage.record()
        stage.dispatch(key, CONFIRMED)
    assert traced.ours() == []
    assert stage.get(key).traceparent == stage.get(key).dispatch_traceparent == ""
    stage.close()


def test_an_effect_of_an_untraced_producer_is_in_the_trace_of_its_task(stage: Stage, traced: Traced) -> None:
    """Where the worker's app traces its tasks."""
    key = stage.record()
    with traced.request("task") as task:
        stage.dispatch(key, CONFIRMED)
    span = traced.one("dispatch")
    assert span.parent == task.get_span_context()
    assert stage.get(key).dispatch_traceparent == written(span)


class Broken(SpanProcessor):
    """A span processor of the app's that fails, at the start or at the end of each span of ours."""

    def __init__(self, where: str) -> None:
        self.where = where

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._fail("start", span)

    def on_end(self, span: ReadableSpan) -> None:
        self._fail("end", span)

    def _fail(self, where: str, span: Any) -> None:
        if where == self.where and span.name != "request":
            raise RuntimeError("the collector is gone")


@pytest.mark.parametrize("where", ["start", "end"])
def test_a_span_processor_that_raises_changes_no_effect(
    stage: Stage, traced: Traced, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """It is logged, once, and what it stands for is done."""
    traced.provider.add_span_processor(Broken(where))
    with caplog.at_level(logging.WARNING, "tape_celery.tracing"), traced.request() as request:
        key = stage.record()
        assert stage.dispatch(key, LOST) == "unknown"
        assert stage.observe(key, SEEN) == "confirmed"
        assert trace.get_current_span() is request
    assert [record.message for record in caplog.records] == ["a span is missing, or not complete: RuntimeError"]
    assert stage.kinds(key) == ["recorded", "claimed", "unknown", "look", "observed"]


@pytest.mark.parametrize("garbage", ["rubbish", "00-0-0-00", f"00-{'0' * 32}-{'0' * 16}-01", "ff-" + "a" * 52])
def test_a_column_that_holds_no_context_is_no_parent(stage: Stage, traced: Traced, garbage: str) -> None:
    """Whatever wrote it there: the call is made, and there is no span."""
    key = stage.record()
    with stage.tape.database._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE tape_effects SET traceparent = ?", (garbage,))
    assert stage.dispatch(key, CONFIRMED) == "confirmed"
    assert traced.spans == []


def test_we_do_not_import_opentelemetry(ready_sqlite_url: str) -> None:
    """Who does not trace pays nothing for it, and needs no package."""
    code = """
import sys
from tests.state.stage import CONFIRMED, Stage
stage = Stage(sys.argv[1])
assert stage.dispatch(stage.record(), CONFIRMED) == "confirmed"
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code, ready_sqlite_url], cwd=Path(__file__).parents[2], check=True)
