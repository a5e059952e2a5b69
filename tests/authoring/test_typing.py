"""What is wrong in a call is a type error in mypy, and what is right is none."""

from __future__ import annotations

import re
from pathlib import Path

import mypy.api
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_type_errors_in_calls_are_type_errors_in_mypy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line: each marked line has an error of that kind, and no other line has any."""
    page = Path(__file__).parent / "typed" / "calls.py"
    copy = tmp_path / "calls.py"  # as an app has it: outside of this package, checked by settings of its own
    copy.write_text(page.read_text())
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    arguments = ["--strict", "--follow-imports=silent", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    said, problems, _ = mypy.api.run([*arguments, f"--cache-dir={tmp_path / 'cache'}", str(copy)])
    assert problems == ""
    seen = {(int(line), kind) for line, kind in re.findall(r"calls\.py:(\d+): error: .*\[([a-z-]+)\]", said)}
    lines = enumerate(page.read_text().splitlines(), 1)
    marked = {(number, line.rpartition("# error: ")[2]) for number, line in lines if "# error: " in line}
    assert marked
    assert seen == marked, said
