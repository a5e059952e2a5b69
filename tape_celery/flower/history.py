"""What the journal of an effect or obligation tells: its calls, and what each entry says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tape_celery.flower import wording
from tape_celery.records import JournalEntry


@dataclass(frozen=True)
class Attempt:
    """One call, as the journal has it."""

    number: int
    worker: str
    began_ms: int
    ended_ms: int | None
    outcome: str
    status: str


def attempts(journal: list[JournalEntry]) -> list[Attempt]:
    """The calls of an effect or obligation, oldest first."""
    calling = ("DISPATCHING", "COMPENSATING")
    found: list[Attempt] = []
    for entry in journal:
        if entry.status in calling and entry.from_status not in calling:
            found.append(Attempt(len(found) + 1, entry.actor, entry.at_ms, None, "under way", entry.status))
        elif entry.from_status in calling and entry.status not in calling and found:
            began = found[-1]
            found[-1] = Attempt(began.number, began.worker, began.began_ms, entry.at_ms, entry.kind, entry.status)
    return found


_TOLD_ELSEWHERE = frozenset({"event", "nonce", "token", "terms", "request_digest", "backoff_ms"})


def facts(entry: JournalEntry) -> list[tuple[str, str]]:
    """What a journal entry says beyond what its line shows, as names and values."""
    told = {name: value for name, value in entry.evidence.items() if name not in _TOLD_ELSEWHERE}
    return [_fact(name, value) for name, value in told.items() if value not in (None, "", False, [])]


def _fact(name: str, value: Any) -> tuple[str, str]:
    if name.endswith("_ms") and isinstance(value, int):
        at = name.endswith(("_at_ms", "_until_ms"))
        return name.removesuffix("_ms").replace("_", " "), wording.exact(value) if at else wording.span(value)
    return name.replace("_", " "), "yes" if value is True else str(value)
