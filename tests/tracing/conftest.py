"""A process that traces, with OpenTelemetry's own SDK: what it records can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tape_celery import tracing
from tests.celery_wiring.conftest import _own_registry, make_shop  # noqa: F401 - fixtures
from tests.state.stage import Stage


class Traced:
    """The tracing of this process."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def request(self, name: str = "request") -> AbstractContextManager[Any]:
        """A span of the app's, in which it asks for effects."""
        return self.provider.get_tracer("app").start_as_current_span(name)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All that have ended, in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def ours(self, verb: str = "") -> list[ReadableSpan]:
        """Those of effects, or of one operation on them."""
        return [span for span in self.spans if span.name.startswith(f"{verb} scripted" if verb else OURS)]

    def one(self, verb: str) -> ReadableSpan:
        """The only one of that operation."""
        [span] = self.ours(verb)
        return span


OURS = ("record", "dispatch", "observe", "compensate")
MakeTraced = Callable[..., Traced]


@pytest.fixture
def make_traced(monkeypatch: pytest.MonkeyPatch) -> MakeTraced:
    """Makes this process trace, with a provider of the test's making: OpenTelemetry takes one in a process's life."""

    def make(**how: Any) -> Traced:
        made = Traced(TracerProvider(**how))
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", made.provider)
        monkeypatch.setattr(tracing, "_complained", set())
        return made

    return make


@pytest.fixture
def traced(make_traced: MakeTraced) -> Traced:
    """This process traces everything."""
    return make_traced()


@pytest.fixture
def stage(ready_sqlite_url: str) -> Iterator[Stage]:
    """A store, a Tape and a connector that does what the test says."""
    made = Stage(ready_sqlite_url)
    yield made
    assert made.tape.audit() == []
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """`stage`, once on SQLite and once on PostgreSQL."""
    made = Stage(str(request.getfixturevalue(f"ready_{request.param}_url")))
    yield made
    assert made.tape.audit() == []
    made.close()


def written(span: Any) -> str:
    """The context of ``span`` as a row has it."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def links(span: ReadableSpan) -> dict[Any, str]:
    """Where a span leads, by what the link says."""
    return {link.attributes["tape.link"]: written(_Of(link.context)) for link in span.links}


class _Of:
    def __init__(self, context: Any) -> None:
        self.get_span_context = lambda: context
