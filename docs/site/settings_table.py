"""Writes the table of docs/settings.md from the class of the settings: ``python docs/site/settings_table.py``.

The page is kept as it is written, so that it can be read in the repository; a test says when it is out of date.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import MISSING, Field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from tape_celery.settings import PREFIX, Settings

PAGE = Path(__file__).parents[1] / "settings.md"
_TABLE = re.compile(r"^\| setting \|.*?\n\n", re.MULTILINE | re.DOTALL)


def table() -> str:
    """Every setting with its default and what its docstring says of it."""
    told = _docstrings()
    rows = [
        f"| `{PREFIX}{field.name}` | {_shown(_default(field))} | {told[field.name]} |" for field in fields(Settings)
    ]
    return "\n".join(["| setting | default | what it is |", "| --- | --- | --- |", *rows])


def page() -> str:
    """The page as it should be."""
    return _TABLE.sub(lambda _: f"{table()}\n\n", PAGE.read_text(encoding="utf-8"), count=1)


def _docstrings() -> dict[str, str]:
    """The text below each field; Python itself keeps none. Raises KeyError, later, for a field without."""
    body = ast.parse(inspect.getsource(Settings)).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, below in pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split()).replace("``", "`").removesuffix(".")
    return found


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _shown(default: Any) -> str:
    if isinstance(default, str | dict):
        return f"`{default}`" if default else ""
    if isinstance(default, tuple):
        return ", ".join(_shown(part) for part in default)
    return f"{default:g}" if isinstance(default, float) else str(default)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
