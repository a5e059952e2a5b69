"""The page of the kit works as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tape_celery.testing import steps
from tape_celery.testing.scripted import LIES
from tests.servers import Processes

PAGE = Path(__file__).parents[2] / "docs/testing.md"


def test_every_block_of_the_page_is_a_file_that_passes(processes: Processes, tmp_path: Path) -> None:
    """The first line of a block names its file; together they are a user's suite, and none of its tests fails."""
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == PAGE.read_text().count("```python") > 5
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    options = ("-q", "-p", "no:cacheprovider", "-p", "tape_celery.testing.plugin")
    process = processes.python("-m", "pytest", *options, cwd=tmp_path, env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert process.wait(timeout=100) == 0, process.text()
    tests = sum(text.count("def test_") for _, text in blocks)
    assert f"{tests} passed" in process.text()


@pytest.mark.parametrize("name", sorted(steps._NAMED))
def test_every_step_stands_on_the_page(name: str) -> None:
    assert f"| `{name}(" in PAGE.read_text()
    assert all(f'"{said}"' in PAGE.read_text() for said in LIES if said != "truth")
