"""Records as the engine hands them to a connector."""

from typing import Any

from tape_celery.records import Effect, Obligation


def an_effect(**changes: Any) -> Effect:
    """An effect under way, as the engine hands it to a connector."""
    fields: dict[str, Any] = {
        "effect_key": "effect-1",
        "connector": "bank.wire",
        "idempotency_key": "idem-1",
        "business_key": "A1:100",
        "run_id": "run-1",
        "request_json": '{"amount":100}',
        "request_digest": "",
        "attempt": 1,
        "token": 7,
    }
    return Effect(**{**fields, **changes})


def an_obligation(**changes: Any) -> Obligation:
    """An obligation under way, as the engine hands it to a connector."""
    fields: dict[str, Any] = {
        "obligation_key": "obligation-1",
        "effect_key": "effect-1",
        "connector": "bank.wire",
        "idempotency_key": "compensate:obligation-1",
        "run_id": "run-1",
        "kind": "owed",
        "external_ref": "wire-1",
        "payload_json": '{"external_ref":"wire-1"}',
        "attempt": 1,
        "token": 3,
    }
    return Obligation(**{**fields, **changes})
