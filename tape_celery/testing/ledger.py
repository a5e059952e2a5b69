"""What a scripted upstream remembers: who called, what landed, what was reversed. In memory, or in a file.

With a file, any number of processes may play one script: each line is appended under a lock, and everything else is
read back from the lines.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of one of the connector's methods, written down as it came in."""

    verb: str
    """``dispatch``, ``observe``, ``compensate`` or ``observe_compensation``."""
    key: str
    """The effect or obligation key."""
    idempotency_key: str
    business_key: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    """The request, or the obligation's payload."""
    step: str = ""
    """The name of the step that was played."""
    at_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Landing:
    """One record at the upstream."""

    ref: str
    key: str
    idempotency_key: str
    business_key: str
    request: dict[str, Any]
    visible_at_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """One record that was undone."""

    ref: str
    key: str
    """The obligation key."""
    idempotency_key: str


Entry = Call | Landing | Reversal
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Call, Landing, Reversal)}


class Ledger:
    """The entries, oldest first. `locked` is for who reads and then writes."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._entries: list[Entry] = []
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes meanwhile, in this process or another. Not reentrant over a file."""
        with self._lock:
            if self._path is None:
                yield
                return
            with self._path.with_name(self._path.name + ".lock").open("a") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)
                yield

    def write(self, *entries: Entry) -> None:
        """Append; the caller has it `locked`."""
        if self._path is None:
            self._entries += entries
            return
        with self._path.open("a") as file:
            file.writelines(json.dumps({"is": type(entry).__name__, **asdict(entry)}) + "\n" for entry in entries)

    def read(self) -> list[Entry]:
        """Every entry so far."""
        if self._path is None:
            return list(self._entries)
        if not self._path.exists():
            return []
        lines = [json.loads(line) for line in self._path.read_text().splitlines() if line]
        return [_KINDS[line.pop("is")](**line) for line in lines]
