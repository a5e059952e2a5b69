"""One look across Celery, the broker, the database, the workers and the connectors: what is wrong, and what repairs it.

`gathering` reads, the checks decide: each is a small pure function of the facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from tape_celery.doctor import broker_checks, celery_checks, fleet_checks, store_checks
from tape_celery.doctor.facts import Facts
from tape_celery.doctor.findings import Finding, Severity, Verdict
from tape_celery.doctor.gathering import gather
from tape_celery.errors import ConfigurationError

if TYPE_CHECKING:
    from tape_celery.tape import Tape

Check = Callable[[Facts], Verdict | None]

GROUPS: Mapping[str, Mapping[str, Check]] = {
    "celery": celery_checks.CHECKS,
    "broker": broker_checks.CHECKS,
    "store": store_checks.CHECKS,
    "fleet": fleet_checks.CHECKS,
}
_ORDER = list(Severity)


def diagnose(tape: Tape) -> list[Finding]:
    """The findings, problems first. Never raises for what it looks at, and takes some seconds at the most."""
    try:
        facts = gather(tape)
    except ConfigurationError as error:
        means = "Neither a worker nor this process can start like this."
        return [
            _finding("settings", Verdict(Severity.PROBLEM, f"{type(error).__name__}: {error}", means, "as it says"))
        ]
    return examine(facts)


def examine(facts: Facts) -> list[Finding]:
    """What the checks make of ``facts``, problems first."""
    return sorted(_all(facts), key=lambda finding: _ORDER.index(finding.severity))


def _all(facts: Facts) -> Iterator[Finding]:
    for group, checks in GROUPS.items():
        if _missing(group, facts) is not None:
            yield _not_seen(group, _missing(group, facts) or "")
            continue
        for name, check in checks.items():
            try:
                verdict = check(facts)
            except Exception as error:  # noqa: BLE001 - a check that cannot be made stops no other
                yield _not_seen(name, f"{type(error).__name__}: {error}")
                continue
            if verdict is not None:
                yield _finding(name, verdict)


def _missing(group: str, facts: Facts) -> str | None:
    """Why nothing of a group can be looked at. That the broker or the store is away is a finding of its own."""
    if group in ("celery", "broker") and facts.celery is None:
        return facts.unseen.get("celery", "")
    if group == "fleet" and facts.fleet is None:
        return facts.unseen.get("fleet", "")
    return None


def _finding(name: str, verdict: Verdict) -> Finding:
    return Finding(name=name, severity=verdict.severity, seen=verdict.seen, means=verdict.means, repair=verdict.repair)


def _not_seen(name: str, why: str) -> Finding:
    means = "Nobody knows how it stands with this."
    return _finding(name, Verdict(Severity.WARNING, f"could not look: {why}", means, "what it says; then look again"))


__all__ = ["GROUPS", "Facts", "Finding", "Severity", "diagnose", "examine", "gather"]
