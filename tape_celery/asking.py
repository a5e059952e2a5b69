"""From the arguments of a call to the intent that it asks for; what is wrong is named, and nothing is recorded then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tape_celery import authored, calling_task, canvas, intent, outcomes, runs, similar, values
from tape_celery.authored import Authored
from tape_celery.connectors import base
from tape_celery.errors import InvalidIntent, UnsafeEffect
from tape_celery.intent import Intent
from tape_celery.records import Semantics

if TYPE_CHECKING:
    from tape_celery.tape import Tape

_KEYWORDS = frozenset(
    {
        "business_key",
        "run_id",
        "idempotency_key",
        "semantics",
        "max_attempts",
        "allow_unsafe",
        "priority",
        "ordering_key",
        "hold_similar",
        "session",
        "chain",
        "chord",
        *canvas.OPTIONS,
    }
)


def asked(
    tape: Tape,
    args: Any,
    kwargs: Any,
    options: Mapping[str, Any],
    *,
    task_id: str | None = None,
    effect_name: str = "",
) -> tuple[Intent, Any]:
    """The intent that a call asks for, and the session that it is to be part of; raises `InvalidIntent`."""
    when = {name: value for name, value in options.items() if name in ("countdown", "eta", "expires")}
    others = {name: value for name, value in options.items() if name not in when}
    connector, request, keywords = _unpack(args, kwargs, others)
    session = keywords.pop("session", None)
    due = _when(when.get("countdown"), when.get("eta"), when.get("expires"))
    return _intent(tape, connector, request, keywords, due, task_id=task_id, effect_name=effect_name), session


def check_arguments(args: Any, kwargs: Any) -> None:
    """Raise `InvalidIntent` where ``args`` and ``kwargs`` are not what Celery's calls take."""
    if not isinstance(args, list | tuple):
        raise InvalidIntent(f"args must be a list or tuple, not a {type(args).__name__}")
    if not isinstance(kwargs, Mapping | None):
        raise InvalidIntent(f"kwargs must be a dict, not a {type(kwargs).__name__}")


