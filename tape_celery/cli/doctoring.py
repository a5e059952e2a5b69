"""The commands that look at the installation: its workers."""

from __future__ import annotations

import dataclasses

from tape_celery.cli import tables
from tape_celery.cli.group import as_json, command
from tape_celery.store import inspection
from tape_celery.tape import Tape


@command(as_json)
def workers(tape: Tape, as_json: bool) -> int:
    """What each worker said of itself last. Exit code: 0 one at least is alive, 1 none is."""
    found = tape.workers()
    now = inspection.now_ms(tape.database)
    if as_json:
        told = [{**dataclasses.asdict(worker), "alive": worker.alive(now)} for worker in found]
        tables.print_json({"workers": told, "last_sweep_ms": tape.last_sweep_ms(), "now_ms": now})
    else:
        tables.print_workers(tables.console(), found, now)
    return 0 if any(worker.alive(now) for worker in found) else 1
