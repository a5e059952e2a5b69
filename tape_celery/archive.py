"""What is kept for how long: pruning what ended long ago."""

from __future__ import annotations

from tape_celery.errors import InvalidIntent, SettingsError
from tape_celery.settings import Settings, check_retention
from tape_celery.store import retention
from tape_celery.store.database import Database
from tape_celery.store.retention import PruneReport

DAY_MS = 86_400_000


def prune(
    database: Database, settings: Settings, older_than_days: float | None, *, limit: int | None, dry_run: bool
) -> PruneReport:
    """As `Tape.prune`."""
    age_ms = _age_ms(settings, older_than_days)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise InvalidIntent(f"limit must be 1 or more, not {limit!r}")
    report = PruneReport()
    if dry_run:
        number = retention.count(database, age_ms=age_ms)
        report.effects = number if limit is None else min(number, limit)
        return report
    for chunk in retention.chunks(database, age_ms=age_ms, limit=limit):
        report.effects += chunk.effects
        report.obligations += chunk.obligations
        report.callbacks += chunk.callbacks
        report.journal_entries += chunk.journal_entries
    return report


def _age_ms(settings: Settings, older_than_days: float | None) -> int:
    if older_than_days is None:
        older_than_days = settings.retention_days
        if not older_than_days:
            raise SettingsError("tape_retention_days is not set; say older_than_days")
    check_retention("older_than_days", older_than_days, settings.absence_watch)
    return round(older_than_days * DAY_MS)
