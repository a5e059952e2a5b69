"""The demo's processes: started, killed with their children, started again, and ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tape_celery.demo.processes import MOST_RESTARTS, Processes, ProcessLost, child_environment
from tests.servers.waiting import until

PARENT_AND_CHILD = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids").write_text(str(child.pid))
time.sleep(600)
"""
ENDS_AT_ONCE = "print('the last words'); raise SystemExit(3)"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    (tmp_path / "sleeper.py").write_text(PARENT_AND_CHILD)
    (tmp_path / "ender.py").write_text(ENDS_AT_ONCE)
    running = Processes(tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path)})
    yield running
    running.stop()


def test_a_kill_takes_the_children_too(processes: Processes, tmp_path: Path) -> None:
    processes.start("sleeper", "sleeper")
    child = child_of(tmp_path)
    processes.kill("sleeper")
    assert processes.returncode("sleeper") == -signal.SIGKILL
    until(lambda: gone(child))


def test_stop_ends_the_group(processes: Processes, tmp_path: Path) -> None:
    processes.start("sleeper", "sleeper")
    child = child_of(tmp_path)
    processes.stop()
    assert processes.returncode("sleeper") is not None
    until(lambda: gone(child))


def test_the_dead_are_started_again_until_it_is_too_often(processes: Processes) -> None:
    processes.start("ender", "ender")
    for _ in range(MOST_RESTARTS):
        until(lambda: processes.returncode("ender") == 3)
        assert processes.revive("ender") == ["ender"]
    until(lambda: processes.returncode("ender") == 3)
    with pytest.raises(ProcessLost, match="the last words"):
        processes.revive("ender")


def test_the_living_are_left_alone(processes: Processes) -> None:
    processes.start("sleeper", "sleeper")
    assert processes.revive("sleeper") == []
    processes.check("sleeper")


def test_a_process_that_should_go_on_and_does_not(processes: Processes) -> None:
    processes.start("ender", "ender")
    until(lambda: processes.returncode("ender") is not None)
    with pytest.raises(ProcessLost, match="code 3"):
        processes.check("ender")


def test_foreign_settings_do_not_leak_in() -> None:
    seen = child_environment(
        {"TAPE_BROKER_URL": "redis://production", "CELERY_BROKER_URL": "redis://production", "HOME": "/h"},
        {"TAPE_STORE_URL": "sqlite:///x"},
    )
    assert {name: value for name, value in seen.items() if "TAPE" in name or "CELERY" in name} == {
        "TAPE_STORE_URL": "sqlite:///x"
    }
    assert seen["HOME"] == "/h"
    assert Path(seen["PYTHONPATH"], "tape_celery", "demo").is_dir()


def child_of(folder: Path) -> int:
    until(lambda: (folder / "pids").exists() and (folder / "pids").read_text() != "")
    return int((folder / "pids").read_text())


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
