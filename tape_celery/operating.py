"""What who operates an installation asks of it: which workers there are, what is wrong, that a connector is to wait
or to be called no faster than it can bear, that keys are changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from tape_celery import doctor, flow, intent
from tape_celery.connectors import base
from tape_celery.doctor.findings import Finding
from tape_celery.errors import InvalidIntent, UnknownConnector
from tape_celery.flow import Flow, Verb, What
from tape_celery.intent import check_connector_name, check_seen_version, said
from tape_celery.loggers import logger_for
from tape_celery.part import TapePart
from tape_celery.records import Pause, Worker
from tape_celery.store import fleet, flows, reencryption, waiting
from tape_celery.store.reencryption import ReencryptReport

logger = logger_for(__name__)


class _Told(NamedTuple):
    """Why, who, and which version they had before them."""

    reason: str
    actor: str
    seen_version: int | None


class Operating(TapePart):
    """Looks at the workers and at the sweep, and controls what connectors are asked to do."""

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

    def pause(
        self, connector: str, *, reason: str, actor: str, looks: bool = False, seen_version: int | None = None
    ) -> Pause:
        """Let nobody call ``connector`` until it is resumed: no dispatch and no inverse of it is begun by any worker.

        What is under way ends, looks go on (to look changes nothing), and what waits keeps its place, its due time and
        its attempts; one whose expiry passes is CANCELLED. It holds from the next claim on, without a message to
        anybody. ``looks``: let nobody look instead; calls go on. Pausing what is paused says anew who and why.
        ``seen_version``: the ``version`` of the `Flow` that the person looked at (0 where there is none), compared in
        the act's own transaction: `StaleView` where somebody has said something of its calls (or of its looks) since.
        Raises `UnknownConnector` for a name that neither this process, nor a worker, nor any effect knows;
        `InvalidIntent`; `StoreUnavailable`.
        """
        told = _Told(reason, actor, seen_version)
        _, after = self._say(connector, looks, "pause", lambda one, now: replace(one, paused=True), told)
        logger.warning("connector %s was paused%s by %s: %s", connector, _for(looks), after.actor, after.reason)
        return flows.as_pause(after)

    def resume(
        self, connector: str, *, reason: str, actor: str, looks: bool = False, seen_version: int | None = None
    ) -> int:
        """Let ``connector`` be called again, or be looked at; returns how many rows were asleep.

        The next sweeps hint them, as far as its limits let them go. Resuming what is not paused only wakes what may
        still sleep: when it died in between, the rest wakes by itself in some minutes, or when it is called again.
        Raises what `pause` raises.
        """
        told = _Told(reason, actor, seen_version)
        _, after = self._say(connector, looks, "pause", lambda one, now: replace(one, paused=False), told)
        woken = waiting.wake(self._tape.database, connector, after.verb)
        logger.warning("connector %s was resumed%s by %s: %s", connector, _for(looks), after.actor, after.reason)
        return woken

    def limit(
        self,
        connector: str,
        *,
        at_once: int | None = None,
        rate: str | None = None,
        waiting: int | None = None,
        looks: bool = False,
        reason: str,
        actor: str,
        seen_version: int | None = None,
    ) -> Flow:
        """Let no more than ``at_once`` calls of ``connector`` be under way over all workers, and begin no more than
        ``rate`` says, like ``"10/second"`` or ``"100/minute"``, from the next claim on; and record no more effects of
        it while ``waiting`` of them are PENDING: who asks for one more gets `QueueFull`.

        ``None`` leaves a limit as it is, ``0`` and ``""`` take it away. Dispatches and inverses count together;
        ``looks``: limit looks instead. What waits uses no attempt, and goes in its order: the urgent first, then what
        waits longest. A worker that dies gives its places back when its leases end. In no period of the rate's length
        are more admitted than its count, a tenth of them at once at the most; the sustained rate is up to a tenth
        lower. ``waiting`` may be exceeded by what others record at the same moment; inverses, webhooks, reissues and
        what is recorded already never count against it, and it is not for looks. Raises `InvalidIntent`, and what
        `pause` raises.
        """
        if at_once is not None and not _is_count(at_once, 0, flow.MOST_AT_ONCE):
            raise InvalidIntent(f"at_once must be 0 to {flow.MOST_AT_ONCE}, not {at_once!r}")
        if waiting is not None and not _is_count(waiting, 0, flow.MOST_WAITING):
            raise InvalidIntent(f"waiting must be 0 to {flow.MOST_WAITING}, not {waiting!r}")
        if waiting and looks:
            raise InvalidIntent("waiting is about what is to be sent, and not for looks")
        if at_once is None and rate is None and waiting is None:
            raise InvalidIntent("give at_once, rate or waiting")
        given = {"at_once": at_once, "most_waiting": waiting}
        limits: dict[str, Any] = {name: number for name, number in given.items() if number is not None}
        if rate is not None:
            limits |= dict(zip(("rate_count", "rate_ms"), flow.parse_rate(rate), strict=True))
        by = _Told(reason, actor, seen_version)
        after = self._control(connector, looks, "limit", lambda one, now: replace(one, **limits), by)
        told = f"{after.at_once or 'any number'} at once, {flow.shown_rate(after) or 'at any rate'}"
        told += f", {after.most_waiting} may wait" if after.most_waiting else ""
        logger.warning("connector %s was limited%s by %s: %s: %s", connector, _for(looks), actor, told, after.reason)
        return after

    def breaker(
        self,
        connector: str,
        *,
        share: float = 0.5,
        least: int = 10,
        window_seconds: float = 60,
        open_seconds: float = 30,
        looks: bool = False,
        reason: str,
        actor: str,
        seen_version: int | None = None,
    ) -> Flow:
        """Stop calling ``connector`` for ``open_seconds`` once a ``share`` of its calls is in trouble.

        Trouble is a call whose outcome is UNKNOWN, or that failed (refused, told to wait, never sent); a lapse of a
        dead worker's lease is not. It is counted in windows of ``window_seconds``, and of fewer than ``least`` calls
        nothing is concluded. Then one effect is let go, the probe; when that has landed the upstream is asked about
        it, where it can be, and only if it knows of it everything goes on. What waits uses no attempt.

        ``share=0`` takes the breaker away; setting it closes it. ``looks``: a breaker for looks instead, for which one
        that raised or got no answer is trouble. Raises `InvalidIntent`, and what `pause` raises.
        """
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
            raise InvalidIntent(f"share must be a number from 0 to 1, not {share!r}")
        if not _is_count(least, 1, flow.MOST_COUNT):
            raise InvalidIntent(f"least must be 1 to {flow.MOST_COUNT}, not {least!r}")
        spans = {"window_ms": window_seconds, "open_ms": open_seconds}
        for seconds in spans.values():
            number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if not (number and 0.001 <= seconds <= flow.MOST_MS / 1000):
                raise InvalidIntent(f"a breaker's seconds must be more than 0 and up to 31 days, not {seconds!r}")
        chosen: dict[str, Any] = {name: round(seconds * 1000) for name, seconds in spans.items()}
        chosen |= {"trouble_percent": max(1, round(share * 100)) if share else 0, "least_calls": least}
        by = _Told(reason, actor, seen_version)
        after = self._control(
            connector, looks, "breaker", lambda one, now: flow.closed(replace(one, **chosen), now), by
        )
        told = f"{after.trouble_percent} % of {least} or more" if share else "none"
        logger.warning("breaker of connector %s%s, by %s: %s: %s", connector, _for(looks), actor, told, after.reason)
        return after

    def flows(self) -> list[Flow]:
        """The connectors that are paused or under a control, for calls and for looks, by name; and where it stands."""
        return [one for one in flows.every(self._tape.database) if one.said_anything]

    def _control(
        self, connector: str, looks: bool, what: What, change: Callable[[Flow, int], Flow], told: _Told
    ) -> Flow:
        before, after = self._say(connector, looks, what, change, told)
        if before.controlled and not after.controlled and not after.paused:
            waiting.wake(self._tape.database, connector, after.verb)
        return after

    def _say(
        self, connector: str, looks: bool, what: What, change: Callable[[Flow, int], Flow], told: _Told
    ) -> tuple[Flow, Flow]:
        check_connector_name(connector)
        self._refuse_strange(connector)
        verb: Verb = "look" if looks else "call"
        check_seen_version(told.seen_version)
        who, seen = said("actor", told.actor), told.seen_version
        why = intent.reason_of(who, told.reason, self._tape.settings.reason_min_characters)
        return flows.say(self._tape.database, connector, verb, what, change, reason=why, actor=who, seen_version=seen)

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
        return flows.pauses(self._tape.database)

    def _refuse_strange(self, connector: str) -> None:
        self._tape.import_connectors()
        known = {*base.names(), *(name for worker in self.workers() for name in worker.connectors)}
        if connector not in known and not self._tape.effects(connector=connector, limit=1):
            raise UnknownConnector(connector, known)


def _is_count(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _for(looks: bool) -> str:
    return " for looks" if looks else ""
