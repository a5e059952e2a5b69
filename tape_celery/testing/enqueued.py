"""Assertions about what was said to happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tape_celery.records import Effect
from tape_celery.tape import Tape


def assert_enqueued(
    tape: Tape,
    *,
    connector: str | None = None,
    request: Mapping[str, Any] | None = None,
    business_key: str | None = None,
    run_id: str | None = None,
    status: str | None = None,
    count: int | None = None,
) -> list[Effect]:
    """The effects that match, oldest first: one at least, or just ``count``; else `AssertionError` with what is there.

    ``request`` matches where the effect's request has these fields with these values; it may have others. Without
    ``status`` an effect counts whatever has become of it.
    """
    there = _listed(tape)
    found = [
        effect
        for effect in there
        if (connector is None or effect.connector == connector)
        and (business_key is None or effect.business_key == business_key)
        and (run_id is None or effect.run_id == run_id)
        and (status is None or effect.status == status)
        and _contains(effect.request, request or {})
    ]
    if (found and count in (None, len(found))) or count == 0 == len(found):
        return found
    asked = {"connector": connector, "request": request, "business_key": business_key, "run_id": run_id}
    words = ", ".join(f"{name}={value!r}" for name, value in {**asked, "status": status}.items() if value is not None)
    wanted = "one at least" if count is None else count
    raise AssertionError(f"{len(found)} effects match {words or 'anything'}, expected {wanted}; {_told(there)}")


def refute_enqueued(tape: Tape, **match: Any) -> None:
    """No effect matches; takes the keywords of `assert_enqueued`, but ``count``."""
    assert_enqueued(tape, **match, count=0)


def _listed(tape: Tape) -> list[Effect]:
    return tape.effects(limit=10_000)[::-1]


def _contains(request: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(request, dict) and all(
            name in request and _contains(request[name], value) for name, value in wanted.items()
        )
    return bool(request == (list(wanted) if isinstance(wanted, tuple) else wanted))


def _told(there: list[Effect]) -> str:
    if not there:
        return "there are none at all"
    lines = [f"  {e.status} {e.connector} {e.business_key or '-'} {e.request_json[:120]}" for e in there[:20]]
    return f"there are {len(there)}:\n" + "\n".join(lines)
