"""What who operates an installation asks of it: which workers there are, whether it is swept."""

from __future__ import annotations

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
