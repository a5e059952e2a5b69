"""A plain Celery task that makes the POST: no row, no lease, no second look."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery

from benchmarks.contestants import Contestant, Worker, told
from benchmarks.contestants.posting import post

app = Celery("plain", broker=told("REDIS") or "memory://", set_as_current=False)
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
)


@app.task(name="plain.send")
def send(number: int) -> None:
    """POST it."""
    post(number)


class PlainCelery(Contestant):
    """`send.delay(number)`, one by one."""

    title = "plain Celery"
    setup = (
        "Celery's defaults on Redis (prefork, 2 processes, acknowledged before the task runs), no result backend, and "
        "a prefetch multiplier of 64, as its guide advises for many short tasks. The task POSTs by httpx.Client."
    )

    def workers(self) -> Sequence[Worker]:
        app_of_this = "benchmarks.contestants.plain_celery"
        return [Worker(("-m", "celery", "-A", app_of_this, "worker", "-c", "2", "-l", "WARNING"), "")]

    def submit(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            send.delay(number)


contestant = PlainCelery()
