"""What a process is started with so that its clock is wrong, or so that the system refuses it something.

Both are libraries that the dynamic linker loads first; they act on that process and its children alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.servers import debian
from tests.servers.waiting import until

SYNCS = "posix/io/sync/*"
"""fsync, fdatasync and their like, as `FailingCalls` names them."""


class WrongClock:
    """A wall clock of its own, `seconds` ahead of the machine's, that a test may move while the process runs.

    The monotonic clocks stay right. It is for servers: under libfaketime 0.9.10 Python's `time.sleep` fails.
    """

    def __init__(self, file: Path, seconds: float = 0) -> None:
        self._file = file
        library = debian.installation(debian.FAKETIME).file(debian.FAKETIME.files[0])
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(seconds)

    def jump(self, seconds: float) -> None:
        """Be so many seconds ahead from now on; behind, where it is negative."""
        beside = self._file.with_suffix(".next")
        beside.write_text(f"{seconds:+f}\n")
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
