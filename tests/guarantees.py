"""Whether the tests that `docs/guarantees.md` names exist and, in a complete run, ran and passed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guarantees.md"
_NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_passed: set[str] = set()


def named() -> list[tuple[str, str]]:
    """The files, and in them the tests (``""``: all of a file), that the page names."""
    return _NAME.findall(PAGE.read_text())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        _passed.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In a complete run in CI that went well, fail when a test that a guarantee rests on was left out or skipped."""
    if hasattr(session.config, "workerinput") or exitstatus != 0 or not _is_complete(session.config):
        return
    if missing := not_passed():
        print("\nguarantees without a test that ran:", *missing, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def not_passed() -> list[str]:
    """Those of the page's tests of which no case has passed in this run."""
    ran = {node.partition("[")[0] for node in _passed}
    files = {node.partition("::")[0] for node in ran}
    return [
        f"{file}::{test}" if test else file
        for file, test in named()
        if (f"{file}::{test}" not in ran if test else file not in files)
    ]


def _is_complete(config: pytest.Config) -> bool:
    asked = config.invocation_params.args
    chosen = any(str(argument).startswith(("tests", "-k", "-m", "--lf", "--ff", "--deselect")) for argument in asked)
    return in_ci() and not chosen and not config.option.collectonly


def in_ci() -> bool:
    """Whether what is missing fails, and is not skipped."""
    return os.environ.get("CI", "").lower() in ("true", "1")
