"""The effects and obligations that a connector is called with in its conformance tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tape_celery import intent
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, Semantics


def an_effect(
    connector: str,
    request: Mapping[str, Any],
    *,
    semantics: str = "non_idempotent",
    business_key: str = "",
    run_id: str = "",
) -> Effect:
    """An effect as the engine hands it to ``dispatch``: claimed for its first attempt."""
    key = intent.new_key()
    text = intent.canonical_json(dict(request))
    return Effect(
        effect_key=key,
        connector=intent.check_connector_name(connector),
        semantics=Semantics(semantics),
        status=EffectStatus.DISPATCHING,
        idempotency_key=key,
        business_key=intent.check_business_key(business_key or f"conformance-{key}"),
        run_id=intent.check_run_id(run_id or key),
        request_json=text,
        request_digest=intent.digest_of(text),
        attempt=1,
        token=1,
        dispatch_token=1,
    )


def an_obligation(effect: Effect, external_ref: str) -> Obligation:
    """The obligation to undo ``external_ref``, as the engine hands it to ``compensate``."""
    key = intent.new_key()
    payload = {
        "external_ref": external_ref,
        "effect_key": effect.effect_key,
        "idempotency_key": effect.idempotency_key,
        "business_key": effect.business_key,
        "run_id": effect.run_id,
        "kind": "owed",
        "request": effect.request,
    }
    return Obligation(
        obligation_key=key,
        effect_key=effect.effect_key,
        run_id=effect.run_id,
        connector=effect.connector,
        kind="owed",
        external_ref=external_ref,
        payload_json=json.dumps(payload, sort_keys=True, separators=(",", ":")),
        status=ObligationStatus.COMPENSATING,
        idempotency_key=f"compensate:{key}",
        attempt=1,
        token=1,
        dispatch_token=1,
    )
