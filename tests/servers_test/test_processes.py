"""The harness starts real processes, does to them what a test asks, and leaves none behind."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.servers import Processes, lives, until
from tests.servers.processes import ROOT

COUNTING = """
import itertools, time
for number in itertools.count():
    print("count", number)
    time.sleep(0.01)
"""

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; print('child up'); time.sleep(600)"])
print("parent up")
child.wait()
"""

CELERY_APP = """
import os
from celery import Celery
app = Celery("small", broker=os.environ["SMALL_BROKER"])
app.conf.beat_schedule = {"often": {"task": "small.note", "schedule": 0.2}}

@app.task(name="small.note")
def note():
    print("noted")
"""


def test_output_can_be_waited_for(processes: Processes) -> None:
    process = processes.python("-c", COUNTING)
    assert process.wait_for("count 3") == "count 3"
    assert int(process.wait_for(re.compile(r"count (\d\d)\b"))[1]) >= 10
    mark = process.mark()
    assert process.wait_for(re.compile(r"count (\d+)"), since=mark)
    assert process.wait_for(lambda: process.text().count("count") > 20)


def test_waiting_for_a_process_that_has_died_does_not_last(processes: Processes) -> None:
    process = processes.python("-c", "print('last words'); raise SystemExit(3)")
    with pytest.raises(AssertionError, match="last words"):
        process.wait_for("something else", timeout=60)
    assert process.wait_for("last words")
    assert process.returncode == 3


def test_waiting_in_vain_shows_the_output(processes: Processes) -> None:
    process = processes.python("-c", COUNTING)
    process.wait_for("count")
    with pytest.raises(AssertionError, match="in vain for 'never'") as failed:
        process.wait_for("never", timeout=0.05)
    assert any("count 0" in note for note in failed.value.__notes__)


def test_a_stopped_process_is_silent_until_it_is_resumed(processes: Processes) -> None:
    process = processes.python("-c", COUNTING)
    process.wait_for("count")
    process.pause()
    mark = process.mark()
    with pytest.raises(AssertionError):
        process.wait_for("count", timeout=0.2, since=mark)
    assert process.alive
    process.resume()
    process.wait_for("count", since=mark)


def test_kill_reaches_the_parent_alone_and_the_orphan_is_still_known(processes: Processes) -> None:
    process = processes.python("-c", PARENT)
    process.wait_for("child up")
    process.kill(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (orphan,) = process.children()
    process.close()
    assert not lives(orphan)
    assert process.children() == []


def test_killpg_reaches_the_child_too(processes: Processes) -> None:
    process = processes.python("-c", PARENT)
    process.wait_for("child up")
    (child,) = process.children()
    process.killpg(signal.SIGKILL)
    process.wait()
    until(lambda: not lives(child), what="the child's end")


def test_closing_ends_what_is_stopped(processes: Processes) -> None:
    process = processes.python("-c", PARENT)
    process.wait_for("child up")
    (child,) = process.children()
    process.pause()
    processes.close()
    assert not process.alive
    assert not lives(child)


def test_the_environment_is_clean(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPE_STORE_URL", "sqlite:////not/ours")
    code = "import os, tests; print('seen', os.environ.get('TAPE_STORE_URL'), os.environ['TAPE_ENV'])"
    process = processes.python("-c", code, env={"TAPE_ENV": "test"})
    process.wait_for("seen None test")


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_celery_worker_and_beat(processes: Processes, redis_url: str, tmp_path: Path, pool: str) -> None:
    (tmp_path / "small.py").write_text(CELERY_APP)
    how = {"env": {"SMALL_BROKER": redis_url}, "cwd": tmp_path}
    worker = processes.worker("small", queues="celery", pool=pool, concurrency=1, **how)
    processes.beat("small", **how)
    worker.wait_for("noted")
    assert len(worker.children()) == (1 if pool == "prefork" else 0)
    worker.kill(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.usefixtures("postgres")  # which skips without a wheel
def test_nothing_outlives_a_test_run_that_was_killed(processes: Processes, tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import psutil
from tests.servers import reaper
from tests.servers import ForkServer, PostgresServer, Processes, clean_environment
server = PostgresServer()
server.start()
processes = Processes(Path({str(tmp_path)!r}), ForkServer(clean_environment()))
parents = [processes.python("-c", {PARENT!r}, forked=forked) for forked in (False, True)]
for parent in parents:
    parent.wait_for("child up")
of_this = psutil.Process().children(recursive=True)  # the fork server and the guard as well
children = [child for child in of_this if child.cmdline()[-1] != reaper.__file__]
print("pids", *[child.pid for child in children], server.directory)
sys.stdout.flush()
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        _, *pids, directory = run.stdout.readline().split()
        left = [psutil.Process(int(pid)) for pid in pids]
        assert len(left) > 7
        run.kill()
    until(lambda: not any(map(lives, left)), what="the end of what the killed run had started")
    until(lambda: not Path(directory).exists(), what="the end of its directory")
