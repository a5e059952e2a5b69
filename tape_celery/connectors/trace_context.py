"""What tells an upstream which span a call is: W3C's headers, so that its own spans are children of the call's.

`tape_celery.tracing` marks the context in which a span of ours is current. Without that mark nothing is sent: what else
is current, a span of the worker's own task for one, is not the effect's, and where nobody traces this costs one look
into a dictionary.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tape_celery.connectors.references import HEADER_VALUE
from tape_celery.loggers import logger_for

if TYPE_CHECKING:
    from opentelemetry.context import Context

logger = logger_for(__name__)

FIELDS = frozenset({"traceparent", "tracestate"})
"""The headers, one of which means nothing without the other."""
_MARK = "tape_celery-traced"


def marked(within: Context) -> Context:
    """``within``, as one whose current span is that of a call, a look or an inverse."""
    from opentelemetry import context

    return context.set_value(_MARK, True, within)


def trace_headers() -> dict[str, str]:
    """The headers of the current span, if it is one of ours or within one; by the propagators that the app has set,
    and no others than W3C's, baggage never. Raises nothing: no call depends on who watches it."""
    if "opentelemetry.context" not in sys.modules:
        return {}
    from opentelemetry import context

    if not context.get_value(_MARK):
        return {}
    try:
        from opentelemetry import propagate, trace

        carrier: dict[str, str] = {}
        # A context of its own, which holds the span and no baggage.
        propagate.inject(carrier, trace.set_span_in_context(trace.get_current_span(), context.Context()))
        return {name: text for name, text in carrier.items() if name in FIELDS and HEADER_VALUE.fullmatch(text)}
    except Exception as error:  # noqa: BLE001 - propagators and exporters of the app's may raise anything
        logger.debug("a call is sent without its trace: %s", type(error).__qualname__)
        return {}
