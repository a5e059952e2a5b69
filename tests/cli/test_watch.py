"""`--watch`: looks again until Ctrl-C, on a pipe line after line and on a terminal in place."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tape_celery import Tape
from tape_celery.cli import group, watching
from tape_celery.errors import StoreUnavailable
from tests.cli.steps import stuck
from tests.servers import Processes, until
from tests.servers.processes import clean_environment

SHOP = """
from celery import Celery
from tape_celery import Tape

app = Celery("shop", broker="memory://")
tape = Tape(app, store_url={url!r})
"""

MAY_BE_INTERRUPTED = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)"
"""A shell starts what runs in the background, and so whatever that starts, deaf to Ctrl-C."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what happens after each look; after the last one somebody presses Ctrl-C."""

    def between(*acts: Callable[[], object]) -> None:
        left = list(acts)

        def wait(seconds: float) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr(watching, "wait", wait)

    return between


def test_on_a_pipe_each_look_is_printed(tape: Tape, run: Callable[..., Result], looks: Callable[..., None]) -> None:
    """As JSON one line each; the exit code is the last look's."""
    looks(lambda: stuck(tape), lambda: tape.resolve(tape.effects()[0].effect_key, "failed", reason="r", actor="a"))
    seen = run("status", "--json", "--watch")
    states = [[row["status"] for row in json.loads(line)["effects"]] for line in seen.output.splitlines()]
    assert (states, seen.exit_code) == ([[], ["STUCK"], ["FAILED"]], 0)
    looks(lambda: stuck(tape))
    assert run("status", "--watch=0.5").exit_code == 2


def test_a_store_that_is_away_for_a_while_ends_no_watch(
    tape: Tape, run: Callable[..., Result], looks: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and asked again; what does not exist ends it at once."""
    key, counts = stuck(tape), tape.counts

    def away(at_most: int | None = None) -> None:
        raise StoreUnavailable("the database is\x1b[2J restarting")

    looks(lambda: monkeypatch.setattr(tape, "counts", away), lambda: monkeypatch.setattr(tape, "counts", counts))
    seen = run("status", "--watch")
    assert seen.exit_code == 2
    assert "StoreUnavailable: the database is\\x1b[2J restarting\n" in seen.output
    assert seen.output.count("STUCK") == 2
    assert run("show", "nothing", "--watch").exit_code == group.REFUSED
    looks()
    assert run("explain", key, "--watch").exit_code == 0
    monkeypatch.setattr(tape, "counts", away)
    assert run("status").exit_code == group.STORE_AWAY


def test_ctrl_c_ends_it_on_a_pipe(processes: Processes, ready_sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP.format(url=ready_sqlite_url))
    command = [sys.executable, "-m", "celery", "-A", "shop", "tape", "status", "--json", "--watch=0.2"]
    watch = processes.python("-c", f"{MAY_BE_INTERRUPTED}; os.execv(sys.argv[1], sys.argv[1:])", *command, cwd=tmp_path)
    until(lambda: len(watch.text().splitlines()) >= 3)
    watch.kill(signal.SIGINT)
    assert watch.wait() == 0
    assert all(json.loads(line)["effects"] == [] for line in watch.text().splitlines())


def test_on_a_terminal_it_is_redrawn_in_place(processes: Processes, ready_sqlite_url: str, tmp_path: Path) -> None:
    """On the terminal's other screen, which is left again; what was seen last stays on the first one."""
    (tmp_path / "shop.py").write_text(SHOP.format(url=ready_sqlite_url))
    on_a_terminal = f"{MAY_BE_INTERRUPTED}; import pty; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    command = [sys.executable, "-m", "celery", "-A", "shop", "tape", "status", "--watch=0.2"]
    seen = {**clean_environment(), "TERM": "xterm-256color"}
    watch = processes.python("-c", on_a_terminal, *command, cwd=tmp_path, env=seen)
    until(lambda: watch.text().count("every 0.2 s, until Ctrl-C") >= 3)
    [child] = watch.children()
    child.send_signal(signal.SIGINT)
    assert watch.wait() == 0
    other_screen, first_screen = "\x1b[?1049h", "\x1b[?1049l"
    assert watch.text().count(other_screen) == watch.text().count(first_screen) == 1
    after = watch.text().partition(first_screen)[2]
    assert "connector" in after
    assert "Traceback" not in watch.text()
