"""The page that tells of a run: what was injected, what came of it, and whether the verdict holds."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from tape_celery.records import Effect, JournalEntry, Obligation, Violation
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind, R
from tests.soak.gauges import Trend
from tests.soak.verdict import MOST_SHOWN, Asked, Book, Verdict, judge


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run left behind."""

    asked: Asked
    effects: list[Effect]
    obligations: list[Obligation]
    lines: list[dict[str, Any]]
    """The ledger's."""

    def judged(self) -> Verdict:
        """The ledger held against the rows."""
        return judge(self.asked, self.effects, self.obligations, Book(self.lines))


@dataclass(kw_only=True)
class Report:
    """One run. It holds if all was settled, the ledger is the journal's, the audit is empty, and nothing grew."""

    title: str
    seconds: float
    settled: bool
    evidence: Evidence
    verdict: Verdict
    violations: list[Violation]
    trends: list[Trend]
    longest_unknown_seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    misbehaviours: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    ended_by_themselves: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """What callers saw that they never should."""

    @property
    def problems(self) -> list[str]:
        """Why it does not hold."""
        return [
            *([] if self.settled else ["not everything was settled in time"]),
            *self.errors,
            *self.verdict.errors,
            *(f"audit: {v.invariant}: {v.key}: {v.detail}" for v in self.violations),
            *(f"it grew: {trend}" for trend in self.trends if not trend.is_flat),
        ]

    @property
    def holds(self) -> bool:
        return not self.problems

    @property
    def kills(self) -> int:
        """How often something was ended by kill -9."""
        return sum(times for name, times in self.faults.items() if "kill -9" in name)

    def __str__(self) -> str:
        verdict = self.verdict
        lines = [
            self.title,
            f"{self.seconds:.0f} s, {verdict.effects.total()} effects, {self.faults.total()} faults, "
            f"{self.kills} kills, longest UNKNOWN {self.longest_unknown_seconds:.1f} s",
            f"ledger: {verdict.bookings} bookings, {verdict.reversals} of them reversed",
            *_section("faults injected", self.faults),
            *_section("the bank, as it was told", self.misbehaviours),
            *_section("callers and people", self.asked),
            *_section("effects", verdict.effects),
            *_section("obligations", verdict.obligations),
            *_section("processes that ended by themselves", self.ended_by_themselves),
            *_section("left to people, as the contract has it", Counter(why for _, why in verdict.stuck)),
            *_listed("memory and handles, warm and at the end", map(str, self.trends)),
            *_listed("PROBLEMS", self.problems),
            "the verdict " + ("holds" if self.holds else "DOES NOT HOLD"),
        ]
        return "\n".join(lines)


def _section(title: str, counts: Mapping[str, int]) -> list[str]:
    lines = [f"{counts[name]:7d}  {name}" for name in sorted(counts) if counts[name]]
    if never := ", ".join(name for name in sorted(counts) if not counts[name]):
        lines += textwrap.wrap(never, 110, initial_indent="  never  ", subsequent_indent=" " * 9)
    return ["", f"{title}: {sum(counts.values())}", *lines]


def _listed(title: str, lines: Iterable[str]) -> list[str]:
    found = list(lines)
    shown = [f"         {line}" for line in found[:MOST_SHOWN]]
    more = [f"         and {len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
    return ["", f"{title}: {len(found)}", *shown, *more] if found else []


def all_effects(database: Database) -> list[Effect]:
    """Every row, however many there are."""
    return _all(database, EFFECTS)


def all_obligations(database: Database) -> list[Obligation]:
    """Every row."""
    return _all(database, OBLIGATIONS)


def _all(database: Database, kind: Kind[R]) -> list[R]:
    return database.read(
        lambda connection: [kind.read(row) for row in connection.execute(select(kind.table)).mappings()]
    )


def longest_unknown_seconds(entries: Iterable[JournalEntry]) -> float:
    """The longest time that anything was UNKNOWN, of the journal's entries in the order of key and number."""
    longest, since, key = 0, None, ""
    for entry in entries:
        if entry.key != key:
            since, key = None, entry.key
        if entry.status == "UNKNOWN":
            since = entry.at_ms if since is None else since
        elif since is not None:
            longest, since = max(longest, entry.at_ms - since), None
    return longest / 1000
