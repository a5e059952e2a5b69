"""The processes of the demo: started in groups of their own, started again when they die, and ended; no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MOST_RESTARTS = 5
"""How often one process may die by itself before the demo gives up on it."""
STOP_SECONDS = 10.0
"""How long processes are given to end by themselves."""


class ProcessLost(RuntimeError):
    """A process ended that was to go on; the message shows the end of its log."""


class Processes:
    """What the demo runs: real processes, each with its name, its log file and its own process group."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """``folder``: the working directory of all of them; their logs go to its ``logs``."""
        self._folder = folder
        self._logs = folder / "logs"
        self._logs.mkdir(exist_ok=True)
        self.environment = dict(environment)
        self._commands: dict[str, list[str]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._died: Counter[str] = Counter()

    def start(self, name: str, *arguments: str) -> None:
        """Start ``python -m arguments…`` as ``name``."""
        self._commands[name] = [sys.executable, "-m", *arguments]
        self._spawn(name)

    def start_and_read_line(self, name: str, *arguments: str) -> str:
        """Start ``name`` and return the first line that it prints. It may end when its standard input does."""
        self._commands[name] = [sys.executable, "-m", *arguments]
        process = self._spawn(name, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None  # noqa: S101 - for the type checker: PIPE was asked for
        line = process.stdout.readline().decode()
        if not line:
            raise ProcessLost(self._last_words(name))
        return line

    def returncode(self, name: str) -> int | None:
        """How ``name`` ended, or ``None`` while it runs."""
        return self._running[name].poll()

    def kill(self, name: str) -> None:
        """SIGKILL the whole process group of ``name``, as when its host is lost."""
        process = self._running[name]
        _signal_group(process, signal.SIGKILL)
        process.wait()

    def start_again(self, name: str) -> None:
        """Start ``name`` anew with the same command."""
        self._spawn(name)

    def revive(self, *names: str) -> list[str]:
        """Start again those of ``names`` that died by themselves, and return them.

        Raises `ProcessLost` for one that died too often.
        """
        dead = [name for name in names if self._running[name].poll() is not None]
        for name in dead:
            self._died[name] += 1
            if self._died[name] > MOST_RESTARTS:
                raise ProcessLost(self._last_words(name))
            _signal_group(self._running[name], signal.SIGKILL)
            self._spawn(name)
        return dead

    def check(self, *names: str) -> None:
        """Raise `ProcessLost` if one of ``names`` ended."""
        for name in names:
            if self._running[name].poll() is not None:
                raise ProcessLost(self._last_words(name))

    def stop(self, *names: str) -> None:
        """End ``names`` (all by default): first by asking them, then by force."""
        ending = [self._running[name] for name in names or self._running]
        for process in ending:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
        give_up_at = time.monotonic() + STOP_SECONDS
        for process in ending:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, give_up_at - time.monotonic()))
            _signal_group(process, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _spawn(self, name: str, stdin: int = subprocess.DEVNULL, stdout: int | None = None) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own arguments
                self._commands[name],
                cwd=self._folder,
                env=self.environment,
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _last_words(self, name: str) -> str:
        code = self._running[name].wait()
        lines = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"the process {name!r} ended with code {code}; the end of {self._log(name)}:", *lines[-15:]])


def child_environment(own: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of the demo's processes: ours without its ``TAPE_*`` and Celery settings, and ``settings``.

    The package that runs now is the one that they import, from wherever it was started.
    """
    kept = {name: value for name, value in own.items() if not name.startswith(("TAPE_", "CELERY_"))}
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, **settings, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def worker(queue: str, *options: str) -> Sequence[str]:
    """The arguments of a Celery worker of the ready app that consumes ``tape.<queue>``."""
    return (
        *("celery", "-A", "tape_celery.app", "worker", "-Q", f"tape.{queue}", "-n", f"{queue}@%h"),
        *("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat", *options),
    )


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
