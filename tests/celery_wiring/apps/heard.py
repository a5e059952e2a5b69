"""Ordinary tasks beside effects: they write what they were given into the upstream's book."""

from typing import Any

from celery import shared_task

from tape_celery import effect
from tests.celery_wiring.upstream import ledger


@shared_task(name="heard.note", bind=True, acks_late=True)
def note(self: Any, first: Any, word: str = "note") -> Any:
    """Write it down under the task's id, and hand it on."""
    ledger().write(key=self.request.id, event="heard", word=word, first=first)
    return {"word": word, "first": first}


@effect(connector="picky", business_key=lambda first, name, **_: f"heard-{name}", name="heard.wire")
def wire(first: Any, name: str, refused: bool = False) -> dict[str, Any]:
    """A wire about what was before."""
    return {"first": first, "name": name, "refused": refused}
