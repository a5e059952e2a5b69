"""Real processes under test: a Celery worker, beat, or any command, that a test may kill, stop and resume.

Each has its own session and process group and writes its output to a file. A test ends with nothing of it
left alive, and nothing is ever signalled that was not started here.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.servers import reaper
from tests.servers.forkserver import Forked, ForkServer
from tests.servers.waiting import until

ROOT = Path(__file__).resolve().parents[2]
_OURS = ("TAPE_", "CELERY_", "PYTEST_", "PG", "PYTHON")  # variables that must not leak in


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without what would configure ours, plus `extra`.

    PYTHONPATH names this checkout, after whatever `extra` puts first.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    environment.update({"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **(extra or {})})
    first = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{first}{os.pathsep}{ROOT}" if first else str(ROOT)
    return environment


class Process:
    """One command, started at once; `close` ends it and everything that came from it.

    `env` is the whole environment of the command (see `clean_environment`); `user` and `group` are ids to
    run under, for servers that refuse root. With a `forkserver` a command of this Python is forked by it.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        name: str = "",
        user: int | None = None,
        group: int | None = None,
        forkserver: ForkServer | None = None,
    ) -> None:
        self.argv = [str(part) for part in argv]
        self.name = name or Path(self.argv[0]).name
        self.log = log
        identity: dict[str, Any] = {}
        if user is not None:
            identity = {"user": user, "group": group, "extra_groups": []}
        env = clean_environment() if env is None else dict(env)
        self._popen: subprocess.Popen[bytes] | Forked
        with log.open("ab") as output:
            if forkserver is not None:
                self._popen = forkserver.fork(self.argv[1:], log=log, env=env, cwd=cwd or Path.cwd())
            else:
                self._popen = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,
                    **identity,
                )
        self.pid = self._popen.pid  # of the process, of its group and of its session
        reaper.adopt(self.pid)

    def __repr__(self) -> str:
        state = "running" if self.alive else f"ended with {self.returncode}"
        return f"<Process {self.name} pid {self.pid}, {state}>"

    # What can be seen of it.

    @property
    def alive(self) -> bool:
        """Whether the process itself still runs (a stopped one does); its children may live on."""
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal, None while it runs."""
        return self._popen.poll()

    def text(self, since: int = 0) -> str:
        """What it has written so far, stderr included, from character `since` on."""
        return self.log.read_text(errors="replace")[since:]

    def mark(self) -> int:
        """The place where its output ends now, as the `since` of a later `wait_for`."""
        return len(self.text())

    def children(self) -> list[psutil.Process]:
        """Living processes that came from it, also after its own death: descendants, and its session."""
        if not self.alive and psutil.pid_exists(self.pid):
            return []  # its id has a new owner, and an id is free for that only when the session is empty
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.alive:
                found = {child.pid: child for child in psutil.Process(self.pid).children(recursive=True)}
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
                if pid != self.pid and pid not in found and os.getsid(pid) == self.pid:
                    found[pid] = psutil.Process(pid)
        return [child for child in found.values() if lives(child)]

    # What can be waited for.

    def wait_for(
        self,
        condition: str | re.Pattern[str] | Callable[[], Any],
        timeout: float = 20.0,
        *,
        since: int = 0,
    ) -> Any:
        """Wait until a text or pattern is in the output, or a callable answers true; return what was found.

        Raises AssertionError with the end of the output when the time is over, or at once if the process
        has ended without fulfilling the condition.
        """

        def fulfilled() -> Any:
            ended = not self.alive  # asked first: what it wrote before its end still counts
            if isinstance(condition, str):
                found: Any = condition if condition in self.text(since) else None
            elif isinstance(condition, re.Pattern):
                found = condition.search(self.text(since))
            else:
                found = condition()
            if ended and not found:
                raise AssertionError(f"{self!r} will not get to {condition!r}:\n{self._tail()}")
            return found

        try:
            return until(fulfilled, timeout=timeout, what=f"{condition!r} of {self!r}")
        except AssertionError as error:
            error.add_note(f"the end of {self.log}:\n{self._tail()}")
            raise

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end and return its exit code (negative: the signal). Children may live on.

        A worker with a prefork pool may take 30 s more than its tasks: `tape_celery.stopping.MARGIN_SECONDS`.
        """
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self!r} did not end in {timeout:g} s:\n{self._tail()}") from None

    # What can be done to it.

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal to the process alone; its children do not get it."""
        self._popen.send_signal(sig)

    def killpg(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal to its whole process group: with SIGKILL, the loss of the host."""
        if self.alive or self.children():  # else the id might be somebody else's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, sig)

    def pause(self) -> None:
        """SIGSTOP it and its children, and return when all of them are stopped."""
        self._signal_everyone(signal.SIGSTOP)
        until(lambda: all(map(_stopped, self._everyone())), what=f"{self!r} to be stopped")

    def resume(self) -> None:
        """SIGCONT it and its children."""
        self._signal_everyone(signal.SIGCONT)

    def close(self) -> None:
        """SIGKILL everything that is left of it, and return when it is gone. May be called again."""
        left = self._signal_everyone(signal.SIGKILL)
        self._popen.wait(10)
        until(lambda: not any(map(lives, left)), what=f"the end of everything from {self!r}")
        reaper.release(self.pid)

    def _signal_everyone(self, sig: int) -> list[psutil.Process]:
        """Signal its group, and those of its children that left the group (PostgreSQL's do)."""
        everyone = self._everyone()
        self.killpg(sig)
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sig)
        return everyone

    def _everyone(self) -> list[psutil.Process]:
        """The living: itself and its children."""
        everyone = self.children()
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.alive:
                everyone.append(psutil.Process(self.pid))
        return everyone

    def _tail(self) -> str:
        return self.text()[-4000:]


