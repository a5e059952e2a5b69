"""kombu's filesystem transport, for the embedded default: a message is whole, or it is not there.

kombu writes a message into the file that a reader may already have taken, and a reader that finds half a message ends
its worker. Here it is written beside and renamed. Everything else is kombu's.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads


class Channel(filesystem.Channel):  # type: ignore[misc]  # kombu ships no types
    """A channel whose messages appear at once."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        directory = Path(self.data_folder_out)
        name = f"{time.time_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg"
        unfinished = directory / f".{name}"
        unfinished.write_text(dumps(payload))
        os.replace(unfinished, directory / name)

    def _get(self, queue: str) -> Any:
        directory, ending = Path(self.data_folder_in), f".{queue}.msg"
        for name in sorted(os.listdir(directory)):
            if name.startswith(".") or name[name.find(".") :] != ending:
                continue
            taken = Path(self.processed_folder) / name
            try:
                os.rename(directory / name, taken)
            except FileNotFoundError:
                continue  # another worker was first
            try:
                return loads(taken.read_text())
            finally:
                taken.unlink()
        raise Empty


class Transport(filesystem.Transport):  # type: ignore[misc]  # kombu ships no types
    """kombu's filesystem transport with our channel."""

    Channel = Channel
