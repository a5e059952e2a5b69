"""OpenTelemetry spans: of who asks for an effect, and of each call, look and inverse, in one trace.

An effect's row carries the context of the span in which it was asked for; messages carry none, because a sweep that
sends one knows no producer. Whatever is done with the row later, by any process, is a child of that span, however much
later: so all of it is sampled or none, as whoever began the trace decided. Each also has links, which say by
``tape.link`` where they lead: to that span (``producer``), to the last call that ended with a result (``call``), and to
the span in which our task ran (``caller``).

We begin no trace: where nobody asked within a span, and none is current when an effect is called, there are no spans.
Nor do we import OpenTelemetry: in a process that has not done so nobody traces. What a span processor raises is logged,
and changes no effect. A span is told when it ends, so that of a killed worker is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from tape_celery import __version__
from tape_celery.connectors.trace_context import marked
from tape_celery.intent import Intent
from tape_celery.loggers import logger_for
from tape_celery.records import Effect, Obligation, replace

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context

    from tape_celery.tape import Tape

logger = logger_for(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Asked = TypeVar("Asked", Intent, Sequence[Intent])

SYSTEM = "tape_celery"


class Span:
    """A span of ours, current while its block runs. This one stands for none, where nobody traces."""

    traceparent = ""
    """What a later span links to; empty where this one is not recorded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def came_to(self, outcome: str, *, error: str = "", text: str = "") -> None:
        """Say how it ended; ``error`` is the kind of what went wrong (``""``: nothing), ``text`` its words."""


UNTRACED = Span()


class _Recorded(Span):
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.carried = _written(span)
        """What rows carry: of a span that is not sampled too, so that what follows is not either."""
        self.traceparent = self.carried if span.is_recording() else ""

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        self._before = context.attach(marked(trace.set_span_in_context(self._span)))
        return self

    def __exit__(self, *_: object) -> None:
        from opentelemetry import context

        context.detach(self._before)
        _quietly(self._span.end)

    def came_to(self, outcome: str, *, error: str = "", text: str = "") -> None:
        _quietly(lambda: self._come_to(outcome, error, text))

    def stands_for(self, asked: Intent | Sequence[Intent], effect_key: str) -> None:
        """Say whether the intent was recorded, or an effect stood for it already: that has another key."""
        is_new = not isinstance(asked, Intent) or asked.effect_key == effect_key
        self.came_to("recorded" if is_new else "existing")
        if not is_new:
            _quietly(lambda: self._span.set_attributes(_of_effect(effect_key)))

    def _come_to(self, outcome: str, error: str, text: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("tape.outcome", outcome)
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR, text or None))


def current() -> trace.SpanContext | None:
    """The span in which the caller runs; threads do not inherit it. ``None``: there is none, or nobody traces here."""
    api = sys.modules.get("opentelemetry.trace")
    return None if api is None else _quietly(lambda: _valid(api.get_current_span()))


def calling(verb: str, record: Effect | Obligation, caller: trace.SpanContext | None) -> Span:
    """The span of one call, look or inverse of ``record``, which was claimed; ``caller`` is the span of our task."""
    if "opentelemetry.trace" not in sys.modules or not (record.traceparent or caller):
        return UNTRACED
    return _quietly(lambda: _calling(verb, record, caller)) or UNTRACED


def recording(
    submit: Callable[Concatenate[Tape, Asked, P], T],
) -> Callable[Concatenate[Tape, Asked, P], T]:
    """Make the function that records what was asked for do so in a span, if it is called in one: all of its intents
    carry that span's context."""

    @wraps(submit)
    def traced(tape: Tape, asked: Asked, /, *args: P.args, **kwargs: P.kwargs) -> T:
        begun = _quietly(lambda: _begun(asked)) if tape.settings.tracing and current() is not None else None
        if begun is None:
            return submit(tape, asked, *args, **kwargs)
        with begun as ours:
            try:
                result = submit(tape, _carrying(asked, ours.carried), *args, **kwargs)
            except BaseException as error:
                # Its text may name a business key.
                ours.came_to("refused", error=type(error).__qualname__)
                raise
            ours.stands_for(asked, getattr(result, "id", ""))
            return result

    return traced


