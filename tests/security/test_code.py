"""8: which code runs is never chosen by a row or a message."""

from __future__ import annotations

import ast
from pathlib import Path

import tape_celery

PACKAGE = Path(tape_celery.__file__).parent
DANGEROUS = {
    "import_module", "__import__", "eval", "exec", "compile", "run_path", "run_module", "symbol_by_name",
    "import_from_cwd", "load_module", "attrgetter", "system", "popen",
}  # fmt: skip
ALLOWED = {
    "__init__.py": {"import_module"},  # of the package's own parts
    "testing/__init__.py": {"import_module"},  # likewise
    "flower/gate.py": {"symbol_by_name"},  # Flower's --auth-provider
    "tape.py": {"import_from_cwd"},  # the modules that the settings name
}
"""Where a call of one of these is written that finds code by a name, and no row or message has a say in it."""


def called(tree: ast.AST) -> set[str]:
    """The last words of all that is called."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in functions}


def imported(tree: ast.AST) -> set[str]:
    """The modules that are imported anywhere in it."""
    plain = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    return plain | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_no_code_is_found_by_a_name_but_what_settings_name() -> None:
    """And nothing is unpickled, or read as YAML."""
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        calls = called(tree) & DANGEROUS
        # A statement is compiled, which is no code; and a pattern.
        if calls - {"compile"}:
            found[str(file.relative_to(PACKAGE))] = calls - {"compile"}
        assert not imported(tree) & {"pickle", "yaml", "marshal", "shelve", "dill", "cloudpickle"}, file
    assert found == ALLOWED


def test_the_search_finds_such_calls() -> None:
    """It would notice one that is added."""
    assert called(ast.parse("importlib.import_module(row.name)\neval(text)")) >= {"import_module", "eval"}
    assert imported(ast.parse("def f():\n    import pickle\nfrom yaml import load")) == {"pickle", "yaml"}