def lives(process: psutil.Process) -> bool:
    """Whether a process still runs: one that has ended and waits for its parent to notice does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _stopped(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class Processes:
    """Starts processes for one test, keeps their logs in `directory`, and ends them all with `close`.

    With a `forkserver`, Celery's commands are forked by it wherever it takes them (see `tests.servers.forkserver`).
    """

    def __init__(self, directory: Path, forkserver: ForkServer | None = None) -> None:
        self.directory = directory
        self._forkserver = forkserver
        self._started: list[Process] = []

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        name: str = "",
        forked: bool | None = None,
    ) -> Process:
        """Start any command; `env` is added to a clean environment, `cwd` defaults to the logs' directory.

        `forked` says whether a command of this Python may come from the fork server: by default Celery's do.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        name = name or Path(argv[0]).name
        environment = clean_environment(env)
        if forked is None:
            forked = [*argv[:3]] == [sys.executable, "-m", "celery"] and not {"gevent", "eventlet"} & {*argv}
        forked = forked and self._forkserver is not None and self._forkserver.takes(environment)
        process = Process(
            argv,
            log=self.directory / f"{len(self._started):02d}-{name}.log",
            env=environment,
            cwd=cwd or self.directory,
            name=name,
            forkserver=self._forkserver if forked else None,
        )
        self._started.append(process)
        return process

    def python(self, *arguments: str | Path, name: str = "python", **how: Any) -> Process:
        """Start this Python with `arguments` (`"-c", code`, `"-m", module` or a script)."""
        return self.start([sys.executable, *arguments], name=name, **how)

    def worker(
        self,
        app: str,
        *,
        queues: str | Sequence[str] = (),
        pool: str = "prefork",
        concurrency: int = 2,
        hostname: str | None = None,
        extra: Sequence[str] = (),
        ready: bool = True,
        timeout: float = 30.0,
        **how: Any,
    ) -> Process:
        """Start `celery -A app worker`; unless `ready` is False, return when it says that it is ready.

        No queues means the app's own. `env` and `cwd` (in `how`) are those of `start`; `extra` are further
        options.
        """
        name = hostname or f"worker{len(self._started)}@%h"
        arguments = ["-m", "celery", "-A", app, "worker", "-n", name, "-P", pool, "-c", str(concurrency)]
        arguments += ["-l", "INFO", "--without-mingle", "--without-gossip"]  # nobody to greet: a second saved
        if queues:
            arguments += ["-Q", queues if isinstance(queues, str) else ",".join(queues)]
        process = self.python(*arguments, *extra, name=name.split("@")[0], **how)
        if ready:
            process.wait_for(" ready.", timeout)
        return process

    def beat(
        self, app: str, *, extra: Sequence[str] = (), ready: bool = True, timeout: float = 30.0, **how: Any
    ) -> Process:
        """Start `celery -A app beat` with a schedule file of its own; return when it has started."""
        schedule = self.directory / f"beat-{len(self._started)}"
        arguments = ["-m", "celery", "-A", app, "beat", "-l", "INFO", "-s", str(schedule), "--pidfile", ""]
        process = self.python(*arguments, *extra, name="beat", **how)
        if ready:
            process.wait_for("beat: Starting...", timeout)
        return process

    def close(self) -> None:
        """End everything that was started here, the newest first."""
        while self._started:
            self._started.pop().close()
