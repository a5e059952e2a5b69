"""The ledger against the journal: what is true of every effect once all is settled. Pure.

The ledger is the upstream's own, one line for each thing that it did or was asked; no row can argue with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tape_celery import EffectStatus
from tape_celery.records import Effect, Obligation, ObligationStatus, Semantics
from tape_celery.state.ends import CONTRADICTION

MOST_SHOWN = 25


@dataclass(frozen=True)
class Asked:
    """What callers were told."""

    accepted: frozenset[str]
    """The keys of the effects whose `.delay` returned."""
    refused: frozenset[str] = frozenset()
    """Those that were asked for under an error that says that nothing was recorded, and not again."""


@dataclass
class Verdict:
    """What was found. It holds if there are no errors; what waits for a person is listed beside them."""

    errors: list[str] = field(default_factory=list)
    stuck: list[tuple[str, str]] = field(default_factory=list)
    """The keys of what is STUCK where the contract lets it be, and why."""
    effects: Counter[str] = field(default_factory=Counter)
    """How many there are of each semantics and end state."""
    obligations: Counter[str] = field(default_factory=Counter)
    bookings: int = 0
    reversals: int = 0


class Book:
    """The upstream's ledger: lines with ``event`` (called, booked, reversed), ``key``, ``ref``, ``token``."""

    def __init__(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self.booked: defaultdict[str, list[str]] = defaultdict(list)
        self.reversed: Counter[str] = Counter()
        self.calls: Counter[tuple[str, str]] = Counter()
        for line in lines:
            match line["event"]:
                case "booked":
                    self.booked[line["key"]].append(line["ref"])
                case "reversed":
                    self.reversed[line["ref"]] += 1
                case "called":
                    self.calls[line["key"], str(line["token"])] += 1


def judge(asked: Asked, effects: Iterable[Effect], obligations: Iterable[Obligation], book: Book) -> Verdict:
    """Hold ``book`` against the rows."""
    found = Verdict(bookings=sum(map(len, book.booked.values())), reversals=book.reversed.total())
    owed: defaultdict[str, list[Obligation]] = defaultdict(list)
    for obligation in obligations:
        owed[obligation.effect_key].append(obligation)
        found.obligations[obligation.status] += 1
    rows = {effect.effect_key: effect for effect in effects}
    for key, effect in rows.items():
        found.effects[f"{effect.semantics} {effect.status}"] += 1
        problems = [*_of_effect(effect, owed[key], book), *_of_obligations(effect, owed[key], book)]
        found.errors += [f"{key} ({effect.connector}, {effect.status}): {problem}" for problem in problems]
        found.stuck += _left_to_people(effect, owed[key])
    found.errors += [f"{key}: accepted and lost" for key in sorted(asked.accepted - rows.keys())]
    found.errors += [f"{key}: refused, and recorded all the same" for key in sorted(asked.refused & rows.keys())]
    found.errors += [f"{key}: booked, and in no row" for key in book.booked if key not in rows]
    found.errors += [
        f"{key}: called {times} times under token {token}" for (key, token), times in book.calls.items() if times > 1
    ]
    return found


def _of_effect(effect: Effect, owed: list[Obligation], book: Book) -> Iterable[str]:
    """CONFIRMED is booked exactly once, net of what was reversed; FAILED and CANCELLED are not booked at all."""
    refs = book.booked.get(effect.effect_key, [])
    if effect.semantics is Semantics.OBSERVE_ONLY:
        yield from [f"it changes nothing, and was booked as {refs}"] if refs else []
    elif effect.status is EffectStatus.CONFIRMED:
        left = {o.external_ref for o in owed if o.status is ObligationStatus.STUCK}
        undone = {o.external_ref for o in owed if o.status is ObligationStatus.COMPENSATED}
        standing = [ref for ref in refs if not book.reversed[ref] and ref not in left]
        expected = [effect.external_ref] if effect.external_ref not in undone | left else []
        if standing != expected:
            yield f"of the bookings {refs} there stand {standing}, not {expected}"
    elif effect.status in (EffectStatus.FAILED, EffectStatus.CANCELLED):
        yield from [f"it was booked as {refs}"] if refs else []
    elif effect.status is not EffectStatus.STUCK:
        yield f"left unsettled: {effect.reason}"
    elif not _may_be_stuck(effect):
        yield f"STUCK, and the contract does not let it be: {effect.reason}"
    elif effect.reason.startswith(CONTRADICTION) and not refs:
        yield f"STUCK as {effect.reason!r}, and it never landed"
    if effect.semantics is Semantics.IDEMPOTENT and len(refs) > 1:
        yield f"booked {len(refs)} times by an upstream that deduplicates: {refs}"


def _of_obligations(effect: Effect, owed: list[Obligation], book: Book) -> Iterable[str]:
    """What is COMPENSATED was reversed once, and nothing else was reversed."""
    by_ref = {obligation.external_ref: obligation for obligation in owed}
    for ref, obligation in by_ref.items():
        times = book.reversed[ref]
        if obligation.status is ObligationStatus.COMPENSATED and times != 1:
            yield f"{ref} is COMPENSATED, and was reversed {times} times"
        elif obligation.status is ObligationStatus.STUCK and times > 1:
            yield f"{ref} was reversed {times} times"
        elif obligation.status not in (ObligationStatus.COMPENSATED, ObligationStatus.STUCK):
            yield f"the reversal of {ref} is left {obligation.status}: {obligation.reason}"
    for ref in book.booked.get(effect.effect_key, []):
        if book.reversed[ref] and ref not in by_ref:
            yield f"{ref} was reversed, and nobody owed it"


def _may_be_stuck(effect: Effect) -> bool:
    """Whether the contract leaves it to a person: late evidence against its end, or an upstream that tells nothing."""
    if effect.reason.startswith(CONTRADICTION):
        return effect.ended_at_ms is not None
    return effect.connector.startswith("blind") and effect.reason.startswith("nothing can observe it")


def _left_to_people(effect: Effect, owed: list[Obligation]) -> list[tuple[str, str]]:
    connector = effect.connector
    left = [(effect.effect_key, f"{connector}: {effect.reason}")] if effect.status is EffectStatus.STUCK else []
    return left + [
        (obligation.obligation_key, f"reversal through {connector}: {obligation.reason}")
        for obligation in owed
        if obligation.status is ObligationStatus.STUCK
    ]
