"""What is kept for how long: pruning what ended long ago, and exporting it before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from sqlalchemy import Connection

from tape_celery import export_file, failpoints, migrations
from tape_celery.errors import ExportFailed, InvalidIntent, SettingsError
from tape_celery.export_file import FilePath
from tape_celery.settings import Settings, check_retention
from tape_celery.store import exports, retention
from tape_celery.store.database import Database
from tape_celery.store.exports import Exported
from tape_celery.store.retention import Keep, PruneReport

DAY_MS = 86_400_000


@dataclass
class ExportReport:
    """What was exported, in rows, and the key of the last effect: ``""`` where there was none."""

    effects: int = 0
    obligations: int = 0
    callbacks: int = 0
    journal_entries: int = 0
    watermark: str = ""


def prune(
    database: Database,
    settings: Settings,
    older_than_days: float | None,
    *,
    limit: int | None,
    dry_run: bool,
    export_to: FilePath | None,
) -> PruneReport:
    """As `Tape.prune`."""
    if older_than_days is None:
        older_than_days = settings.retention_days
        if not older_than_days:
            raise SettingsError("tape_retention_days is not set; say older_than_days")
    age_ms = _age_ms(settings, older_than_days)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise InvalidIntent(f"limit must be 1 or more, not {limit!r}")
    if dry_run:
        if export_to is not None:
            raise InvalidIntent(f"dry_run takes nothing: there is nothing to export to {export_to!s}")
        number = retention.count(database, age_ms=age_ms)
        return PruneReport(effects=number if limit is None else min(number, limit))
    report = PruneReport()
    if export_to is None:
        for chunk in retention.chunks(database, age_ms=age_ms, limit=limit):
            _add(report, chunk)
        return report
    database.ready()
    with export_file.growing(export_to) as file:
        for chunk in retention.chunks(database, age_ms=age_ms, limit=limit, keep=_written_to(file)):
            file.keep()
            _add(report, chunk)
    return report


def export(
    database: Database, settings: Settings, target: FilePath | TextIO, older_than_days: float | None
) -> ExportReport:
    """As `Tape.export`."""
    age_ms = None if older_than_days is None else _age_ms(settings, older_than_days)
    if isinstance(target, (str, os.PathLike)):
        with export_file.whole(target) as file:
            return _export(database, age_ms, file.write)
    try:
        target.write("")
    except (AttributeError, TypeError, ValueError, OSError) as error:
        raise ExportFailed(f"an export goes to a path or to a text file that is open, not to {target!r}") from error
    return _export(database, age_ms, lambda line: target.write(f"{line}\n"))


def _export(database: Database, age_ms: int | None, write: Callable[[str], object]) -> ExportReport:
    report, schema = ExportReport(), migrations.head()
    for batch in exports.batches(database, age_ms=age_ms):
        for one in batch:
            write(_line(schema, one))
            debts = one["obligations"]
            report.effects += 1
            report.obligations += len(debts)
            report.callbacks += len(one["callbacks"])
            report.journal_entries += len(one["journal"]) + sum(len(debt["journal"]) for debt in debts)
            report.watermark = one["effect"]["effect_key"]
        failpoints.reach("export.batch")
    return report


def _written_to(file: export_file.ExportFile) -> Keep:
    """Write effects to ``file``, and return when they are on disk."""
    schema = migrations.head()

    def keep(connection: Connection, keys: Sequence[str]) -> None:
        file.take_back()  # the lines of a transaction that did not come to its end
        for start in range(0, len(keys), exports.BATCH):
            for one in exports.read(connection, keys[start : start + exports.BATCH]):
                file.write(_line(schema, one))
        file.sync()

    return keep


def _line(schema: str, one: Exported) -> str:
    return json.dumps({"schema": schema, **one}, separators=(",", ":"))


def _add(report: PruneReport, chunk: PruneReport) -> None:
    report.effects += chunk.effects
    report.obligations += chunk.obligations
    report.callbacks += chunk.callbacks
    report.journal_entries += chunk.journal_entries


def _age_ms(settings: Settings, older_than_days: float) -> int:
    check_retention("older_than_days", older_than_days, settings.absence_watch)
    return round(older_than_days * DAY_MS)
