"""Ordinary tasks beside effects: they write what they were given into the upstream's book."""

from typing import Any

from celery import shared_task

from tape_celery import effect
from tests.celery_wiring.upstream import ledger


@shared_task(name="heard.note", bind=True, acks_late=True, ignore_result=True)
def note(self: Any, first: Any, word: str = "note") -> Any:
    """Write it down under the task's id, and hand it on."""
    ledger().write(key=self.request.id, event="heard", word=word, first=first)
    return {"word": word, "first": first}


@effect(connector="picky", business_key=lambda first, name, **_: f"heard-{name}", name="heard.wire")
def wire(first: Any, name: str, answer: str = "") -> dict[str, Any]:
    """A wire about what was before."""
    return {"first": first, "name": name, "answer": answer}


@shared_task(name="heard.errback", acks_late=True)
def errback(task_id: str) -> None:
    """Write down what went wrong, by its id: Celery runs a callback of one argument as a task of its own."""
    ledger().write(key=task_id, event="heard", word="errback", first=task_id)
