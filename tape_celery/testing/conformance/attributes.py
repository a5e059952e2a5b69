"""What a connector says of itself, checked without calling it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tape_celery.connectors import base
from tape_celery.errors import TapeError
from tape_celery.testing.conformance.report import RIGHT, SAFE, WRONG, Row
from tape_celery.testing.stores import kept_registry

_SEMANTICS = ("idempotent", "non_idempotent")


def attribute_rows(connector: Any) -> Iterator[Row]:
    """A row for each thing that the engine reads of a connector."""

    def row(what: str, found: Any, allowed: str, verdict: str, note: str = "") -> Row:
        return Row("attributes", what, "", str(found)[:60], allowed, verdict, note)

    with kept_registry():
        try:
            base.register(connector)
            yield row("it can be registered", repr(getattr(connector, "name", None)), "a name, spans that work", RIGHT)
        except (TapeError, AttributeError) as error:
            yield row("it can be registered", type(error).__name__, "a name, spans that work", WRONG, str(error)[:200])
    has = callable(getattr(connector, "dispatch", None))
    yield row("it has dispatch", has, "True", RIGHT if has else WRONG)
    for verb, claims in (("observe", base.can_observe(connector)), ("compensate", base.can_compensate(connector))):
        has = callable(getattr(connector, verb, None))
        wrong = claims and not has
        yield row(f"it has {verb} if it says so", f"{claims}, {has}", "both or neither", WRONG if wrong else RIGHT)
    said = getattr(connector, "compensation_semantics", "non_idempotent")
    allowed = " or ".join(_SEMANTICS)
    yield row("compensation_semantics", said, allowed, RIGHT if said in _SEMANTICS else WRONG)
    total = getattr(connector, "total_seconds", None)
    note = "" if total else "without it a call is bounded by its lease alone"
    yield row("total_seconds", total, "a bound in seconds", RIGHT if total else SAFE, note)
    look = getattr(connector, "observe_compensation", None)
    works = look is None or callable(look)
    yield row(
        "observe_compensation", "none" if look is None else "there", "a method, if any", RIGHT if works else WRONG
    )
