"""procrastinate: jobs in the same PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import procrastinate
import psycopg

from benchmarks.contestants import Contestant, Worker, told

PROCESSES = 2
CONCURRENCY = 10
_CONNINFO = told("POSTGRES").replace("+psycopg", "", 1)

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=_CONNINFO))
_clients: list[httpx.AsyncClient] = []


@app.task(name="send", queue="wires")
async def send(number: int) -> None:
    """POST it, from the worker's event loop."""
    if not _clients:
        _clients.append(httpx.AsyncClient(timeout=10, trust_env=False))
    answer = await _clients[0].post(told("UPSTREAM"), json={"number": number})
    answer.raise_for_status()


class ProcrastinateJobs(Contestant):
    """`send.defer(number=…)`, one by one."""

    title = "procrastinate"
    setup = (
        f"{PROCESSES} `procrastinate worker` processes with a concurrency of {CONCURRENCY}, an async task that POSTs "
        "by httpx.AsyncClient; deferred from synchronous code."
    )

    def workers(self) -> Sequence[Worker]:
        command = ("-m", "procrastinate", "--app", "benchmarks.contestants.procrastinate_jobs.app", "worker")
        return [Worker((*command, "-c", str(CONCURRENCY), "-n", f"w{n}"), "Starting worker") for n in range(PROCESSES)]

    def prepare(self) -> None:
        app.open()
        app.schema_manager.apply_schema()

    def submit(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            send.defer(number=number)

    def finished(self) -> int | None:
        with psycopg.connect(_CONNINFO) as connection:
            question = "SELECT COUNT(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
            found = connection.execute(question).fetchone()
            return int(found[0]) if found else 0


contestant = ProcrastinateJobs()
