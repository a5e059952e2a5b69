"""The site of docs/: every page is found in it, and what is made from the code is what the code says."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tape_celery.settings import NAMES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_page_is_in_the_navigation_and_the_navigation_names_no_other() -> None:
    """Whoever adds a page adds a line to docs/site/mkdocs.yml. README and CHANGELOG lie above docs/."""
    _, navigation = (DOCS / "site/mkdocs.yml").read_text().split("\nnav:\n")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    named = re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)
    assert sorted(named) == sorted(pages | {"index.md", "changelog.md"})


def test_the_page_of_settings_is_made_from_the_settings() -> None:
    """Whoever adds a setting says below it what it is for, and runs `python docs/site/settings_table.py`."""
    page = (DOCS / "settings.md").read_text()
    script = runpy.run_path(str(DOCS / "site/settings_table.py"))
    assert page == script["page"](), "run: python docs/site/settings_table.py"
    assert re.findall(r"^\| `tape_(\w+)` \| .* \| .+ \|$", page, re.MULTILINE) == list(NAMES)
    assert "| `tape_absence_watch` | 3600, 86400 |" in page


def test_every_page_with_python_in_it_is_named_by_a_test_that_runs_it() -> None:
    """Whoever writes an example has it executed: tests/docs/test_examples.py has the list for plain pages."""
    tests = [path.read_text() for path in DOCS.parent.glob("tests/**/*.py") if path != Path(__file__)]
    running = "\n".join(text for text in tests if "exec(" in text or "write_text(" in text)
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if "```python" in page.read_text()]
    assert len(pages) > 15
    assert [page for page in pages if f'"docs/{page}"' not in running] == []


@pytest.mark.parametrize(
    "loaded",
    [
        '<script src="https://cdn.example/a.js">',
        "<img alt=x src=//cdn.example/a.png>",
        '<link rel="stylesheet" href="http://cdn.example/a.css">',
    ],
)
def test_a_page_that_loads_from_elsewhere_is_refused(loaded: str) -> None:
    """A link is none of that: nobody follows it unasked."""
    exceptions = pytest.importorskip("mkdocs.exceptions", reason="pip install '.[docs]'")
    check = runpy.run_path(str(DOCS / "site/pages.py"))["on_post_page"]
    page = SimpleNamespace(file=SimpleNamespace(src_uri="a.md"))
    fine = '<a href="https://elsewhere.example">there</a><script src="assets/a.js"></script>'
    assert check(fine, page, {}) == fine
    with pytest.raises(exceptions.PluginError, match=r"a\.md loads from elsewhere"):
        check(fine + loaded, page, {})


def test_make_docs_refuses_a_link_to_a_page_and_to_an_anchor_that_do_not_exist(tmp_path: Path) -> None:
    """Its own command, on a copy where nothing else is wrong."""
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    [arguments] = re.findall(r"^docs:.*\n\t\$\(MKDOCS\) (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shutil.copytree(DOCS, tmp_path / "docs")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tape_celery").symlink_to(ROOT / "tape_celery")
    with (tmp_path / "docs/scale.md").open("a") as page:
        page.write("\n[a page](no-such-page.md) [an anchor](settings.md#no-such-anchor)\n")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", *arguments.split()],
        cwd=tmp_path, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 1, built.stderr
    assert "no-such-page.md" in built.stderr
    assert "no-such-anchor" in built.stderr
    assert "Aborted with 2 warnings" in built.stdout + built.stderr
