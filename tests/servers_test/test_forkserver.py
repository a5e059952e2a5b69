"""What the fork server forks is as if it had been executed, and ends as that would."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from celery import __version__ as celery_version

from tests.servers import ForkServer, Processes, clean_environment, lives, until, wall_clock
from tests.servers.forkserver import Forked

PROBE = """
import faulthandler, json, locale, os, random, resource, signal, sys, threading, time
print(json.dumps({
    "name": __name__,
    "main": [sys.modules["__main__"].__dict__ is globals(), globals().get("__file__"), __package__, bool(__spec__)],
    "argv": sys.argv,
    "path": sys.path,
    "flags": repr(sys.flags),
    "environment": dict(os.environ),
    "time zone": time.tzname,
    "locale": [locale.getlocale(), sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors, sys.stdin.encoding],
    "unbuffered": [sys.stdout.write_through, sys.stdout.line_buffering],
    "directory": os.getcwd(),
    "session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
    "parent": os.getppid() > 1,
    "files": {number: os.readlink(f"/proc/self/fd/{number}") for number in sorted(os.listdir("/proc/self/fd"))
              if os.path.exists(f"/proc/self/fd/{number}")},
    "appends": os.O_APPEND & __import__("fcntl").fcntl(1, 3) != 0,
    "signals": {str(sig): repr(signal.getsignal(sig)) for sig in sorted(signal.valid_signals())
                if sig not in (signal.SIGKILL, signal.SIGSTOP)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "threads": threading.active_count(),
    "main thread": threading.current_thread() is threading.main_thread(),
    "faulthandler": faulthandler.is_enabled(),
    "mask": os.umask(0o22),
    "limits": [resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
    "ours": [name for name in sys.modules if name.split(".")[0] in ("tape_celery", "tests")],
}, default=str))
"""

HOW_IT_ENDS = {
    "pass": 0,
    "raise SystemExit(3)": 3,
    "raise SystemExit('no')": 1,
    "1 / 0": 1,
    "raise KeyboardInterrupt": -signal.SIGINT,
    "import os; os.kill(os.getpid(), 15)": -signal.SIGTERM,
    "import os; os._exit(7)": 7,
    "import atexit; atexit.register(print, 'at exit')": 0,
    "import threading, time; threading.Timer(0.3, print, ['at exit']).start()": 0,
}


@pytest.mark.parametrize("module", [False, True])
def test_a_forked_process_sees_what_an_executed_one_sees(processes: Processes, tmp_path: Path, module: bool) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    command = ["-m", "probe"] if module else ["-c", PROBE]
    env = {"PYTHONPATH": f"relative:{tmp_path}", "SAID": "\N{SNOWMAN} \udc80"}
    seen = []
    for forked in (False, True):
        process = processes.python(*command, "--option", "", env=env, cwd=tmp_path, forked=forked)
        assert process.wait() == 0, process.text()
        seen.append(json.loads(process.text().replace(str(process.log), "the log")))
    assert seen[0] == seen[1]
    assert seen[0]["environment"]["SAID"] == env["SAID"]
    assert not seen[0]["ours"]


@pytest.mark.parametrize("code", HOW_IT_ENDS)
def test_it_ends_as_an_executed_one_would(processes: Processes, code: str) -> None:
    """With the same exit code or signal and the same last words, after its threads and its exit functions."""
    ended = [processes.python("-c", code, forked=forked) for forked in (False, True)]
    assert [process.wait() for process in ended] == [HOW_IT_ENDS[code]] * 2
    executed, forked = (process.text().splitlines() for process in ended)
    assert executed[-1:] == forked[-1:]
    assert ended[1].returncode == HOW_IT_ENDS[code]


def test_many_may_wait_for_its_end(processes: Processes) -> None:
    process = processes.python("-c", "raise SystemExit(3)", forked=True)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: process.wait(), range(8))) == {3}


@pytest.mark.parametrize("code", ["import random; print(random.random())", "import uuid; print(uuid.uuid4())"])
def test_no_two_children_draw_the_same(processes: Processes, code: str) -> None:
    drawn = [processes.python("-c", code, forked=True) for _ in range(2)]
    assert [process.wait() for process in drawn] == [0, 0]
    assert drawn[0].text() != drawn[1].text()


def test_celerys_commands_are_forked_and_others_are_not(forkserver: ForkServer, processes: Processes) -> None:
    """Nor are they where something is read before Python's first line, or has to be done before the first import."""
    celery = ("-m", "celery", "--version")
    version = processes.python(*celery)
    assert version.wait() == 0, version.text()
    assert celery_version in version.text()
    assert _forked(processes, *celery)
    assert not _forked(processes, "-c", "pass")
    assert not _forked(processes, "-m", "timeit", "-n1")
    assert not _forked(processes, *celery, forked=False)
    assert not _forked(Processes(processes.directory / "others"), *celery)
    for env in ({"TZ": "Asia/Kathmandu"}, {"REMAP_SIGTERM": "SIGQUIT"}, {"PYTHONHASHSEED": "1"}, wall_clock(60)):
        assert not _forked(processes, *celery, env=env)
    environment = clean_environment()
    assert forkserver.takes(environment | {"SHOP": "{}", "CELERY_BROKER_URL": "memory://"})
    assert not forkserver.takes(environment | {"LD_PRELOAD": "libfaketime.so.1"})
    assert not forkserver.takes({name: value for name, value in environment.items() if name != "PYTHONUNBUFFERED"})


def test_the_end_of_the_server_is_the_end_of_its_children(tmp_path: Path) -> None:
    server = ForkServer(clean_environment())
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'print(\"up\"); input()'], stdin=-1).wait()"
    process = Processes(tmp_path, server).python("-c", code, forked=True)
    process.wait_for("up")
    left = process._everyone()
    assert len(left) == 2
    server.close()
    until(lambda: not any(map(lives, left)), what="the end of the children")


def _forked(processes: Processes, *arguments: str, **how: object) -> bool:
    """Whether such a process comes from a fork server."""
    process = processes.python(*arguments, **how)
    return isinstance(process._popen, Forked)
