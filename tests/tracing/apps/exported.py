"""What a traced app does at its start: its spans go to a file, ``SPANS``, as JSON, one a line."""

import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

# Open for as long as the process is there.
file = Path(os.environ["SPANS"]).open("a")  # noqa: SIM115
exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(None) + "\n")
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))  # type: ignore[attr-defined]
