"""How a page shows what came from outside, and instants."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tornado.escape import xhtml_escape


def visible(value: Any) -> str:
    """Any value as text that shows what it is: characters that steer the terminal or turn the line are written out."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any) -> str:
    """`visible`, for HTML: every ``{{ … }}`` of our templates goes through this."""
    return xhtml_escape(visible(value))


def pretty(body: Any) -> str:
    """JSON, for people."""
    return json.dumps(body, indent=2, ensure_ascii=False, default=str)


def moment(at_ms: int | None) -> str:
    """An instant, in UTC."""
    if at_ms is None:
        return "—"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def exact(at_ms: int) -> str:
    """An instant, in UTC, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


def span(ms: float) -> str:
    """How long, in the largest units that say it."""
    seconds = abs(ms) / 1000
    if seconds < 1:
        return f"{round(abs(ms))} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def distance(at_ms: int, now_ms: int) -> str:
    """An instant as seen from another, to the second: ``3 min ago``, ``now``, ``in 5 s``."""
    whole = round((at_ms - now_ms) / 1000)
    if whole == 0:
        return "now"
    return f"in {span(whole * 1000)}" if whole > 0 else f"{span(whole * 1000)} ago"


def with_query(address: str, asked: dict[str, str]) -> str:
    """An address with what is asked, but for what is empty."""
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{address}?{query}" if query else address
