"""Whatever is passed to ``.delay()``: a row that says what was asked, or an error that says why there is none."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

from hypothesis import given
from pydantic_core import to_jsonable_python

from tape_celery.errors import InvalidIntent, TapeError
from tape_celery.records import Effect
from tests.hostile import arguments
from tests.hostile.arguments import CANARY
from tests.hostile.conftest import Examples
from tests.hostile.store_rows import NOTHING, counted, emptied
from tests.state.stage import Stage

LONGEST_MESSAGE = 12_000
"""The way to a value is told, a hundred levels of it; the value itself is cut."""


def tried(stage: Stage, *args: Any, **options: Any) -> Effect | None:
    """The row that came of a call, if it was taken; what must be true of a refusal is seen to here."""
    emptied(stage.tape)
    refused: TapeError | None = None
    try:
        with arguments.live():
            handle = stage.tape.effect.apply_async(*args, **options)
    except TapeError as error:
        refused = error
    if refused is None:
        assert counted(stage.tape) == NOTHING | {"tape_effects": 1, "tape_journal": 1}
        return stage.get(handle.id)
    assert isinstance(refused, InvalidIntent), "what was asked for is not the store's fault"
    assert str(refused).isprintable(), "it is harmless in a log"
    assert 0 < len(str(refused)) < LONGEST_MESSAGE
    assert CANARY not in str(refused)
    assert counted(stage.tape) == NOTHING
    return None


def says_what_was_asked(effect: Effect, connector: Any, request: Any, asked: dict[str, Any]) -> None:
    """Field by field, by nothing but the arguments."""
    assert (effect.connector, effect.status, effect.effect_name) == (connector, "PENDING", "")
    assert effect.request == json.loads(json.dumps(request, default=to_jsonable_python))
    assert asked.get("task_id") in (None, effect.effect_key)
    for name, default in {
        "business_key": "",
        "run_id": effect.effect_key,
        "idempotency_key": effect.effect_key,
        "semantics": "non_idempotent",
        "max_attempts": 5,
    }.items():
        wanted = asked.get(name)
        assert getattr(effect, name) == (default if wanted is None else wanted), name
    now = effect.created_at_ms
    countdown, eta, expires = (asked.get(name) for name in ("countdown", "eta", "expires"))
    assert effect.due_at_ms == (max(now, _ms(eta)) if eta else now + _span_ms(countdown))
    if isinstance(expires, datetime):
        assert effect.expires_at_ms == _ms(expires)
    else:
        assert effect.expires_at_ms == (None if expires is None else now + _span_ms(expires))


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _span_ms(span: Any) -> int:
    return round((span.total_seconds() if hasattr(span, "total_seconds") else span or 0) * 1000)


def test_any_request_under_any_options_is_recorded_as_it_was_asked_or_refused(stage: Stage, examples: Examples) -> None:
    """No other exception, no secret of the payload in a message, and no row of a call that raised."""
    seen: Counter[bool] = Counter()

    @examples(250)
    @given(arguments.words | arguments.showable, arguments.requests, arguments.sound_options | arguments.any_options)
    def check(connector: Any, request: Any, options: dict[str, Any]) -> None:
        effect = tried(stage, (connector, request), **options)
        seen[effect is not None] += 1
        if effect is not None:
            says_what_was_asked(effect, connector, request, options)

    check()
    assert seen[True]
    assert seen[False]


def test_what_is_sound_is_taken(stage: Stage, examples: Examples) -> None:
    """Whatever letters are in it, whatever is left out."""

    @examples(100)
    @given(arguments.words, arguments.payloads, arguments.sound_options)
    def check(connector: str, request: Any, options: dict[str, Any]) -> None:
        effect = tried(stage, (connector, request), **options)
        assert effect is not None
        says_what_was_asked(effect, connector, request, options)

    check()
