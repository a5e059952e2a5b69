"""Celery commands without the second and a half of processor time that each takes to import Celery and SQLAlchemy.

One process per test run is started as any other, imports what is not ours (`PRELOADED`) and then waits. For each
command that is asked of it, it forks: the child leads a session of its own, takes the environment, the directory,
the path and the output that a new interpreter would have been given, and runs the command as ``python -m`` does. It
is a process like any other: with its own id, its own memory, its own connections, killed by real signals, waited for
by its parent, and it imports all of Tape, and the app, by itself. What it is spared is the reading of libraries that
do not change from one test to the next.

What decides before Python's first line is not forked but executed as ever: a library that the linker is to load, a
time zone, a locale, and every variable that was looked at while those modules were imported (`takes` says no). So is
all that is no Celery command, unless a test says otherwise, and all that the demo, the tutorial and pytest-celery's own
setup start: so a plain start is proved too. The children of one server share its hash seed; each test run has another.
"""

import builtins
import contextlib
import gc
import importlib
import itertools
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

PRELOADED = (
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.amqp",
    "celery.bin.beat",
    "celery.bin.call",
    "celery.bin.control",
    "celery.bin.events",
    "celery.bin.graph",
    "celery.bin.list",
    "celery.bin.logtool",
    "celery.bin.migrate",
    "celery.bin.multi",
    "celery.bin.purge",
    "celery.bin.result",
    "celery.bin.shell",
    "celery.bin.upgrade",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.events.state",
    "celery.fixups.django",
    "celery.loaders.app",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "click_didyoumean",
    "click_plugins",
    "flower.command",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "psycopg",
    "pymysql",
    "redis.asyncio",
    "rich.live",
    "rich.table",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.ext.compiler",
)
"""Modules of others: they open nothing, start no thread and make no app while they are imported."""

_READ_BEFORE_PYTHON = ("LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "TZ")
"""How the variables begin that the linker, the interpreter and their libraries read."""


class ForkServer:
    """Forks commands of this Python; made and closed by the test run that uses it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is the one that its children are given, but for what the tests add."""
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._read_early: set[str] | None = None
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            cwd="/",
            start_new_session=True,  # so that Ctrl-C in the terminal reaches the tests alone
        )

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment may be forked: what was read by now must be as it is here."""
        if self._read_early is None:
            self._read_early = set(self._ask({"read": True})["names"])
        for name in (environment.keys() | self._environment.keys()) - {"PYTHONPATH"}:
            early = name.startswith(_READ_BEFORE_PYTHON) or name in self._read_early
            if early and environment.get(name) != self._environment.get(name):
                return False
        path = environment.get("PYTHONPATH", "").split(os.pathsep)
        return not any(Path(entry, f"{site}customize.py").exists() for entry in path for site in ("site", "user"))

    def fork(self, arguments: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> "Forked":
        """Start ``python *arguments``, with `-m` or `-c` first, which writes to the end of `log`."""
        request = {"arguments": list(arguments), "log": str(log), "env": dict(env), "cwd": str(cwd)}
        return Forked(self, self._ask(request)["pid"])

    def ended(self, pid: int) -> int | None:
        """The exit code of a child, negative for a signal; None while it runs. Its id is free from then on."""
        code = self._ask({"reap": pid})["code"]
        return None if code is None else int(code)

    def close(self) -> None:
        """End it, and whatever it has forked that is still there."""
        with self._process:  # closes its pipes, and waits
            pass

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Say one line and hear one: an answer whose question was broken off (by a test's timeout) is passed over."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            number = next(self._numbers)
            self._process.stdin.write(json.dumps({"number": number, **request}) + "\n")
            self._process.stdin.flush()
            while True:
                answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"number": -1}')
                if answer["number"] == number:
                    return answer
                assert answer["number"] >= 0, "the fork server has ended"


class Forked:
    """A child of a fork server, as `subprocess.Popen` would show it. Its id stays its own until its end was seen."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self._server = server
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            self._code = self._server.ended(self.pid)
        return self._code

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code; raises `subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, sig: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, sig)


class _Recording(os._Environ):  # type: ignore[type-arg]
    """`os.environ`, which keeps the names of the variables that were looked at."""

    read: ClassVar[set[str]] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return super().__getitem__(name)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _recorded_environment() -> Iterator[None]:
    usual = type(os.environ)
    os.environ.__class__ = _Recording  # the object that everybody has
    yield
    os.environ.__class__ = usual


def _serve() -> dict[str, Any] | None:
    """Answer until there are no more questions: then None. In a child, return what was asked of it."""
    children: set[int] = set()
    codes: dict[int, int] = {}  # kept, because an answer may not arrive (see `_ask`), and because two may ask at once
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "read" in request:
            _answer(request, names=sorted(_Recording.read))
        elif "reap" in request:
            pid = request["reap"]
            if pid in children and (status := os.waitpid(pid, os.WNOHANG))[0]:
                children.discard(pid)
                codes[pid] = os.waitstatus_to_exitcode(status[1])
            _answer(request, code=codes.get(pid))
        elif pid := os.fork():
            children.add(pid)
            codes.pop(pid, None)
        else:
            os.setsid()
            _answer(request, pid=os.getpid())
            return dict(request)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return None


def _answer(request: dict[str, Any], **said: int | list[str] | None) -> None:
    os.write(1, (json.dumps({"number": request["number"], **said}) + "\n").encode())


def _become(log: str, env: dict[str, str], cwd: str, library: Sequence[str]) -> None:
    """Be as a process that was started with these; the pipes of the fork server are closed by it."""
    null, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND)
    for here, there in ((null, 0), (output, 1), (output, 2)):
        os.dup2(here, there)
    os.close(null)
    os.close(output)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    path = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [*map(os.path.abspath, path), *library]


def _run(arguments: Sequence[str]) -> None:
    """What the interpreter does with `-m` and `-c`, in a new `__main__`."""
    option, what, *rest = arguments
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    sys.argv = [option, *rest]
    sys.path.insert(0, "" if option == "-c" else os.getcwd())
    if option == "-c":
        exec(compile(what, "<string>", "exec"), main.__dict__)
    else:
        runpy._run_module_as_main(what)  # type: ignore[attr-defined]


def _main() -> None:
    del sys.path[0]  # this directory, where `redis` is ours
    library = sys.path[1:]  # without the one entry of PYTHONPATH
    with _recorded_environment():
        for name in PRELOADED:
            importlib.import_module(name)
    assert not any(name.split(".")[0] in ("tape_celery", "tests") for name in sys.modules)
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()  # else the children's collections would copy all of it
    request = _serve()
    if request is not None:
        _become(request["log"], request["env"], request["cwd"], library)
        _run(request["arguments"])


if __name__ == "__main__":
    _main()
