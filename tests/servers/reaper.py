"""Nothing that the tests start may outlive them, even when pytest itself is killed.

The test process holds a pipe to one small guard process and tells it what it owns, one line each: `+pid`,
`-pid`, `/directory`. When the pipe ends, however the test process came to its end, the guard kills the
process groups that are still named and removes the directories. In a clean run every process was released
before, so it finds nothing.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

_lock = threading.Lock()
_guard: subprocess.Popen[str] | None = None


def adopt(pid: int) -> None:
    """Have the process group led by `pid` killed if this process dies."""
    _tell(f"+{pid}")


def release(pid: int) -> None:
    """Forget `pid`: its owner has seen it end."""
    _tell(f"-{pid}")


def adopt_directory(path: Path) -> None:
    """Have `path` removed when this process ends."""
    _tell(str(path.absolute()))


def _tell(line: str) -> None:
    """Send one line to the guard, starting it on the first."""
    global _guard
    with _lock:
        if _guard is None:
            _guard = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd="/",
                start_new_session=True,  # so that Ctrl-C in the terminal does not end the guard first
            )
        assert _guard.stdin is not None
        _guard.stdin.write(line + "\n")
        _guard.stdin.flush()


def _stand_guard(lines: Iterable[str]) -> None:
    """The guard: listen until the pipe ends, then clean up."""
    pids: set[int] = set()
    directories: list[str] = []
    for line in lines:
        word = line.rstrip("\n")
        if word.startswith("+"):
            pids.add(int(word[1:]))
        elif word.startswith("-"):
            pids.discard(int(word[1:]))
        else:
            directories.append(word)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _stand_guard(sys.stdin)