def _calling(verb: str, record: Effect | Obligation, caller: trace.SpanContext | None) -> Span | None:
    from opentelemetry import trace

    producer = _read(record.traceparent)
    parent = producer or caller
    if parent is None:
        return None
    wanted = {"producer": producer, "call": _read(record.dispatch_traceparent), "caller": caller}
    links = [trace.Link(to, {"tape.link": name}) for name, to in wanted.items() if to is not None]
    attributes = {
        "messaging.operation.type": "process",
        **_about(verb, record.connector, record.effect_key, record.run_id),
        "tape.attempt": record.attempt,
        "tape.token": record.token,
    }
    if isinstance(record, Obligation):
        attributes["tape.obligation_key"] = record.obligation_key
    span = _tracer(trace.get_tracer_provider()).start_span(
        f"{verb} {record.connector}", _within(parent), trace.SpanKind.CONSUMER, attributes, links
    )
    return _Recorded(span)


def _begun(asked: Intent | Sequence[Intent]) -> _Recorded:
    from opentelemetry import trace

    attributes: dict[str, Any] = {"messaging.operation.type": "send"}
    if isinstance(asked, Intent):
        one = asked.connector
        attributes |= _about("record", one, asked.effect_key, asked.run_id)
    else:
        connectors = {intent.connector for intent in asked}
        one = connectors.pop() if len(connectors) == 1 else ""
        attributes |= _about("record", one) | {"messaging.batch.message_count": len(asked)}
    tracer = _tracer(trace.get_tracer_provider())
    return _Recorded(tracer.start_span(f"record {one}".strip(), None, trace.SpanKind.PRODUCER, attributes))


def _about(verb: str, connector: str, effect_key: str = "", run_id: str = "") -> dict[str, Any]:
    """Attributes of both kinds of span, by the conventions for messaging and by our own names. Nothing else may come
    in here: a request, a response or a business key is in no span."""
    told = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": verb,
        "messaging.destination.name": connector,
        "messaging.message.conversation_id": run_id,
        "tape.connector": connector,
        "tape.run_id": run_id,
        **_of_effect(effect_key),
    }
    return {name: value for name, value in told.items() if value}


def _of_effect(effect_key: str) -> dict[str, str]:
    return {"messaging.message.id": effect_key, "tape.effect_key": effect_key}


def _carrying(asked: Asked, traceparent: str) -> Asked:
    if isinstance(asked, Intent):
        return replace(asked, traceparent=traceparent)
    return [replace(intent, traceparent=traceparent) for intent in asked]


@lru_cache(maxsize=4)
def _tracer(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer(SYSTEM, __version__)


def _valid(span: trace.Span) -> trace.SpanContext | None:
    found = span.get_span_context()
    return found if found.is_valid else None


def _within(parent: trace.SpanContext) -> Context:
    from opentelemetry import context, trace

    # A context of its own: what else the caller's has, its baggage for one, is not the effect's.
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), context.Context())


def _written(span: trace.Span) -> str:
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags & 0xFF:02x}" if found.is_valid else ""


def _read(traceparent: str) -> trace.SpanContext | None:
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if not traceparent:
        return None
    found = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, context.Context())
    return _valid(trace.get_current_span(found))


_complained: set[type[BaseException]] = set()


def _quietly(do: Callable[[], T]) -> T | None:
    """What ``do`` returns, or ``None`` where it raises: no effect depends on who watches it."""
    try:
        return do()
    except Exception as error:  # noqa: BLE001 - samplers and processors of the app's may raise anything
        if type(error) not in _complained:
            _complained.add(type(error))
            logger.warning("a span is missing, or not complete: %s", type(error).__qualname__)
        return None
