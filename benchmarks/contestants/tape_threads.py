"""tape_celery on PostgreSQL and Redis, `.delay()` one by one, its workers as the Procfile starts them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants import Worker
from benchmarks.contestants.tape_one_by_one import TapeOneByOne

_PROCFILE = Path(__file__).parents[2] / "Procfile"


class TapeThreads(TapeOneByOne):
    """As one by one, but with pools of threads: no message goes from one process to another before it is worked on."""

    title = "tape_celery, .delay() one by one, workers of the Procfile"
    setup = (
        "As one by one, but its workers are those of the Procfile: one of 8 threads (`--pool threads`) for each of the "
        "four queues, and beat."
    )

    def workers(self) -> Sequence[Worker]:
        """Those of the Procfile, and `TapeOneByOne`'s beat."""
        lines = [line.partition(": celery ")[2] for line in _PROCFILE.read_text().splitlines()]
        workers = [line for line in lines if " worker " in line]
        return [
            *(Worker(("-m", "celery", *shlex.split(line)), " ready.") for line in workers),
            super().workers()[-1],
        ]


contestant = TapeThreads()
