"""Telling of what has come into another state: signals in this process, and webhooks that are effects themselves.

A signal follows the COMMIT in the process that made it: whoever dies in between never sends it, and nobody sends it
later. What must not get lost is a webhook: its intent is part of the transaction that it tells of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tape_celery.intent import Intent, digest_of, new_key
from tape_celery.records import Effect, Obligation, Run, Semantics
from tape_celery.signals import BY_TYPE

WEBHOOK_ATTEMPTS = 1000
"""Backoff ends at a minute, and the window of an idempotent effect after a day: so long a receiver may be away."""


@dataclass(frozen=True)
class Change:
    """``record`` has come from the state ``before`` (``""``: it is new) into another."""

    record: Effect | Obligation | Run
    before: str

    @property
    def type(self) -> str:
        """What it is called: ``effect.stuck``, ``obligation.compensated``, ``run.stuck``."""
        return f"{_KINDS[type(self.record)]}.{self.record.status.lower()}"


_KINDS: dict[type, str] = {Effect: "effect", Obligation: "obligation", Run: "run"}


class Announcer:
    """What one Tape tells, and whom. ``webhook``: the connector of its webhooks (``""``: none), for ``types``."""

    def __init__(self, webhook: str = "", types: Sequence[str] = ()) -> None:
        self._webhook = webhook
        self._types = frozenset(types)

    def intents(self, changes: Iterable[Change]) -> list[Intent]:
        """The webhooks to record in the transaction of ``changes``; none tells of a webhook."""
        if not self._webhook:
            return []
        return [
            _webhook_intent(self._webhook, change)
            for change in changes
            if change.type in self._types and getattr(change.record, "connector", "") != self._webhook
        ]

    def committed(self, changes: Iterable[Change]) -> None:
        """Send the signals of ``changes``; what a receiver raises is logged."""
        for change in changes:
            signal = BY_TYPE.get(change.type)
            if signal is not None and signal.receivers:
                sender = getattr(change.record, "connector", None)
                signal.send(sender=sender, before=change.before, **{_KINDS[type(change.record)]: change.record})


def _webhook_intent(connector: str, change: Change) -> Intent:
    body = json.dumps(message(change), sort_keys=True, separators=(",", ":"))
    key = new_key()
    return Intent(
        effect_key=key,
        connector=connector,
        request_json=body,
        request_digest=digest_of(body),
        idempotency_key=key,
        business_key="",
        run_id=key,
        semantics=Semantics.IDEMPOTENT,
        max_attempts=WEBHOOK_ATTEMPTS,
        traceparent=getattr(change.record, "traceparent", ""),
    )


def message(change: Change) -> dict[str, Any]:
    """The body of a webhook, in the form of Standard Webhooks: https://www.standardwebhooks.com.

    No request, no response and no business key is in it: it may go to a chat. ``text`` says the same in a sentence.
    """
    record = change.record
    names = ("effect_key", "obligation_key", "run_id", "connector", "kind", "attempt", "version")
    data: dict[str, Any] = {name: getattr(record, name) for name in names if hasattr(record, name)}
    data |= {"status": record.status, "from_status": change.before, "reason": record.reason}
    key = getattr(record, "obligation_key", None) or getattr(record, "effect_key", None) or record.run_id
    of = f" of {data['connector']}" if "connector" in data else ""
    text = f"{_KINDS[type(record)]} {key}{of} is {record.status}" + (f": {record.reason}" if record.reason else "")
    at = datetime.fromtimestamp(record.updated_at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {"type": change.type, "timestamp": at.replace("+00:00", "Z"), "data": data, "text": text}
