"""The ceiling of tape_celery: the same POSTs by the connector that it calls, and nothing else."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence

from benchmarks.contestants import Contestant
from tape_celery.intent import canonical_json, digest_of, new_key
from tape_celery.records import Effect

PROCESSES = 2


class RawConnector(Contestant):
    """Has the connector send what it is asked to, at once."""

    title = "raw connector, no queue"
    setup = (
        f"HTTPConnector.dispatch in {PROCESSES} processes, one call after the other in each; nothing is kept or queued."
    )

    def prepare(self) -> None:
        self._pool = multiprocessing.get_context("fork").Pool(PROCESSES)

    def submit(self, numbers: Sequence[int]) -> None:
        for _ in self._pool.imap_unordered(send, numbers, chunksize=10):
            pass


def send(number: int) -> None:
    """POST one number; raises where the upstream did not take it."""
    from benchmarks.contestants.connector import connector

    key, request = new_key(), canonical_json({"number": number})
    result = connector.dispatch(
        Effect(
            effect_key=key,
            connector=connector.name,
            idempotency_key=key,
            business_key=f"wire-{number}",
            run_id=key,
            request_json=request,
            request_digest=digest_of(request),
        )
    )
    if result.status != "confirmed":
        raise RuntimeError(f"{number} was not taken: {result}")


contestant = RawConnector()
