"""The upstream's own book: one append-only file, one JSON line for each thing that reached it, whoever sent it.

It is what no row and no journal can argue with: whatever was killed, stopped or lost, a line is there or it is not.
"""

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Ledger:
    """The book at `path`. Any number of processes may write and read it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **entry: Any) -> None:
        """Append one line, whole or not at all."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, json.dumps({**entry, "pid": os.getpid()}).encode() + b"\n")
        finally:
            os.close(file)

    def write_once(self, same: Callable[[dict[str, Any]], bool], **entry: Any) -> dict[str, Any]:
        """Append one line unless one is there that is the `same`, and return the line that stands."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for earlier in self.entries():
                if same(earlier):
                    return earlier
            self.write(**entry)
            return entry

    def entries(self, event: str | None = None, key: str | None = None) -> list[dict[str, Any]]:
        """The lines, oldest first: all, or those of one event and of one effect or obligation."""
        if not self.path.exists():
            return []
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in lines if event in (None, line["event"]) and key in (None, line["key"])]
