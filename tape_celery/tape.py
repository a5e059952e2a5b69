"""`Tape(app)`: one store, its engine and its hints, wired into one Celery app; and how `tape_effect` finds it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TextIO, TypeVar

from celery import Celery, current_app, current_task

from tape_celery import archive, authored, canvas, effect_tasks, failpoints, hints, sweep, wiring
from tape_celery.announcing import Announcer
from tape_celery.archive import ExportReport
from tape_celery.client import EffectCaller, process_actor
from tape_celery.connectors import base
from tape_celery.encryption import Cipher
from tape_celery.engine import Engine, Outcome, Report
from tape_celery.errors import (
    ConnectorImportError,
    InvalidIntent,
    NoSuchEffect,
    NoTape,
    SettingsError,
    StoreUnavailable,
    UnknownEncryptionKey,
)
from tape_celery.explaining import Explaining
from tape_celery.export_file import FilePath
from tape_celery.flow import Verb
from tape_celery.handle import EffectHandle, StoreBackend
from tape_celery.loggers import logger_for
from tape_celery.metering import Meter
from tape_celery.operating import Operating
from tape_celery.policy import Terms
from tape_celery.proposing import Proposing
from tape_celery.publisher import Publisher
from tape_celery.records import Effect, EffectStatus, JournalEntry, Obligation, ObligationStatus, RunStatus, Violation
from tape_celery.runs import EffectRun
from tape_celery.settings import NAMES, PREFIX, Settings, settings_from
from tape_celery.stopping import Stopping
from tape_celery.store import audit, chains, inspection, moves, runs, tombstones, walks
from tape_celery.store.audit import Batch
from tape_celery.store.chains import ChainBatch, Head
from tape_celery.store.database import Database
from tape_celery.store.retention import PruneReport
from tape_celery.sweep import Sweep, SweepReport

logger = logger_for(__name__)


class Tape(Proposing, Explaining, Operating):
    """Effects for one Celery app.

    Adds our tasks, queues, routes and beat entry to ``app`` and changes nothing else of it. Nothing is read or opened
    before it is needed: settings are ``tape_<name>`` in ``app.conf``, and keywords given here override them.
    """

    def __init__(self, app: Celery, **settings: Any) -> None:
        self.app = app
        self._given = settings
        self._lock = threading.RLock()
        self._settings: Settings | None = None
        self._database: Database | None = None
        self._engine: Engine | None = None
        self._publisher: Publisher | None = None
        self._meter: Meter | None = None
        self._imported = False
        self.stopping = Stopping()
        """Whether the worker of this process was asked to stop."""
        self.effect = EffectCaller(lambda: self)
        """`tape_effect`, bound to this Tape."""
        if _tape_of(app) is not None:
            raise SettingsError(f"Celery app {app.main or '(unnamed)'} has a Tape already")
        wiring.attach(self)
        _tapes.add(self)

    def __repr__(self) -> str:
        return f"<Tape of Celery app {self.app.main or '(unnamed)'}>"

    # --- the parts, made when they are first needed ---

    @property
    def settings(self) -> Settings:
        """The checked settings; raises `SettingsError` for one that cannot work or does not exist."""
        with self._lock:
            if self._settings is None:
                self._settings = settings_from({**_configured(self.app), **self._given})
            return self._settings

    @property
    def database(self) -> Database:
        """The store."""
        with self._lock:
            if self._database is None:
                keys = self.settings.encryption_keys
                cipher = Cipher(keys) if keys else None
                self._database = Database(self.settings.store_url)
                webhook = self.settings.webhook_connector if self.settings.webhook_url else ""
                self._database.announcer = Announcer(webhook, self.settings.webhook_events)
                self._database.meter = self._meter
                self._database.cipher = cipher
            return self._database

    @property
    def engine(self) -> Engine:
        """The engine over this store, with the connectors of this process."""
        self.import_connectors()
        with self._lock:
            if self._engine is None:
                self._engine = Engine(
                    self.database,
                    self.settings,
                    authored=authored.by_name,
                    actor=process_actor,
                    stopping=self.stopping.asked,
                )
            return self._engine

    @cached_property
    def results(self) -> StoreBackend:
        """The result backend of its handles."""
        return StoreBackend(self)

    def reconfigure(self) -> None:
        """Read the settings again: the app's configuration may have changed since they were read."""
        with self._lock:
            before, self._settings = self._settings, None
            if before is not None and before != self.settings:
                self._database = self._engine = self._publisher = None
                self._imported = False

    def measure(self, meter: Meter | None) -> None:
        """Count by ``meter`` what this process does from now on; by none, with ``None``."""
        with self._lock:
            self._meter = meter
            self.database.meter = meter
            self._publisher = None

    def import_connectors(self) -> None:
        """Import the modules of ``tape_connectors``, once; raises `ConnectorImportError`, which says which and why."""
        if self._imported:
            return
        for module in self.settings.connectors:
            try:
                # As Celery imports the app that -A names: also from the current folder.
                self.app.loader.import_from_cwd(module)
            except (Exception, SystemExit) as error:
                raise ConnectorImportError(
                    f"tape_connectors names {module!r}, which cannot be imported: {type(error).__name__}: {error}"
                ) from error
        if self.settings.webhook_url:
            from tape_celery.connectors.webhook import WebhookConnector

            name, url = self.settings.webhook_connector, self.settings.webhook_url
            base.register(WebhookConnector(name, url, self.settings.webhook_secret))
        self._imported = True

    # --- hints ---

    def hint(
        self,
        verb: str,
        connector: str,
        keys: Sequence[str],
        hops: int = 0,
        *,
        priority: int = 0,
        wait: bool = True,
        together: bool = False,
        queue: str | None = None,
        delay_seconds: float = 0.0,
    ) -> bool:
        """Publish a hint to ``dispatch``, ``observe`` or ``compensate`` ``keys``.

        False when the broker did not take it in time, or was not waited for. ``hops`` says how many workers passed it
        on, ``priority`` (0 to 9) how urgent it is. ``together``: it may be held for some
        milliseconds, to go with others of its connector. ``queue``: another one than theirs. With
        ``task_always_eager`` what a worker would do is done here.
        """
        if self.app.conf.task_always_eager:
            return self._run_eagerly(verb, keys)
        if queue is None:
            queue = str(getattr(self.settings, f"{verb}_queue"))
            if verb == "dispatch" and connector in base.names():
                queue = getattr(base.get(connector), "dispatch_queue", None) or queue
        ride_with = connector if together else None
        return self._publishing().publish(
            f"tape.{verb}", queue, keys, hops, priority, ride_with=ride_with, wait=wait, delay_seconds=delay_seconds
        )

    def _run_eagerly(self, verb: str, keys: Sequence[str]) -> bool:
        run = {"dispatch": self.engine.dispatch, "observe": self.engine.observe, "compensate": self.engine.compensate}
        try:
            self.follow_up(run[verb](keys))
        except StoreUnavailable as error:
            logger.warning("what was hinted is left to the sweep: %s", error)
            return False
        return True

    def publish(self, signature: Any, first: Any, options: dict[str, Any]) -> bool:
        """Publish one callback, with ``first`` as its first argument, within the bound of a hint."""
        return self._publishing().publish_signature(signature, first, options)

    def _publishing(self) -> Publisher:
        with self._lock:
            if self._publisher is None:
                self._publisher = Publisher(
                    self.app,
                    timeout_seconds=self.settings.publish_timeout_seconds,
                    chunk_size=self.settings.chunk_size,
                    meter=self._meter,
                )
            return self._publisher

    def _call_back(self, effect_keys: Sequence[str]) -> None:
        if effect_keys:
            canvas.send_due(self, effect_keys)

    def follow_up(self, report: Report) -> None:
        """Publish the hints for what one pass made due at once."""
        for verb, effects in (("dispatch", report.to_dispatch), ("observe", report.to_observe)):
            wanted = [hints.Wanted(effect.effect_key, effect.connector, effect.priority) for effect in effects]
            for hint in hints.grouped(wanted, self.settings.chunk_size):
                self.hint(verb, hint.connector, hint.keys, priority=hint.priority)
        if report.to_compensate:
            self.hint("compensate", "", report.to_compensate)
        self._walk_due(report.run_ids)
        self._call_back(report.called_back)
        if not self.app.conf.task_always_eager:  # one within another, for as long as anything waits
            self._hint_waiting(report.freed)

    def _hint_waiting(self, freed: Mapping[tuple[str, Verb], int]) -> None:
        """Hint what waits for the places that are free now."""
        for (connector, verb), places in freed.items():
            try:
                sweep.hint_next(self.database, self.settings, self.engine, self._publish, connector, verb, most=places)
            except StoreUnavailable as error:
                logger.warning("what waits for %s is left to the sweep: %s", connector, error)

    def _publish(
        self, verb: str, connector: str, keys: Sequence[str], priority: int, delay_seconds: float = 0.0
    ) -> None:
        self.hint(verb, connector, keys, priority=priority, delay_seconds=delay_seconds)

    # --- look ---

    def get(self, effect_key: str) -> Effect | None:
        """The effect as its row stands; ``None`` where there is none."""
        return inspection.get_effect(self.database, effect_key)

    def pruned(self, effect_key: str) -> Effect | None:
        """What is left of an effect that was pruned: its keys and its outcome, but no request, response or journal."""
        return tombstones.get(self.database, effect_key)

    def handle(self, effect_key: str) -> EffectHandle:
        """A handle of an effect by its key, whether it exists or not."""
        return EffectHandle(effect_key, self)

    def effects(
        self,
        status: EffectStatus | str | None = None,
        connector: str | None = None,
        run_id: str | None = None,
        business_key: str | None = None,
        limit: int = 100,
    ) -> list[Effect]:
        """Effects that match every filter given, newest first; ``limit`` is 10,000 at most."""
        wanted = None if status is None else _word(EffectStatus, status)
        if not isinstance(limit, int) or limit < 1:
            raise InvalidIntent(f"limit must be 1 or more, not {limit!r}")
        return inspection.list_effects(
            self.database, status=wanted, connector=connector, run_id=run_id, business_key=business_key, limit=limit
        )

    def journal(self, key: str) -> list[JournalEntry]:
        """The history of one effect or obligation, oldest entry first."""
        return inspection.read_journal(self.database, key)

    def obligations(
        self, run_id: str | None = None, effect_key: str | None = None, status: ObligationStatus | str | None = None
    ) -> list[Obligation]:
        """Obligations that match every filter given, oldest first."""
        wanted = None if status is None else _word(ObligationStatus, status)
        return inspection.list_obligations(self.database, run_id=run_id, effect_key=effect_key, status=wanted)

    def counts(self, at_most: int | None = None) -> list[inspection.Count]:
        """How many effects each connector has in each state.

        That takes the longer the more are kept; with ``at_most``, no more than so many of each are counted.
        """
        return inspection.count_effects(self.database, at_most)

    def obligation_counts(self, at_most: int | None = None) -> list[inspection.Count]:
        """How many obligations each connector has in each state; with ``at_most``, of no state are more counted."""
        return inspection.count_obligations(self.database, at_most)

    def audit(self, live: bool = False) -> list[Violation]:
        """Rows that break a safety invariant; with ``live``, also what is overdue. Safe on a running system."""
        return audit.audit(self.database, live=live, grace_seconds=self._grace_seconds())

    def overdue(self) -> list[Violation]:
        """What has been due for longer than a few sweeps: the part of a live `audit` that costs next to nothing."""
        return audit.overdue(self.database, grace_seconds=self._grace_seconds())

    def audit_batches(self, after: str = "") -> Iterator[Batch]:
        """`audit`, some thousands of effects at a time, in the order of their keys, each in a short transaction.

        A large store can so be audited in parts: each batch has the ``watermark`` from which the next run goes on.
        """
        return audit.batches(self.database, after=after)

    def audit_chain(self, after: str = "") -> Iterator[ChainBatch]:
        """Verify the journal's digests, some hundred effects at a time, as `audit_batches` does.

        Each batch says what was changed or taken out, how many entries are from before there were digests, and what
        each chain ends with: such heads, kept elsewhere, are compared by `audit_heads`. Safe on a running system.
        """
        return chains.batches(self.database, after=after)

    def audit_heads(self, heads: Sequence[Head]) -> Iterator[Violation]:
        """Those of ``heads``, kept from an earlier `audit_chain`, that the journal has not any more.

        What was pruned since is none of them.
        """
        return chains.against(self.database, heads)

    # --- act: one pass of the engine, here and now ---

    def dispatch(self, *effect_keys: str) -> dict[str, Outcome]:
        """Call the upstream for those of ``effect_keys`` that are due and free; one named outcome a key."""
        report = self.engine.dispatch(effect_keys)
        self._walk_due(report.run_ids)
        self._call_back(report.called_back)
        return report.outcomes

    def observe(self, *effect_keys: str) -> dict[str, Outcome]:
        """Ask the upstream about those of ``effect_keys`` whose look is due; one named outcome a key."""
        report = self.engine.observe(effect_keys)
        self._walk_due(report.run_ids)
        self._call_back(report.called_back)
        return report.outcomes

    def compensate(self, *obligation_keys: str) -> dict[str, Outcome]:
        """Run the inverse of those of ``obligation_keys`` that are due; one named outcome a key."""
        report = self.engine.compensate(obligation_keys)
        self._walk_due(report.run_ids)
        return report.outcomes

    def sweep(self) -> SweepReport:
        """One pass of every sweep: publishes hints again, ends leases that are over, stops what has expired."""
        actor = f"sweep@{process_actor()}"
        one = Sweep(
            self.database,
            self.settings,
            self.engine,
            publish=self._publish,
            actor=actor,
            walk_runs=self._walk,
            send_callbacks=lambda: canvas.send_due(self),
        )
        return one.run()

    # --- runs ---

    def run(self, run_id: str) -> EffectRun:
        """The run of that id, whether anything is in it or not: a block for what belongs to it, and its acts.

        Raises `InvalidIntent` for what is no id.
        """
        return EffectRun(self, run_id, actor=process_actor())

    def close_run(
        self,
        run_id: str,
        status: RunStatus,
        *,
        reason: str,
        actor: str,
        seen_version: int | None = None,
        refuse: runs.Refusal | None = None,
        alongside: moves.Alongside | None = None,
    ) -> EffectRun:
        """Close a run, whether anything is in it or not, and take its first steps."""
        runs.close(
            self.database,
            run_id,
            status,
            reason=reason,
            actor=actor,
            seen_version=seen_version,
            refuse=refuse,
            alongside=alongside,
        )
        failpoints.reach("run.closed")
        self._walk([run_id])
        return EffectRun(self, run_id, actor=process_actor())

    def _walk(self, run_ids: Sequence[str]) -> None:
        """Take the steps of these runs that can be taken now; what cannot be taken is left to the sweep."""
        sweep_ms = round(self.settings.relay_seconds * 1000)
        for run_id in run_ids:
            try:
                walk = walks.walk(self.database, run_id, terms=self._terms, actor=process_actor(), sweep_ms=sweep_ms)
            except StoreUnavailable as error:
                logger.warning("run %s is left to the sweep: %s", run_id, error)
                return
            except UnknownEncryptionKey as error:
                logger.error("run %s is left as it is: %s", run_id, error, extra={"run": run_id})
                continue
            if walk.run.status is RunStatus.STUCK:
                logger.error("run %s is STUCK: %s", run_id, walk.run.reason, extra={"run": run_id})
            if walk.owed:
                self.hint("compensate", "", walk.owed)

    def _walk_due(self, run_ids: Collection[str]) -> None:
        """Walk those of these runs that are closed: something in them has moved."""
        if not run_ids:
            return
        try:
            closed = runs.due(self.database, limit=len(run_ids), among=run_ids)
        except StoreUnavailable as error:
            logger.warning("closed runs are left to the sweep: %s", error)
            return
        self._walk(closed)

    # --- keep ---

    def prune(
        self,
        older_than_days: float | None = None,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        export_to: FilePath | None = None,
    ) -> PruneReport:
        """Remove effects that ended more than ``older_than_days`` ago, with their journals, obligations and callbacks.

        Without ``older_than_days``: ``tape_retention_days``. It goes by the database's clock, the oldest first, some
        hundred effects a transaction, ``limit`` of them at most. Nothing goes that is unsettled, watched or owed, nor
        any member of a run with such a one. What goes leaves a tombstone: its idempotency key, and the business key
        of a CONFIRMED one, stay taken. ``dry_run`` counts the effects that could go now.

        ``export_to`` is a new file that gets a line of each effect, as of `export`, and has it on disk before the
        effect goes. A crash may leave lines there of effects that still are in the store, the last one torn.

        Raises `SettingsError` for less than a day or than the last ``tape_absence_watch``, and where neither says how
        long; `ExportTargetExists`; `ExportFailed` and `StoreUnavailable`: what was pruned before stays pruned, and
        running it again goes on, with another file.
        """
        return archive.prune(
            self.database, self.settings, older_than_days, limit=limit, dry_run=dry_run, export_to=export_to
        )

    def export(self, target: FilePath | TextIO, *, older_than_days: float | None = None) -> ExportReport:
        """Write every effect to ``target`` as JSON lines; with ``older_than_days``, what could be pruned now.

        One line an effect, in the order of their keys: ``schema`` (the revision that names its columns), ``effect``,
        its ``journal``, its ``obligations`` with a ``journal`` each, its ``callbacks``; the columns as they stand in
        the store. It is read some hundred effects a transaction: a line is one moment, the whole is not. What is
        recorded, changed or pruned meanwhile may be there or not.

        A path gets a new file that only its owner may read, whole and on disk, or none: a process that dies leaves a
        ``.part`` beside it. A text file object is written to, and neither synced nor closed; what it raises is raised.

        What ``older_than_days`` means and raises is as of `prune`, but there is no default: what ``dry_run`` counts.
        A `prune` that comes later takes more; its ``export_to`` has all that it takes. Raises `ExportTargetExists`,
        `ExportFailed`, `StoreUnavailable`.
        """
        return archive.export(self.database, self.settings, target, older_than_days)

    def migrate(self) -> None:
        """Create or upgrade the store's schema. Raises `SchemaMismatch` where it is newer than this code."""
        self.database.prepare_file()
        self.database.migrate()

    def _hint_next(self, moved: moves.Moved[Effect]) -> None:
        """Hint the effect whose turn it has become by what was done to another one of its ordering key."""
        if (turn := moved.next) is not None:
            self.hint("dispatch", turn.connector, [turn.effect_key], priority=turn.priority)

    def _existing(self, effect_key: str) -> Effect:
        effect = self.get(effect_key)
        if effect is None:
            raise NoSuchEffect(effect_key)
        return effect

    def _terms(self, record: Effect | Obligation) -> Terms:
        return self.engine.terms(record)

    def _grace_seconds(self) -> float:
        """How long a row may be overdue before somebody should know: a few sweeps and a relay."""
        return self.settings.relay_seconds + 3 * self.settings.sweep_seconds


