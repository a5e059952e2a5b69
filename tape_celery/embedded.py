"""kombu's filesystem transport, for the embedded default: a file is whole, or it is not there.

kombu writes messages and tables in place, and a reader that finds half a file ends its worker (kombu issue 1551). Here
they are written beside and renamed. Everything else is kombu's.
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


class Channel(filesystem.Channel):
    """A channel whose messages and tables appear at once."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        name = f"{time.time_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg"
        _write(Path(self.data_folder_out) / name, payload)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
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

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        folder = Path(self.control_folder)
        bound = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with (folder / f"{exchange}.lock").open("w") as guard:
            filesystem.lock(guard, filesystem.LOCK_EX)
            table = self.get_table(exchange)
            if bound not in table:
                _write(folder / f"{exchange}.exchange", [bound, *table])


class Transport(filesystem.Transport):
    """kombu's filesystem transport with our channel."""

    Channel = Channel

    def establish_connection(self) -> Any:
        """Make the folders, for their owner alone, when they are first needed."""
        options = self.client.transport_options
        for folder in ("data_folder_in", "data_folder_out", "control_folder", "processed_folder"):
            Path(options[folder]).mkdir(mode=0o700, parents=True, exist_ok=True)
        return super().establish_connection()


def _write(path: Path, value: Any) -> None:
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4()}")
    unfinished.write_text(dumps(value))
    os.replace(unfinished, path)
