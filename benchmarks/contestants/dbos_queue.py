"""DBOS: a durable workflow with one step, on a queue, on the same PostgreSQL."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import create_engine, text

from benchmarks.contestants import Contestant, Worker, told
from benchmarks.contestants.posting import post

PROCESSES = 2
POLL_SECONDS = 0.1


class DbosQueue(Contestant):
    """`DBOSClient.enqueue`, one by one."""

    title = "DBOS"
    setup = (
        f"{PROCESSES} worker processes with an executor_id each, a workflow of one step that POSTs by httpx.Client, "
        f"one queue without limits, polled every {POLL_SECONDS:g} s (its default is 1 s); enqueued by DBOSClient."
    )

    def workers(self) -> Sequence[Worker]:
        return [Worker(("-m", "benchmarks.contestants.dbos_queue", f"w{n}"), "takes work") for n in range(PROCESSES)]

    def prepare(self) -> None:
        dbos = _launched("prepare", listens=False)
        dbos.destroy()

    def submit(self, numbers: Sequence[int]) -> None:
        client = self._client()
        for number in numbers:
            client.enqueue({"workflow_name": "send", "queue_name": "wires"}, number)

    def finished(self) -> int | None:
        if not hasattr(self, "_engine"):
            self._engine = create_engine(told("POSTGRES"))
        with self._engine.connect() as connection:
            statement = text("SELECT COUNT(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'")
            return int(connection.execute(statement).scalar_one())

    def _client(self) -> Any:
        from dbos import DBOSClient

        if not hasattr(self, "_enqueuing"):
            self._enqueuing = DBOSClient(system_database_url=told("POSTGRES"), application_name="wires")
        return self._enqueuing


def _launched(executor_id: str, *, listens: bool = True) -> Any:
    from dbos import DBOS

    DBOS(
        config={
            "name": "wires",
            "system_database_url": told("POSTGRES"),
            "executor_id": executor_id,
            "application_version": "1",
            "log_level": "WARNING",
        }
    )

    @DBOS.step()
    def post_step(number: int) -> str:
        return post(number)

    @DBOS.workflow(name="send")
    def send(number: int) -> str:
        return post_step(number)

    if not listens:
        DBOS.listen_queues([])
    DBOS.launch()
    DBOS.register_queue("wires", polling_interval_sec=POLL_SECONDS)
    return DBOS


def main() -> None:
    _launched(sys.argv[1])
    print("takes work", flush=True)
    signal.pause()


contestant = DbosQueue()

if __name__ == "__main__":
    main()
