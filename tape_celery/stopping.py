"""Whether this worker has been asked to stop: from then on it begins nothing.

The signal comes to the worker's main process alone, and a prefork pool calls upstreams in its children. So it is one
byte of memory that all of them share, made before they are forked. Children that are spawned do not share it: they end
what they hold.
"""

from __future__ import annotations

import mmap
from typing import Any

MARGIN_SECONDS = 45.0
"""What a worker takes to stop, at the most, beyond the longest ``total_seconds`` of its connectors.

15 s for what is ours. 30 s are billiard's, and seldom taken: where SIGTERM comes within milliseconds of a task's start,
Celery 5.7 forgets that task before it has read that it began (``AsynPool.flush``), and the child, whose work is done,
waits for its result to be counted (``GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT``). Plain Celery tasks do the same.
"""


class Stopping:
    """Of the worker of this process: begun before it forks, read by whoever is about to claim or to call."""

    def __init__(self) -> None:
        self._worker = ""
        self._byte: mmap.mmap | None = None

    def begin(self, worker: Any) -> None:
        """``worker`` starts in this process."""
        self._worker, self._byte = worker.hostname, mmap.mmap(-1, 1)
        wait = worker.wait_for_soft_shutdown

        def ask_and_wait() -> None:
            # Of a cold shutdown Celery tells only when the time that it may take softly is over.
            self.ask(worker.hostname)
            wait()

        worker.wait_for_soft_shutdown = ask_and_wait

    def ask(self, worker: str) -> None:
        """The worker of that name is to stop. Called by the handlers of signals, so it only sets a byte."""
        if self._byte is not None and worker == self._worker:
            self._byte[0] = 1

    def end(self, worker: str) -> None:
        """The worker of that name has stopped; this process may live on."""
        if worker == self._worker:
            self._byte = None

    def asked(self) -> bool:
        """Whether it was; never where no worker runs."""
        return self._byte is not None and self._byte[0] == 1
