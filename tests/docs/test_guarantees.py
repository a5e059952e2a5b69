"""The page of guarantees names tests: they are there."""

import ast

import pytest

from tests import guarantees


@pytest.mark.parametrize(("file", "test"), sorted(set(guarantees.named())))
def test_a_test_that_a_guarantee_rests_on_exists(file: str, test: str) -> None:
    tree = ast.parse((guarantees.ROOT / file).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert any(name.startswith("test_") for name in functions)
    assert not test or test in functions


def test_the_page_names_many_and_each_only_where_it_shows_something() -> None:
    assert len(guarantees.named()) > 50


def test_what_did_not_run_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One case that passed is enough; a test that was skipped, or never chosen, is named."""
    every = {f"{file}::{test or 'test_any'}[sqlite]" for file, test in guarantees.named()}
    left_out = sorted(every)[0]
    monkeypatch.setattr(guarantees, "_passed", every)
    assert guarantees.not_passed() == []
    monkeypatch.setattr(guarantees, "_passed", every - {left_out})
    assert guarantees.not_passed() == [left_out.partition("[")[0]]
