"""The journal of every row, replayed through the product's transition functions, gives the row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from tape_celery import obligation_state, state
from tape_celery.errors import NotAllowed
from tape_celery.events import from_evidence
from tape_celery.intent import Intent
from tape_celery.records import JournalEntry, ObligationStatus
from tape_celery.store import chains
from tape_celery.store.intents import effect_of
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, read_entry
from tests.simulation.store import Tables

_OF_EFFECTS = (
    "status", "reason", "attempt", "unsent", "looks", "watches", "token", "dispatch_token", "claim_nonce",
    "lease_until_ms", "may_have_landed", "might_before", "landed", "landed_ref", "cancel_requested", "absent",
    "external_ref", "due_at_ms", "settled_at_ms", "first_sent_at_ms", "ended_at_ms", "holds_business_key", "version",
)  # fmt: skip
_OF_OBLIGATIONS = (
    "status", "reason", "attempt", "unsent", "looks", "token", "dispatch_token", "claim_nonce", "lease_until_ms",
    "may_have_landed", "might_before", "landed", "settled_at_ms", "first_sent_at_ms", "version",
)  # fmt: skip
"""And ``due_at_ms``."""


def replayed_differently(tables: Tables) -> Iterator[str]:
    """Every row that is not what its journal makes of it."""
    journals: dict[str, list[JournalEntry]] = {}
    for row in tables.rows("SELECT * FROM tape_journal ORDER BY key, seq"):
        journals.setdefault(row["key"], []).append(read_entry(row))  # type: ignore[arg-type]
    yield from _unchained(tables)
    for row in tables.rows("SELECT * FROM tape_effects"):
        yield from _differs(row["effect_key"], row, journals, _effects, _OF_EFFECTS)
    for row in tables.rows("SELECT * FROM tape_obligations"):
        yield from _differs(row["obligation_key"], row, journals, _obligations, (*_OF_OBLIGATIONS, "due_at_ms"))


def _unchained(tables: Tables) -> Iterator[str]:
    """Every row whose journal is not one chain of digests up to it."""
    journals: dict[str, list[dict[str, Any]]] = {}
    for row in tables.rows("SELECT * FROM tape_journal ORDER BY key, seq"):
        journals.setdefault(row["key"], []).append(dict(row))
    stands = {row["effect_key"]: row for row in tables.rows("SELECT * FROM tape_effects")}
    stands |= {row["obligation_key"]: row for row in tables.rows("SELECT * FROM tape_obligations")}
    for key, entries in journals.items():
        row = stands[key]
        for found in chains.broken(key, entries, (row["version"], row["status"])):
            yield f"{key}: violates: {found.invariant} ({found.detail})"
        if not all(entry["digest"] for entry in entries):
            yield f"{key}: an entry has no digest"


def _effects(row: sqlite3.Row, entries: list[JournalEntry]) -> tuple[Any, Any]:
    stands: Any = EFFECTS.read(row)  # type: ignore[arg-type]
    first, *later = entries
    names = ("effect_key", "connector", "request_json", "request_digest", "idempotency_key", "business_key", "run_id")
    facts = {name: getattr(stands, name) for name in (*names, "semantics")}
    told = {name: first.evidence[name] for name in ("max_attempts", "due_at_ms", "expires_at_ms")}
    return state.replay(effect_of(Intent(**facts, **told), first.at_ms, 0), later), stands


def _obligations(row: sqlite3.Row, entries: list[JournalEntry]) -> tuple[Any, Any]:
    stands: Any = OBLIGATIONS.read(row)  # type: ignore[arg-type]
    first, *later = entries
    fresh = {field.name: field.default for field in fields(stands) if field.name in _OF_OBLIGATIONS}
    fresh |= {"status": ObligationStatus(first.status), "reason": first.evidence["reason"]}
    born = replace(stands, **fresh, due_at_ms=first.at_ms if first.status == "PENDING" else None)
    for entry in later:
        event, terms = from_evidence(entry.evidence, at_ms=entry.at_ms, actor=entry.actor)
        born = obligation_state.decide(born, event, terms).after
    return born, stands


def _differs(
    key: str,
    row: sqlite3.Row,
    journals: dict[str, list[JournalEntry]],
    both: Callable[[sqlite3.Row, list[JournalEntry]], tuple[Any, Any]],
    names: tuple[str, ...],
) -> Iterator[str]:
    try:
        replayed, stands = both(row, journals[key])
    except NotAllowed as refused:
        yield f"{key}: its journal cannot be replayed: {refused}"
        return
    for name in names:
        given, seen = getattr(replayed, name), getattr(stands, name)
        if name == "lease_until_ms":  # renewals are not journaled
            given, seen = given is None, seen is None
        if given != seen:
            yield f"{key}: the journal gives {name} {given!r}, the row says {seen!r}"
