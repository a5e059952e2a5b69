"""`make audit-deps` tells a clean audit from one that could not ask, and both from a finding."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.upstream import Connection, Request, Upstream

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit_deps.py"
ADVISORY = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}
GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "1.0", "vulns": [ADVISORY]}
UNASKED = {"name": "far", "skip_reason": "Dependency not found on PyPI and could not be audited: far (1.0)"}


@pytest.mark.parametrize(
    ("reported", "code", "says"),
    [
        ([GOOD], 0, "1 packages asked about, 0 advisories found, 0 not asked about"),
        ([GOOD, BAD], 1, "found: bad 1.0: PYSEC-1, repaired in 2.0"),
        ([GOOD, UNASKED], 2, "could not ask about far: Dependency not found on PyPI"),
        ([BAD, UNASKED], 1, "could not ask about far: Dependency not found on PyPI"),
        ([], 2, "could not ask: no package was named"),
    ],
)
def test_what_pip_audit_reports_has_one_of_three_ends(reported: list[Any], code: int, says: str) -> None:
    """Nothing known, something known, and not asked."""
    got, lines = runpy.run_path(str(SCRIPT))["judged"]({"dependencies": reported, "fixes": []})
    assert got == code
    assert any(line.startswith(says) for line in lines)


def advisory_of(name: str) -> dict[str, Any]:
    """As OSV answers."""
    events = [{"introduced": "0"}, {"fixed": "9.9"}]
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"vulns": [{"id": f"OF-{name}", "summary": "bad", "affected": [affected]}]}


@pytest.mark.parametrize(
    ("known", "code", "says"),
    [
        (["jinja2", "lonely"], 1, "found: lonely 1.0: OF-lonely, repaired in 9.9"),
        ([], 2, "could not ask: who was asked knows nothing of jinja2"),
        (None, 2, "could not ask: "),
    ],
    ids=["found", "knows nothing", "refuses"],
)
def test_a_place_that_knows_nothing_is_no_clean_audit(
    tmp_path: Path, known: list[str] | None, code: int, says: str
) -> None:
    """With pip-audit itself, and a database of advisories that answers as one does."""
    pytest.importorskip("pip_audit", reason="pip install '.[release]'")

    def script(connection: Connection, request: Request) -> None:
        name = request.json["package"]["name"]
        connection.answer(503 if known is None else 200, advisory_of(name) if name in (known or []) else {})

    lock = tmp_path / "lock"
    lock.write_text(f"lonely==1.0 --hash=sha256:{'0' * 64}\n")
    with Upstream(script) as database:
        done = subprocess.run(
            [sys.executable, SCRIPT, lock, "--vulnerability-service=osv", f"--osv-url={database.url}"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == code, done
    assert says in done.stdout + done.stderr
    assert [json.loads(one.body)["version"] for one in database.requests][:1] == ["2.11.2"]
