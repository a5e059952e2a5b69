"""What who operates an installation asks of it: which workers there are, whether it is swept."""

from __future__ import annotations

from tape_celery import doctor
from tape_celery.doctor.findings import Finding
from tape_celery.part import TapePart
from tape_celery.records import Worker
from tape_celery.store import fleet


class Operating(TapePart):
    """Looks at the workers and at the sweep."""

    def workers(self) -> list[Worker]:
        """What each worker said of itself last, by name; one that was stopped in order is not among them.

        A worker says it in the store when it is ready and every 30 s; ``alive(now_ms)`` tells one that still does from
        one that was killed, or stands still. One that was not seen for a day is forgotten. While its broker is away a
        worker says nothing.
        """
        return fleet.list_workers(self._tape.database)

    def last_sweep_ms(self) -> int | None:
        """When a sweep began last, on the database's clock, to half an interval; ``None`` where none ever did."""
        return fleet.last_sweep_ms(self._tape.database)

    def diagnose(self) -> list[Finding]:
        """One look across Celery, the broker, the store, the workers and the connectors: what is wrong, what it means
        and what repairs it; problems first, what is fine last.

        It changes nothing, takes some seconds at the most, and raises for nothing that it looks at: what cannot be
        looked at is a finding that says why. It sees the configuration of the process that it runs in.
        """
        return doctor.diagnose(self._tape)
