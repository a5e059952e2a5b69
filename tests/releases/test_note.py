"""The note of the newest version says what `docs/releasing.md` wants of it, and is true of code and lock file."""

from __future__ import annotations

import re
from pathlib import Path

from tape_celery import __version__, migrations
from tests.releases.test_lock import locked

ROOT = Path(__file__).parents[2]


def newest() -> dict[str, str]:
    """The sections of the newest version, by their headings."""
    _, version, note = re.split(r"^## (\S+) \(.+\)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[:3]
    assert version == __version__
    _, *parts = re.split(r"^### (.+)$", note, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_it_tells_who_upgrades_the_schema_the_commands_and_what_to_look_at() -> None:
    upgrade = newest()["Upgrade"]
    before, head = migrations._revisions()[-2:]
    assert f"0001 to {before}, to {head}" in upgrade
    steps = [
        upgrade.index(step)
        for step in ("workers and beats stopped", "then the producers", "a backup", "`tape migrate` with")
    ]
    assert steps == sorted(steps)
    for command in ("tape audit", "tape audit --chain", "tape doctor", "tape status"):
        assert command in upgrade


def test_it_names_the_celery_and_billiard_that_it_was_tested_with() -> None:
    """Those of the lock file, which CI installs."""
    pins = locked()
    assert f"celery {pins['celery'][0]} and billiard {pins['billiard'][0]}." in newest()["Known"]
