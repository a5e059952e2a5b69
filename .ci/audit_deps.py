"""Asks a database of advisories, with pip-audit, about everything that a lock file names.

``python .ci/audit_deps.py LOCKFILE [OPTIONS OF PIP-AUDIT]``. Exit codes: 0, everything was asked about and nothing is
known; 1, something is known; 2, nothing is known, but not everything could be asked about.

A place that answers "nothing" to everything looks like a clean audit. So it is asked first about a version of which
something is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KNOWN_TO_BE_BAD = "jinja2==2.11.2"
"""PYSEC-2021-66."""
CLEAN, FOUND, NOT_ASKED = 0, 1, 2


def main(lock: str, *options: str) -> int:
    """Audit ``lock`` and say what came of it; returns the exit code."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            known = Path(directory, "known.txt")
            known.write_text(KNOWN_TO_BE_BAD)
            check_that_it_knows(audited(known, "--no-deps", *options))
        code, lines = judged(audited(Path(lock), "--require-hashes", *options))
    except NotAsked as why:
        code, lines = NOT_ASKED, [f"could not ask: {why}"]
    print(*lines, sep="\n", file=sys.stderr if code else sys.stdout)
    return code


class NotAsked(Exception):
    """Nobody answered."""


def audited(requirements: Path, *options: str) -> dict[str, Any]:
    """What pip-audit reports. Raises `NotAsked` where it reports nothing."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner=off", "--format=json"]
    command += ["--requirement", str(requirements), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - said by who runs it
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise NotAsked((done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]) from None
    return report


def check_that_it_knows(report: dict[str, Any]) -> None:
    """Raise `NotAsked` unless something was found about what is known to be bad."""
    for one in report["dependencies"]:
        if "skip_reason" in one:
            raise NotAsked(one["skip_reason"])
    if not any(one["vulns"] for one in report["dependencies"]):
        raise NotAsked(f"who was asked knows nothing of {KNOWN_TO_BE_BAD}, of which much is known")


def judged(report: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit code and the lines for what pip-audit reports of the lock file."""
    asked = [one for one in report["dependencies"] if "skip_reason" not in one]
    skipped = [one for one in report["dependencies"] if "skip_reason" in one]
    lines = [
        f"found: {one['name']} {one['version']}: {bad['id']}, repaired in {', '.join(bad['fix_versions']) or 'none'}"
        for one in asked
        for bad in one["vulns"]
    ]
    found = len(lines)
    lines += [f"could not ask about {one['name']}: {one['skip_reason']}" for one in skipped]
    if not asked and not skipped:
        return NOT_ASKED, ["could not ask: no package was named"]
    lines.append(f"{len(asked)} packages asked about, {found} advisories found, {len(skipped)} not asked about")
    return FOUND if found else NOT_ASKED if skipped else CLEAN, lines


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
