"""What MkDocs is told beyond its configuration: two pages that lie above docs/, and what no page may do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
ABOVE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
_LOADED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\bhref=["']?(?:https?:)?//"""
)


def on_files(files: Files, config: Any) -> Files:
    """README and CHANGELOG are pages as well, their links as seen from docs/."""
    for name, page in ABOVE.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        for above, target in ABOVE.items():
            text = text.replace(f"]({above})", f"]({target})")
        files.append(File.generated(config, page, content=text))
    return files


def on_post_page(output: str, page: Any, config: Any) -> str:
    """A page that loads anything from elsewhere tells somebody who reads it, and needs a network: refused."""
    if found := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {found[0]}")
    return output
