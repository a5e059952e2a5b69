"""The rule by which an intent is parked because it looks like one that was recorded shortly before. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tape_celery.errors import InvalidIntent
from tape_celery.intent import canonical_json, digest_of, shown

MOST_FIELDS = 20
LONGEST_SECONDS = 366 * 86_400


@dataclass(frozen=True)
class HoldSimilar:
    """Park an intent as HELD where another of its connector had the same ``fields`` within that many seconds before.

    ``fields`` are the places in the request that are compared, by name; a dot leads into an object
    (``"to.iban"``). They are compared as they stand in the JSON: 100, 100.0 and "100" are three values. ``within`` is
    in seconds, on the database's clock. What FAILED or was CANCELLED does not count, and what was recorded without a
    rule, or with a rule of other fields, is not compared. Raises `InvalidIntent` for a rule that cannot work.
    """

    fields: Sequence[str]
    within: float

    def __post_init__(self) -> None:
        fields = tuple(self.fields) if isinstance(self.fields, list | tuple) else ()
        named = all(isinstance(field, str) and all(field.split(".")) for field in fields)
        if not (1 <= len(fields) <= MOST_FIELDS and named):
            raise InvalidIntent(
                f"fields of hold_similar must be a list of 1 to {MOST_FIELDS} names of fields, not {shown(self.fields)}"
            )
        span = self.within
        if isinstance(span, bool) or not isinstance(span, int | float) or not 0 < span <= LONGEST_SECONDS:
            raise InvalidIntent(
                f"within of hold_similar must be a number of seconds above 0, {LONGEST_SECONDS} at most, not "
                f"{shown(span)}"
            )
        object.__setattr__(self, "fields", fields)


def checked(rule: Any) -> HoldSimilar | None:
    """``rule`` as a `HoldSimilar`: one, or a dict that spells one, as a message carries it. `InvalidIntent` if not."""
    if rule is None or isinstance(rule, HoldSimilar):
        return rule
    if isinstance(rule, Mapping) and set(rule) == {"fields", "within"}:
        return HoldSimilar(rule["fields"], rule["within"])
    raise InvalidIntent(f"hold_similar must be a HoldSimilar(fields, within), not {shown(rule)}")


def held_by(rule: HoldSimilar | None, request_json: str) -> dict[str, Any]:
    """What an intent with that request carries of ``rule``; `InvalidIntent` names a field that the request lacks."""
    if rule is None:
        return {}
    request = json.loads(request_json)
    chosen = {field: _found(request, field) for field in sorted(set(rule.fields))}
    return {
        "similar_digest": digest_of(canonical_json(chosen, what="hold_similar")),
        "hold_within_ms": max(1, round(rule.within * 1000)),
    }


def _found(request: dict[str, Any], field: str) -> Any:
    value: Any = request
    for part in field.split("."):
        if not isinstance(value, dict) or part not in value:
            raise InvalidIntent(f"hold_similar compares {shown(field)}, and the request has no such field")
        value = value[part]
    return value