W = TypeVar("W", EffectStatus, ObligationStatus)


def _word(words: type[W], status: str) -> W:
    try:
        return words(status)
    except ValueError:
        raise InvalidIntent(f"status must be one of {', '.join(words)}, not {status!r}") from None


def _configured(app: Celery) -> dict[str, Any]:
    """The ``tape_…`` settings of the app's configuration, without their prefix."""
    # With a namespace the names that were given are the app's own, CELERY_TAPE_LEASE_SECONDS.
    start = (f"{app.namespace}_{PREFIX}" if app.namespace else PREFIX).lower()
    given = [key.lower()[len(start) :] for key in app.conf if isinstance(key, str) and key.lower().startswith(start)]
    settings_from({name: None for name in given if name not in NAMES})
    missing = object()
    found = {name: app.conf.get(PREFIX + name, missing) for name in NAMES}
    return {name: value for name, value in found.items() if value is not missing}


# --- finding the Tape that a call means ---

_tapes: weakref.WeakSet[Tape] = weakref.WeakSet()
"""Those whose app is alive: the app's tasks hold its Tape."""


def tape_of(app: Celery) -> Tape:
    """The Tape of ``app``; raises `NoTape`."""
    tape = _tape_of(_real(app))
    if tape is None:
        raise NoTape(f"Celery app {app.main or '(unnamed)'} has no Tape; make one with Tape(app)")
    return tape


def find_tape() -> Tape:
    """The running task's, else the current app's, else the only one of the process.

    Raises `NoTape`, which lists them.
    """
    for app in (current_task.app if current_task else None, current_app):
        tape = None if app is None else _tape_of(_real(app))
        if tape is not None:
            return tape
    known = list(_tapes)
    if len(known) == 1:
        return known[0]
    if not known:
        raise NoTape("there is no Tape in this process; make one with Tape(app)")
    listed = ", ".join(sorted(repr(tape) for tape in known))
    raise NoTape(
        f"there are {len(known)} Tapes in this process and none belongs to the current app: {listed}; use tape.effect"
    )


def _tape_of(app: Celery) -> Tape | None:
    return next((tape for tape in list(_tapes) if tape.app is app), None)


def _real(app: Any) -> Celery:
    """The app behind Celery's proxies."""
    real: Celery = app._get_current_object() if hasattr(app, "_get_current_object") else app
    return real


# What `EffectCaller.s` names: every app with a Tape has it, whoever made the signature.
effect_tasks.add(
    "tape.intent",
    lambda args, kwargs, **options: find_tape().effect.apply_async(args, kwargs, **options),
    lambda effect_key: find_tape().handle(effect_key),
)
