"""What the doctor says: one finding a check, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    PROBLEM = "problem"
    """Effects wait, or a promise does not hold."""
    WARNING = "warning"
    """It works, and will cost something one day."""
    FINE = "fine"


@dataclass(frozen=True)
class Verdict:
    """What one check makes of the facts."""

    severity: Severity
    seen: str
    means: str = ""
    repair: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that the doctor looked at. All but ``name`` and ``severity`` is prose, in plain text."""

    name: str
    """A word that stays the same, by which `docs/doctor.md` tells more."""
    severity: Severity
    seen: str
    """What was seen."""
    means: str = ""
    """What that means; empty where all is fine."""
    repair: str = ""
    """The setting or the command that repairs it."""


def fine(seen: str) -> Verdict:
    """Nothing to do."""
    return Verdict(Severity.FINE, seen)


def warning(seen: str, means: str, repair: str) -> Verdict:
    """Something to see to in working hours."""
    return Verdict(Severity.WARNING, seen, means, repair)


def problem(seen: str, means: str, repair: str) -> Verdict:
    """Something to see to now."""
    return Verdict(Severity.PROBLEM, seen, means, repair)
