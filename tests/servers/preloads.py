"""What a process is started with so that its clock is wrong, or so that the system refuses it something.

Both are libraries that the dynamic linker loads first; they act on that process and its children alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.servers import debian
from tests.servers.waiting import until

SYNCS = "posix/io/sync/*"
"""fsync, fdatasync and their like, as `FailingCalls` names them."""

WRONG_WALL_CLOCK = Path(__file__).parent / "wrong_wall_clock"


def wall_clock(seconds: float) -> dict[str, str]:
    """The environment of a Python process whose wall clock is so many seconds ahead; behind, where it is negative."""
    return {"PYTHONPATH": str(WRONG_WALL_CLOCK), "WALL_CLOCK_SECONDS": f"{seconds:f}"}


class WrongClock:
    """A wall clock of its own, that a test may move while the process runs.

    The monotonic clocks stay right. It is for servers: under libfaketime 0.9.10 Python's `time.sleep` fails.
    """

    def __init__(self, directory: Path) -> None:
        """`directory` is one that the server's account may read."""
        self._file = directory / "clock"
        library = debian.installation(debian.FAKETIME).file(debian.FAKETIME.files[0])
        self.environment = {
            "LD_PRELOAD": str(shutil.copy(library, directory)),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(0)

    def jump(self, seconds: float) -> None:
        """Be so many seconds ahead from now on; behind, where it is negative."""
        beside = self._file.with_suffix(".next")
        beside.write_text(f"{seconds:+f}\n")
        beside.chmod(0o644)
        beside.rename(self._file)


class FailingCalls:
    """System calls of a process and of its children that fail with `errno`, from when a test says so."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        libraries = [debian.installation(debian.FIU).file(pattern) for pattern in debian.FIU.files]
        self.environment = {
            "LD_PRELOAD": " ".join(map(str, libraries)),
            "LD_LIBRARY_PATH": str(libraries[0].parent.parent),
            "FIU_CTRL_FIFO": str(directory / "control"),
        }

    def start(self, calls: str, errno: int, *, pids: Sequence[int]) -> None:
        """Let the calls of these processes fail."""
        self._tell(f"enable name={calls},failinfo={errno}", pids)

    def stop(self, calls: str, *, pids: Sequence[int]) -> None:
        """Let them succeed again."""
        self._tell(f"disable name={calls}", pids)

    def _tell(self, command: str, pids: Sequence[int]) -> None:
        for pid in pids:
            asked = self._directory / f"control-{pid}.in"
            until(asked.exists, what=f"process {pid} to listen")
            asked.write_text(f"{command}\n")
            answer = asked.with_suffix(".out").read_text().strip()
            assert answer == "0", f"{command}: {answer}"
