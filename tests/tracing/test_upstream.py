"""An upstream over real sockets is told which span each call is, by W3C's headers and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import TraceState

from tape_celery import connectors
from tape_celery.connectors.http import HTTPConnector
from tests.connectors.upstream import Connection, Request, Upstream
from tests.state.stage import Stage
from tests.tracing.conftest import MakeTraced, Traced, written

OURS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ANSWERS = {
    "/wires": (504, {}),
    "/lookup": (200, {"status": "confirmed", "external_ref": "ref-1"}),
    "/reverse": (200, {}),
}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Loses the answer of a call, finds it when it is looked up, and takes it back."""

    def script(connection: Connection, request: Request) -> None:
        connection.answer(*ANSWERS[request.target.partition("?")[0]])

    with Upstream(script) as made:
        yield made


@pytest.fixture
def ask(upstream: Upstream, stage: Stage) -> Iterator[Any]:
    """Has one effect called, looked up and compensated at the upstream, by a connector as the test wants it."""
    made: list[HTTPConnector] = []

    def all_three(
        stage: Stage = stage, kind: type[HTTPConnector] = HTTPConnector, **options: Any
    ) -> dict[str, dict[str, str]]:
        endpoints = {"observe_endpoint": f"{upstream.url}/lookup", "compensate_endpoint": f"{upstream.url}/reverse"}
        made.append(kind("scripted", f"{upstream.url}/wires", **endpoints, **options))
        connectors.register(made[-1])
        key = stage.record()
        assert stage.tape.dispatch(key) == {key: "unknown"}
        assert stage.tape.observe(key) == {key: "confirmed"}
        stage.tape.owe(key, reason="returned", actor="a person")
        [debt] = stage.tape.obligations(effect_key=key)
        assert stage.tape.compensate(debt.obligation_key) == {debt.obligation_key: "compensated"}
        said = [request.headers for request in upstream.requests[-3:]]
        return dict(zip(("dispatch", "observe", "compensate"), said, strict=True))

    yield all_three
    for one in made:
        one.close()


def about_traces(headers: dict[str, str]) -> dict[str, str]:
    """What a request said of spans."""
    return {name: text for name, text in headers.items() if re.fullmatch("trace.*|b3|x-b3.*|baggage|uber.*", name)}


def test_each_call_look_and_inverse_tells_its_own_span(ask: Any, traced: Traced) -> None:
    """And no baggage of whoever asked."""
    token = context.attach(baggage.set_baggage("customer", "secret"))
    with traced.request():
        said = ask()
    context.detach(token)
    told = {verb: about_traces(headers) for verb, headers in said.items()}
    assert told == {verb: {"traceparent": written(traced.one(verb))} for verb in said}


def test_what_the_sampler_says_to_other_vendors_goes_along(ask: Any, make_traced: MakeTraced) -> None:
    """As ``tracestate``."""

    class Telling(Sampler):
        def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, trace_state=TraceState([("vendor", "told")]))

        def get_description(self) -> str:
            return "telling"

    with make_traced(sampler=Telling()).request():
        said = ask()
    assert {headers["tracestate"] for headers in said.values()} == {"vendor=told"}


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_OFF), ALWAYS_ON], ids=["not sampled", "sampled"])
def test_the_upstream_learns_whether_the_trace_is_sampled(ask: Any, make_traced: MakeTraced, sampler: Sampler) -> None:
    """So it is for all of the trace, or for none of it."""
    with make_traced(sampler=sampler).request() as request:
        said = ask()
    ends = {headers["traceparent"][-3:] for headers in said.values()}
    assert ends == {f"-{request.get_span_context().trace_flags:02x}"}
    assert {headers["traceparent"][3:35] for headers in said.values()} == {written(request)[3:35]}


def test_what_a_connector_sends_itself_is_sent_as_it_is(ask: Any, traced: Traced) -> None:
    """With nothing of ours beside it: the two headers go together."""
    with traced.request():
        for header in ({"Traceparent": OURS}, {"tracestate": "vendor=own"}, {"traceparent": lambda: OURS}):
            for headers in ask(headers=header).values():
                [(name, text)] = about_traces(headers).items()
                assert (name, text) in (("traceparent", OURS), ("tracestate", "vendor=own"))


@pytest.mark.parametrize("why", ["the connector's", "the Tape's", "outside of a span"])
def test_nothing_is_told_where_it_is_not_wanted(
    ask: Any, stage: Stage, ready_sqlite_url: str, traced: Traced, why: str
) -> None:
    """Also where the worker's task has a span of its own, which is not the effect's."""
    off = Stage(ready_sqlite_url, tracing=False)
    if why == "the connector's":
        with traced.request():
            said = ask(send_traceparent=False)
        assert len(traced.ours("dispatch")) == 1
    elif why == "the Tape's":
        with traced.request("task"):
            said = ask(off)
    else:
        said = ask()
    off.tape.database.close()
    assert [about_traces(headers) for headers in said.values()] == [{}] * 3


def test_a_span_within_the_call_is_the_parent_of_the_upstreams(ask: Any, traced: Traced) -> None:
    """Where a connector made of `HTTPConnector` has one."""

    class Checked(HTTPConnector):
        def dispatch(self, effect: Any) -> Any:
            with traced.request("inside"):
                return super().dispatch(effect)

    with traced.request():
        said = ask(kind=Checked)
    [inside] = [span for span in traced.spans if span.name == "inside"]
    assert inside.parent == traced.one("dispatch").get_span_context()
    assert said["dispatch"]["traceparent"] == written(inside)


class OfTheApps(TextMapPropagator):
    """A propagator that an app has set."""

    fields = frozenset({"traceparent"})  # type: ignore[assignment]

    def __init__(self, text: str | None) -> None:
        self.text = text

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        return context

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        if self.text is None:
            raise RuntimeError("the app's own")
        carrier["x-vendor"] = carrier["traceparent"] = self.text


@pytest.mark.parametrize("text", [None, "one\r\nX-Injected: yes", "zwölf"])
def test_no_propagator_of_the_apps_hurts_a_call(
    ask: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """What it raises, and what it says that cannot be a header, or another header, is left out."""
    monkeypatch.setattr(propagate, "get_global_textmap", lambda: OfTheApps(text))
    with traced.request():
        said = ask()
    for headers in said.values():
        assert about_traces(headers) == {}
        assert not {"x-vendor", "x-injected"} & headers.keys()
