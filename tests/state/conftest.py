import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tape_celery import state
from tape_celery.intent import Intent
from tape_celery.records import Effect
from tape_celery.store.intents import effect_of
from tests.invariants import broken_invariants
from tests.state.stage import S, Stage


@pytest.fixture
def stage(ready_url: str) -> Iterator[Stage]:
    """A stage on each database; at its end the audit is empty and every journal replays to its row."""
    made = Stage(ready_url)
    yield made
    if not os.environ.get("TAPE_TEST_SKIP_AUDIT"):
        assert broken_invariants(made.tape.database) == []
        for effect in made.tape.effects(limit=1000):
            assert_replays(made, effect)
    made.close()


def assert_replays(stage: Stage, effect: Effect) -> None:
    """The journal of ``effect``, replayed through the transition function, gives its row."""
    first, *entries = stage.tape.journal(effect.effect_key)
    facts = first.evidence
    recorded = effect_of(
        Intent(
            effect_key=effect.effect_key,
            connector=effect.connector,
            request_json=effect.request_json,
            request_digest=facts["request_digest"],
            idempotency_key=effect.idempotency_key,
            business_key=effect.business_key,
            run_id=effect.run_id,
            semantics=effect.semantics,
            max_attempts=facts["max_attempts"],
            due_at_ms=facts["due_at_ms"],
            expires_at_ms=facts["expires_at_ms"],
        ),
        first.at_ms,
        0,
    )
    recorded = replace(recorded, status=S(first.status), reason=facts.get("reason", ""))
    replayed = state.replay(recorded, entries)
    for name in (
        "status", "reason", "attempt", "unsent", "looks", "watches", "token", "dispatch_token", "claim_nonce",
        "lease_until_ms", "may_have_landed", "might_before", "landed", "landed_ref", "cancel_requested", "absent",
        "external_ref",
        "due_at_ms", "settled_at_ms", "first_sent_at_ms", "ended_at_ms", "holds_business_key", "version", "reissued_as",
    ):  # fmt: skip
        assert getattr(replayed, name) == getattr(effect, name), name
