"""The whole demo, as a person starts it: real processes, a real kill, and a verdict that holds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tape_celery.demo.ledger import BOOKED, REVERSED, read_ledger
from tests.servers.waiting import until


def demo(tmp_path: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tape_celery.demo", *options],
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "150", **settings},
        capture_output=True,
        text=True,
        timeout=115,
        check=False,
    )


def still_running_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_forty_wires_hold_and_nothing_is_left_running(tmp_path: Path) -> None:
    # A broker of the surroundings must not be used: the demo is the embedded default.
    ended = demo(tmp_path, "--wires", "40", "--seed", "1", "--keep", TAPE_BROKER_URL="redis://127.0.0.1:1/0")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "VERDICT: it holds" in ended.stdout
    assert "is killed (SIGKILL) while the bank works on" in ended.stdout
    (folder,) = tmp_path.glob("tape-demo-*")
    assert f"kept: {folder}" in ended.stdout
    ledger = read_ledger(folder / "ledger.jsonl")
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    twice = [key for key, what in plan.items() if "twice" in what["script"]]
    assert [entry.kind for entry in ledger].count(REVERSED) == len(twice)
    for key in twice:
        assert [entry.kind for entry in ledger if entry.business_key == key] == [BOOKED, BOOKED, REVERSED]
    assert still_running_in(folder) == []


def test_without_keep_nothing_is_left(tmp_path: Path) -> None:
    ended = demo(tmp_path, "--wires", "20")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list(tmp_path.glob("tape-demo-*")) == []
    assert re.search(r"seed \d+ plays it again", ended.stdout)


@pytest.mark.parametrize("wires", ["0", "19", "301"])
def test_a_number_of_wires_that_cannot_work(tmp_path: Path, wires: str) -> None:
    ended = demo(tmp_path, "--wires", wires)
    assert ended.returncode == 2
    assert "20 to 300" in ended.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_takes_its_processes_along(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "output"
    with output.open("wb") as writing:
        process = subprocess.Popen(
            [sys.executable, "-m", "tape_celery.demo", "--keep"],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=writing,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until(lambda: "CONFIRMED" in output.read_text(encoding="utf-8"), timeout=40)
    (folder,) = tmp_path.glob("tape-demo-*")
    assert still_running_in(folder)
    process.send_signal(number)
    assert process.wait(20) == 130, output.read_text(encoding="utf-8")
    assert still_running_in(folder) == []
