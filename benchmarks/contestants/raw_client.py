"""The ceiling of those who POST by httpx: the same POSTs by the same client, and nothing else."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence

from benchmarks.contestants import Contestant
from benchmarks.contestants.posting import post

PROCESSES = 2


class RawClient(Contestant):
    """POSTs what it is asked to, at once."""

    title = "raw client, no queue"
    setup = f"httpx.Client in {PROCESSES} processes, one request after the other in each; nothing is kept or queued."

    def prepare(self) -> None:
        self._pool = multiprocessing.get_context("fork").Pool(PROCESSES)

    def submit(self, numbers: Sequence[int]) -> None:
        for _ in self._pool.imap_unordered(post, numbers, chunksize=10):
            pass


contestant = RawClient()
