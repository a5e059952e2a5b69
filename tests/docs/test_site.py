"""The site of docs/: every page is found in it, and what is made from the code is what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from tape_celery.settings import NAMES

DOCS = Path(__file__).parents[2] / "docs"


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
