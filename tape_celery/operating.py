"""What who operates an installation asks of it: which workers there are, what is wrong, that a connector is to wait,
that keys are changed."""

from __future__ import annotations

import logging

from tape_celery import doctor
from tape_celery.connectors import base
from tape_celery.doctor.findings import Finding
from tape_celery.errors import InvalidIntent, UnknownConnector
from tape_celery.intent import check_connector_name, said
from tape_celery.part import TapePart
from tape_celery.records import Pause, Worker
from tape_celery.store import fleet, pausing, reencryption
from tape_celery.store.reencryption import ReencryptReport

logger = logging.getLogger(__name__)


class Operating(TapePart):
    """Looks at the workers and at the sweep, and pauses connectors."""

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

    def pause(self, connector: str, *, reason: str, actor: str) -> Pause:
        """Let nobody call ``connector`` until it is resumed: no dispatch and no inverse of it is begun by any worker.

        What is under way ends, looks go on (to look changes nothing), and what waits keeps its place, its due time and
        its attempts; one whose expiry passes is CANCELLED. It holds from the next claim on, without a message to
        anybody. Pausing what is paused says anew who and why. Raises `UnknownConnector` for a name that neither this
        process, nor a worker, nor any effect knows; `InvalidIntent`; `StoreUnavailable`.
        """
        check_connector_name(connector)
        self._refuse_strange(connector)
        who, why = said("actor", actor), said("reason", reason)
        paused = pausing.pause(self._tape.database, connector, reason=why, actor=who)
        logger.warning("connector %s was paused by %s: %s", connector, who, why)
        return paused

    def resume(self, connector: str, *, reason: str, actor: str) -> int:
        """Let ``connector`` be called again; returns how many rows were asleep, which the next sweeps hint.

        Resuming what is not paused only wakes what may still sleep. Raises what `pause` raises.
        """
        check_connector_name(connector)
        self._refuse_strange(connector)
        who, why = said("actor", actor), said("reason", reason)
        woken = pausing.resume(self._tape.database, connector, reason=why, actor=who)
        logger.warning("connector %s was resumed by %s: %s", connector, who, why)
        return woken

    def reencrypt(self, *, limit: int | None = None, dry_run: bool = False) -> ReencryptReport:
        """Encrypt what is stored plain, or under another key than the first of ``tape_encryption_keys``, under that.

        In the order of keys, some hundred rows a transaction, ``limit`` of them at most; ``dry_run`` counts them. It is
        safe on a running system and may be run again: what moved meanwhile is left to the next time, and what no key
        opens stays as it is. Once nothing is left, the other keys can go. Raises `SettingsError` where no key is set,
        `InvalidIntent`, `StoreUnavailable`.
        """
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise InvalidIntent(f"limit must be 1 or more, not {limit!r}")
        return reencryption.reencrypt(self._tape.database, limit=limit, dry_run=dry_run)

    def pauses(self) -> list[Pause]:
        """The connectors that are paused, by name: since when, by whom, why."""
        return pausing.pauses(self._tape.database)

    def _refuse_strange(self, connector: str) -> None:
        self._tape.import_connectors()
        known = {*base.names(), *(name for worker in self.workers() for name in worker.connectors)}
        if connector not in known and not self._tape.effects(connector=connector, limit=1):
            raise UnknownConnector(connector, known)
