"""The verdict: does the bank's ledger say what the journal says? Pure, over what was asked, journaled, booked, owed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tape_celery.demo.ledger import BOOKED, REVERSED, Entry
from tape_celery.demo.orders import Wire
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, Violation


@dataclass(frozen=True, kw_only=True)
class Row:
    """One wire, as the journal has it beside how the bank has it."""

    wire: Wire
    effect: Effect | None
    booked: tuple[str, ...]
    """The references of all bookings, oldest first."""
    taken_back: tuple[str, ...]
    """Those of them that were reversed."""
    problems: tuple[str, ...] = ()

    @property
    def standing(self) -> tuple[str, ...]:
        """The bookings that still count."""
        return tuple(ref for ref in self.booked if ref not in self.taken_back)

    @property
    def status(self) -> EffectStatus | None:
        """What the journal says; ``None`` when it knows nothing of the wire."""
        return self.effect.status if self.effect else None

    @property
    def differs(self) -> bool:
        """Whether the ledger, line by line, is not simply what the journal says."""
        expected = 1 if self.status is EffectStatus.CONFIRMED else 0
        return bool(self.problems or self.taken_back) or len(self.booked) != expected


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found. It holds if and only if there are no problems."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Every CONFIRMED wire booked exactly once, every FAILED one not at all, nothing unsettled, nothing owed."""
        return not self.problems

    @property
    def differing(self) -> tuple[Row, ...]:
        """The rows to look at."""
        return tuple(row for row in self.rows if row.differs)

    def with_status(self, status: EffectStatus) -> tuple[Row, ...]:
        """The rows of which the journal says ``status``."""
        return tuple(row for row in self.rows if row.status is status)


def judge(
    *,
    wires: Sequence[Wire],
    effects: Iterable[Effect],
    ledger: Sequence[Entry],
    obligations: Sequence[Obligation],
    violations: Iterable[Violation],
) -> Verdict:
    """Hold the ledger against the journal.

    ``wires``: all that was to be submitted. ``violations``: what `Tape.audit` found.
    """
    effects_of: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        effects_of[effect.business_key].append(effect)
    bookings_of: dict[str, list[Entry]] = defaultdict(list)
    for entry in ledger:
        if entry.kind == BOOKED:
            bookings_of[entry.business_key].append(entry)
    reversals = Counter(entry.reverses for entry in ledger if entry.kind == REVERSED)

    rows = []
    for wire in wires:
        of_wire = effects_of.get(wire.business_key, [])
        bookings = bookings_of.get(wire.business_key, [])
        row = Row(
            wire=wire,
            effect=of_wire[-1] if of_wire else None,
            booked=tuple(entry.ref for entry in bookings),
            taken_back=tuple(entry.ref for entry in bookings if reversals[entry.ref]),
        )
        found = (*_count_problems(row, of_wire), *_content_problems(wire, bookings))
        rows.append(replace(row, problems=found))

    asked = {wire.business_key for wire in wires}
    problems = [f"audit: {violation.invariant}: {violation.key}: {violation.detail}" for violation in violations]
    problems += [f"{row.wire.business_key}: {problem}" for row in rows for problem in row.problems]
    problems += [f"{key}: in the journal, but nobody asked for it" for key in effects_of if key not in asked]
    problems += [f"{key or '(no key)'}: booked, but nobody asked for it" for key in bookings_of if key not in asked]
    problems += _obligation_problems(obligations, reversals)
    return Verdict(rows=tuple(rows), problems=tuple(problems))


def _count_problems(row: Row, effects: Sequence[Effect]) -> list[str]:
    if not effects:
        return ["submitted, but not in the journal"]
    if len(effects) > 1:
        return [f"{len(effects)} effects for one wire"]
    effect, standing = effects[0], row.standing
    if not effect.status.settled:
        return [f"left unsettled: {effect.status}" + (f" ({effect.reason})" if effect.reason else "")]
    if effect.status is not EffectStatus.CONFIRMED:
        return [f"{effect.status}, but booked as {', '.join(standing)}"] if standing else []
    if not standing:
        return ["CONFIRMED, but not booked" + (" any more" if row.booked else "")]
    if len(standing) > 1:
        return [f"CONFIRMED, but booked {len(standing)} times: {', '.join(standing)}"]
    if effect.external_ref != standing[0]:
        return [f"CONFIRMED as {effect.external_ref or '(no reference)'}, but booked as {standing[0]}"]
    return []


def _content_problems(wire: Wire, bookings: Iterable[Entry]) -> list[str]:
    wanted = (wire.creditor_account, wire.amount, wire.currency)
    return [
        f"{entry.ref} books {entry.amount} {entry.currency} to {entry.account}, not what was asked"
        for entry in bookings
        if (entry.account, entry.amount, entry.currency) != wanted
    ]


def _obligation_problems(obligations: Iterable[Obligation], reversals: Counter[str]) -> list[str]:
    owed = set()
    problems = []
    for obligation in obligations:
        owed.add(obligation.external_ref)
        if obligation.status is not ObligationStatus.COMPENSATED:
            why = f" ({obligation.reason})" if obligation.reason else ""
            problems.append(f"{obligation.external_ref}: its reversal is owed and {obligation.status}{why}")
        elif not reversals[obligation.external_ref]:
            problems.append(f"{obligation.external_ref}: reversed according to the journal, but not at the bank")
    problems += [f"{ref}: reversed, but nobody owed it" for ref in reversals if ref not in owed]
    problems += [f"{ref}: reversed {times} times" for ref, times in reversals.items() if times > 1]
    return problems