def _unpack(args: Any, kwargs: Any, options: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    check_arguments(args, kwargs)
    keywords: dict[Any, Any] = {**(kwargs or {}), **options}
    names = ("connector", "request")
    if len(args) > len(names):
        raise InvalidIntent(f"expected connector and request, and {len(args)} positional arguments came")
    for name, value in zip(names, args, strict=False):
        if name in keywords:
            raise InvalidIntent(f"{name} was given twice")
        keywords[name] = value
    missing = [name for name in names if name not in keywords]
    if missing:
        raise InvalidIntent(f"{' and '.join(missing)} missing; expected connector, request")
    connector, request = keywords.pop("connector"), keywords.pop("request")
    unknown = [name for name in keywords if name not in _KEYWORDS]
    if unknown:
        raise InvalidIntent(f"there is no option {intent.shown(unknown[0])}; there are {', '.join(sorted(_KEYWORDS))}")
    return connector, request, keywords


def _intent(
    tape: Tape,
    connector: Any,
    request: Any,
    keywords: Mapping[str, Any],
    when: Mapping[str, Any],
    *,
    task_id: str | None,
    effect_name: str,
) -> Intent:
    settings = tape.settings
    intent.check_connector_name(connector)
    request_json = values.request_json(request, max_bytes=settings.max_payload_bytes)
    if connector in base.names() and (refused := base.refusal(base.get(connector), request_json)) is not None:
        said = outcomes.reason_of(outcomes.describe(refused))
        raise InvalidIntent(f"connector {connector!r} does not take this request: {said}") from refused
    digest = intent.digest_of(request_json)
    semantics = intent.check_semantics(keywords.get("semantics", Semantics.NON_IDEMPOTENT))
    business_key = keywords.get("business_key")
    business_key = "" if business_key is None else intent.check_business_key(business_key)
    allow_unsafe = keywords.get("allow_unsafe")
    if not isinstance(allow_unsafe, bool | None):
        raise InvalidIntent(f"allow_unsafe must be True or False, not {intent.shown(allow_unsafe)}")
    if not (isinstance(effect_name, str) and effect_name == ""):
        intent.check_effect_name(effect_name)
    if not allow_unsafe:
        _refuse_unsafe(tape, connector, semantics, business_key, effect_name)
    effect_key = intent.new_key() if task_id is None else intent.check_effect_key(task_id)
    idempotency_key = keywords.get("idempotency_key")
    if idempotency_key is None:
        idempotency_key = calling_task.derived_key(connector, business_key, digest) or effect_key
    held = similar.held_by(similar.checked(keywords.get("hold_similar")), request_json)
    run_id = keywords.get("run_id")
    named_run = runs.surrounding(tape) if run_id is None else intent.check_run_id(run_id)
    max_attempts = keywords.get("max_attempts")
    priority, ordering_key = keywords.get("priority"), keywords.get("ordering_key")
    return Intent(
        effect_key=effect_key,
        connector=connector,
        effect_name=effect_name,
        request_json=request_json,
        request_digest=digest,
        idempotency_key=intent.check_idempotency_key(idempotency_key),
        business_key=business_key,
        run_id=named_run or calling_task.root_run_id() or effect_key,
        in_run=named_run is not None,
        semantics=semantics,
        max_attempts=settings.max_attempts if max_attempts is None else intent.check_max_attempts(max_attempts),
        priority=0 if priority is None else intent.check_priority(priority),
        ordering_key="" if ordering_key is None else intent.check_ordering_key(ordering_key),
        callbacks=canvas.wanted(tape.app, keywords, max_bytes=settings.max_payload_bytes),
        **held,
        **when,
    )


def _refuse_unsafe(tape: Tape, connector: str, semantics: Semantics, business_key: str, effect_name: str) -> None:
    """Refuse what nobody could ever resolve. What a connector can that no module of this process has, nobody can say
    here: its effect is taken, and waits for a worker that knows it."""
    if semantics is not Semantics.NON_IDEMPOTENT or business_key:
        return
    if connector not in base.names():
        tape.import_connectors()
    check_resolvable(connector, authored.by_name.get(effect_name, Authored()))


def check_resolvable(connector: str, own: Authored) -> None:
    """Raise `UnsafeEffect` where this process knows the connector, and neither that nor ``own`` can look or undo."""
    if connector not in base.names():
        return
    known = base.get(connector)
    if not (base.can_observe(known) or base.can_compensate(known) or own.status_check or own.compensate):
        raise UnsafeEffect(
            f"a non-idempotent effect through {connector!r} without a business_key could never be resolved if its "
            "answer were lost: the connector can neither observe nor compensate, and there is no status_check. "
            "Give a business_key, or allow_unsafe=True"
        )


def _when(countdown: Any, eta: Any, expires: Any) -> dict[str, Any]:
    when: dict[str, Any] = {}
    if countdown is not None and eta is not None:
        raise InvalidIntent("give countdown or eta, not both")
    if countdown is not None:
        when["delay_ms"] = _span("countdown", countdown)
    if eta is not None:
        when["due_at_ms"] = _instant("eta", eta)
    if isinstance(expires, datetime):
        when["expires_at_ms"] = _instant("expires", expires)
    elif expires is not None:
        when["expires_in_ms"] = _span("expires", expires)
    return when


def _span(name: str, value: Any) -> int:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e10:
        raise InvalidIntent(f"{name} must be a number of seconds of 0 or more, not {intent.shown(value)}")
    return round(seconds * 1000)


def _instant(name: str, value: Any) -> int:
    if not isinstance(value, datetime):
        raise InvalidIntent(f"{name} must be a datetime, not {intent.shown(value)}")
    if value.utcoffset() is None:
        raise InvalidIntent(f"{name} must carry a time zone, and {value.isoformat()} has none")
    return round(value.timestamp() * 1000)
