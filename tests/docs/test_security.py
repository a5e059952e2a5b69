"""The page of security: each default names tests that there are, and no item of the checklist is left out."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.guarantees import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
TABLE, _, REST = PAGE.partition("\n\nWhat is configured")
NOT_DONE = REST.partition("## Not done, and why\n")[2].partition("\n## ")[0]
ROWS = [re.split(r"\s*\|\s*", line.strip("| ")) for line in TABLE.splitlines() if line.startswith("| ")][2:]
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("file", "test"), sorted(set(_TEST.findall(PAGE))))
def test_a_test_that_shows_a_default_exists(file: str, test: str) -> None:
    assert test in functions(file)


def test_each_row_names_tests_and_nothing_else_in_its_last_column() -> None:
    """A directory, or a file, shows nothing."""
    assert len(ROWS) > 40
    for row in ROWS:
        shown = row[-1]
        assert _TEST.search(shown), row[1]
        assert _TEST.sub("", shown).strip(", ") == "", row[1]


def test_every_item_has_a_row_or_a_reason() -> None:
    """1 to 48."""
    numbered = [*(row[0] for row in ROWS), *re.findall(r"^- \*\*([\d, ]+)", NOT_DONE, re.MULTILINE)]
    items = {int(number) for part in numbered for number in re.findall(r"\d+", part)}
    assert items == set(range(1, 49))
