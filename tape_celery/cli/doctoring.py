"""The commands that look at the installation: its workers, and everything that may be wrong with it."""

from __future__ import annotations

import dataclasses

from tape_celery.cli import tables
from tape_celery.cli.group import as_json, command, watch
from tape_celery.doctor import Severity
from tape_celery.store import inspection
from tape_celery.tape import Tape


@command(watch, as_json)
def doctor(tape: Tape, as_json: bool) -> int:
    """One look at Celery, broker, store, workers and connectors. Exit code: 0 fine, 1 warnings, 2 problems."""
    found = tape.diagnose()
    if as_json:
        tables.print_json([dataclasses.asdict(finding) for finding in found])
    else:
        tables.print_findings(tables.console(), found)
    worst = {finding.severity for finding in found}
    return 2 if Severity.PROBLEM in worst else 1 if Severity.WARNING in worst else 0


@command(watch, as_json)
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
