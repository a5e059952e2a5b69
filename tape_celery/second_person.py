"""Which acts one person may not do alone: by the connector of an effect, and by the numbers in its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Limits = Mapping[str, Mapping[str, float]]
"""By connector (``*``: every one that is not named), the fields of a request and what each may be; of a connector
without a field, every act needs a second person."""


def why_needed(limits: Limits, connector: str, request: Mapping[str, Any]) -> str:
    """Why an act on an effect with this request needs a second person; ``""`` where it does not.

    A field that is missing, or no number, counts as above its limit. Of a negative number its size counts.
    """
    of_connector = limits.get(connector, limits.get("*"))
    if of_connector is None:
        return ""
    if not of_connector:
        return f"every act on an effect of {connector} needs a second person"
    for field, limit in of_connector.items():
        value = request.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"its {field} is no number, so it counts as above {limit:g}"
        if not abs(value) <= limit:
            return f"its {field} is above {limit:g}"
    return ""
