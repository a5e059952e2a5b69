"""The engine: the only place that knows both the store and the outside.

One pipeline for every verb: claim → connector → decide → seal. What differs is a `Work`: which rows, which kind of
claim, and which operation of the connector turns a row into the event that ends its claim.

What may die where: before the claim is committed nothing has happened; after it, the lease ends by itself and a sweep
makes the row UNKNOWN; an answer that comes after that is late evidence. A seal is tried again, a call never.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic

from tape_celery import failpoints, metering, obligation_state, outcomes, state, tracing
from tape_celery.authored import Authored
from tape_celery.concurrency import MOST_CALLS_AT_ONCE, CallThreads, Room, awaited
from tape_celery.connectors import base
from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import StoreUnavailable
from tape_celery.events import Answered, ClaimEnd, Event, Observed, Unobservable, Withheld
from tape_celery.flow import Breaker, Flow, Trouble, Verb
from tape_celery.lease import LeaseKeeper, monotonic, trusted_until
from tape_celery.loggers import logger_for
from tape_celery.logs import about
from tape_celery.masking import Masks, masks_of
from tape_celery.metering import Meter
from tape_celery.policy import Terms, backoff_ms, margin_ms
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus, replace
from tape_celery.settings import Settings
from tape_celery.store import claims, flows, inspection, moves
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind, R

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

logger = logger_for(__name__)

SEAL_FOR_SECONDS = 60.0
"""How long a seal is tried again while the store is away; after that the lease ends and the upstream is asked."""
SEAL_WHILE_STOPPING_SECONDS = 5.0
"""The same in a worker that was asked to stop."""

HANDED_BACK = "handed back unsent: "


class Outcome(StrEnum):
    """What one pass did with one key."""

    CONFIRMED = "confirmed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    PENDING = "pending"
    """To be tried again when it is due."""
    CANCELLED = "cancelled"
    STUCK = "stuck"
    COMPENSATED = "compensated"
    LATE = "late"
    """The claim was over when the answer came; the answer is in the journal."""
    NOT_DUE = "not_due"
    EXPIRED = "expired"
    """It is not sent any more; the next sweep ends it."""
    WAITING_ITS_TURN = "waiting_its_turn"
    """An earlier effect of its ordering key was not settled."""
    PAUSED = "paused"
    """People have paused its connector."""
    LIMITED = "limited"
    """As many of its connector are under way, or went lately, as may."""
    BREAKER_OPEN = "breaker_open"
    """Its connector is in trouble, and nothing is sent to it for a while."""
    HELD = "held"
    """Another worker holds it."""
    NOTHING_TO_DO = "nothing_to_do"
    """Its state does not ask for this verb."""
    WAITING = "waiting"
    """An obligation whose effect is not CONFIRMED."""
    UNKNOWN_CONNECTOR = "unknown_connector"
    NO_SUCH_KEY = "no_such_key"
    STOPPING = "stopping"
    """Not claimed: this worker was asked to stop."""
    STORE_AWAY = "store_away"
    """Not claimed, or not told why not: the store went away after others of the keys were done."""
    NOT_SEALED = "not_sealed"
    """The store was away for so long that the result could not be written; the lease ends and the upstream is asked."""


@dataclass
class Report:
    """What one pass did, and what is due now because of it."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    to_dispatch: list[Effect] = field(default_factory=list)
    to_observe: list[Effect] = field(default_factory=list)
    to_compensate: list[str] = field(default_factory=list)
    run_ids: set[str] = field(default_factory=set)
    """The runs that may be closed, and in which something has moved."""
    called_back: list[str] = field(default_factory=list)
    """The effects whose callbacks may be due."""
    freed: dict[tuple[str, Verb], int] = field(default_factory=dict)
    """How many places of a limited connector, for a call or a look, are free again."""


@dataclass(frozen=True)
class _Work(Generic[R]):
    """One verb: which rows it claims, and how it performs on one of them."""

    name: str
    kind: Kind[R]
    verb: Verb
    perform: Callable[[R], ClaimEnd]


class Engine:
    """Runs dispatch, observe and compensate over one store with the connectors of this process."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        authored: Mapping[str, Authored],
        actor: Callable[[], str],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._settings = settings
        self._authored = authored
        self._actor = actor
        self._stopping = stopping
        self._threads = CallThreads()
        self._room = Room(MOST_CALLS_AT_ONCE)

    def dispatch(self, effect_keys: Sequence[str], *, in_turn: bool = False) -> Report:
        """Call the upstream once for each effect that is due and free.

        ``in_turn``: of a connector with a limit, what waits and is more urgent, or has waited for longer, goes
        instead. Raises `StoreUnavailable` when nothing was claimed.
        """
        return self._run([_Work("dispatch", EFFECTS, "call", self._dispatch)], effect_keys, in_turn)

    def observe(self, effect_keys: Sequence[str], *, in_turn: bool = False) -> Report:
        """Ask the upstream what became of each UNKNOWN effect whose look is due, and of absences that are watched."""
        return self._run([_Work("observe", EFFECTS, "look", self._observe)], effect_keys, in_turn)

    def compensate(self, obligation_keys: Sequence[str], *, in_turn: bool = False) -> Report:
        """Run the inverse of each obligation that is due, and look after those whose inverse is UNKNOWN."""
        call = _Work("compensate", OBLIGATIONS, "call", self._compensate)
        look = _Work("compensate", OBLIGATIONS, "look", self._observe_compensation)
        return self._run([call, look], obligation_keys, in_turn)

    def reach(self) -> claims.Reach:
        """What this process knows, and so may touch."""
        leases = {name: self._lease_ms(name) for name in base.names()}
        return claims.Reach(leases, tuple(self._authored), round(self._settings.relay_seconds * 1000))

    def terms(self, record: Effect | Obligation) -> Terms:
        """The terms under which ``record`` is decided; the settings' alone where its connector is not known here."""
        connector = self._connector(record.connector)
        settings = self._settings
        settle = _own(connector, "settle_seconds", settings.settle_seconds)
        return Terms(
            settle_ms=round(max(settle, _own(connector, "total_seconds", 0.0)) * 1000),
            window_ms=round(_own(connector, "idempotency_window_seconds", 86_400.0) * 1000),
            lease_ms=self._lease_ms(record.connector),
            observe_attempts=settings.observe_attempts,
            watch_ms=tuple(round(seconds * 1000) for seconds in settings.absence_watch),
            # What is not known here may well have an inverse: what is owed is registered, and who knows it pays it.
            can_compensate=not self._knows(record) or self._inverse(record) is not None,
            compensation_idempotent=getattr(connector, "compensation_semantics", "") == "idempotent",
        )

    # --- the pipeline ---

    def _run(self, works: Sequence[_Work[Any]], keys: Sequence[str], in_turn: bool) -> Report:
        report = Report()
        distinct = list(dict.fromkeys(keys))
        try:
            for start in range(0, len(distinct), self._settings.chunk_size):
                self._run_chunk(works, distinct[start : start + self._settings.chunk_size], report, in_turn)
        except StoreUnavailable as error:
            if not report.outcomes:
                raise
            # What was done has outcomes, and follow-ups that must not wait for a sweep.
            logger.warning("the store is away, the rest of the keys is left: %s", error)
            left = [key for key in distinct if key not in report.outcomes]
            report.outcomes |= dict.fromkeys(left, Outcome.STORE_AWAY)
        return report

    def _run_chunk(self, works: Sequence[_Work[Any]], chunk: Sequence[str], report: Report, in_turn: bool) -> None:
        for work in works:
            left = [key for key in chunk if key not in report.outcomes]
            if left:
                self._claim_and_run(work, left, report, in_turn)
        left = [key for key in chunk if key not in report.outcomes]
        if left:
            reasons = self._why_not(works, left)
            self._count_lost("claim", sum(reason is Outcome.HELD for reason in reasons.values()))
            report.outcomes |= reasons

    def _claim_and_run(self, work: _Work[R], keys: Sequence[str], report: Report, in_turn: bool) -> None:
        with self._room.taken(len(keys)) as give_back:
            self._claim_and_run_within(give_back, work, keys, report, in_turn)

    def _claim_and_run_within(
        self, give_back: Callable[[int], None], work: _Work[R], keys: Sequence[str], report: Report, in_turn: bool
    ) -> None:
        if self._stopping():
            report.outcomes |= dict.fromkeys(keys, Outcome.STOPPING)
            return
        began = monotonic()
        reach, actor = self.reach(), self._actor()
        taken = claims.take(self._database, work.kind, keys, verb=work.verb, reach=reach, actor=actor, in_turn=in_turn)
        claimed = taken.claimed
        failpoints.reach(f"{work.name}.claimed")
        report.outcomes |= {key: Outcome(why.value) for key, why in taken.refused.items()}
        for before, after in taken.turned:
            tell_breaker(before, after, meter=self._database.meter)
        give_back(len(keys) - len(claimed))
        if not claimed:
            return
        self._count_claims(work, claimed)
        fatal: BaseException | None = None
        # Here and not in the threads of the calls, which do not inherit it.
        caller = tracing.current() if self._settings.tracing else None
        with self._keeper(work, claimed) as keeper:
            for ended in self._threads.each(lambda record: self._perform(work, record, began, caller), claimed):
                keeper.release(work.kind.key_of(record) for record, _, _ in ended)
                self._seal(work, [(record, event) for record, event, _ in ended], report, taken)
                give_back(len(ended))
                fatal = next((error for _, _, error in ended if error is not None), fatal)
        for record in claimed:
            if record.connector in taken.flows and taken.flows[record.connector].at_once:
                place = (record.connector, work.verb)
                report.freed[place] = report.freed.get(place, 0) + 1
        if fatal is not None:
            raise fatal

    def _perform(
        self, work: _Work[R], record: R, began: float, caller: SpanContext | None
    ) -> tuple[R, ClaimEnd, BaseException | None]:
        """One call or look.

        What it raises is an outcome; what must end the process is handed back to be raised after the seal.
        """
        lease_ms = self._lease_ms(record.connector)
        event: ClaimEnd
        fatal: BaseException | None = None
        if work.verb == "call" and monotonic() >= trusted_until(began, lease_ms, margin_ms(lease_ms)):
            why = HANDED_BACK + "too little of the lease was left"
            event = Answered(token=0, status="unknown", sent=False, reason=why, backoff_ms=self._backoff(record))
        elif work.verb == "call" and self._stopping():
            why = HANDED_BACK + "its worker was asked to stop"
            event = Answered(token=0, status="unknown", sent=False, reason=why)  # due at once, for another worker
        else:
            event, fatal = self._called(work, record, caller)
        return record, replace(event, token=record.token, nonce=record.claim_nonce, actor=self._actor()), fatal

    def _called(self, work: _Work[R], record: R, caller: SpanContext | None) -> tuple[ClaimEnd, BaseException | None]:
        fatal: BaseException | None = None
        with self._span(work, record, caller) as span:
            try:
                failpoints.reach(f"{work.name}.checked")
                event = self._timed(work, record)
                failpoints.reach(f"{work.name}.called")
                outcome = _told(event)[0].lower()
                span.came_to(outcome, error=outcome if _went_wrong(event) else "")
            except BaseException as error:  # noqa: BLE001 - whatever a connector raises, its call may have landed
                event, described = self._raised(work, record, error)
                span.came_to("raised", error=described["type"], text=outcomes.reason_of(described))
                # What else a connector raises, a cancelled coroutine's error for one, is no wish to end this process.
                fatal = error if isinstance(error, SystemExit | KeyboardInterrupt) else None
        return replace(event, traceparent=span.traceparent) if span.traceparent else event, fatal

    def _span(self, work: _Work[R], record: R, caller: SpanContext | None) -> tracing.Span:
        return tracing.calling(_verb(work), record, caller) if self._settings.tracing else tracing.UNTRACED

    def _timed(self, work: _Work[R], record: R) -> ClaimEnd:
        meter = self._database.meter
        if meter is None:
            return work.perform(record)
        began, result = monotonic(), "raised"
        try:
            event = work.perform(record)
            result = _told(event)[0].lower()
            return event
        finally:
            meter.span(metering.CALLS, monotonic() - began, record.connector, _verb(work), result)

    def _count_claims(self, work: _Work[R], claimed: Sequence[R]) -> None:
        if (meter := self._database.meter) is not None:
            for record in claimed:
                before, kind = ("PENDING", "claimed") if work.verb == "call" else (record.status, "look")
                metering.count_entry(meter, record, before, kind)
            meter.send()

    def _count_lost(self, where: str, number: int) -> None:
        if (meter := self._database.meter) is not None and number:
            meter.count(metering.LOST_RACES, where, by=number)
            meter.send()

    def _raised(self, work: _Work[R], record: R, error: BaseException) -> tuple[ClaimEnd, dict[str, Any]]:
        """The event that it is, and what is known of it."""
        masks = self._masks(record)
        described = outcomes.describe(error, masks)
        logger.warning("%s of %s raised %s", work.name, work.kind.key_of(record), described, extra=about(record))
        if work.verb == "call":
            return outcomes.call_raised(error, backoff_ms=self._backoff(record), masks=masks), described
        return outcomes.look_raised(error, backoff_ms=self._backoff(record), masks=masks), described

    def _seal(
        self, work: _Work[R], ended: Sequence[tuple[R, ClaimEnd]], report: Report, taken: claims.Taken[R]
    ) -> None:
        terms: dict[tuple[str, str], Terms] = {}
        batch = []
        for record, event in ended:
            key, alike = work.kind.key_of(record), (record.connector, record.effect_name)
            if alike not in terms:
                terms[alike] = self.terms(record)
            batch.append(moves.Move(key, event, terms[alike], record, taken.heads.get(key)))
        began = monotonic()
        while True:
            try:
                results = moves.move(self._database, work.kind, batch)
                break
            except StoreUnavailable as error:
                if monotonic() - began >= (SEAL_WHILE_STOPPING_SECONDS if self._stopping() else SEAL_FOR_SECONDS):
                    for record, event in ended:
                        key = work.kind.key_of(record)
                        word, ref = _told(event)
                        text = "%s of %s could not be written: %s %r"
                        logger.error(text, work.name, key, word, ref, extra=about(record))
                    report.outcomes |= {item.key: Outcome.NOT_SEALED for item in batch}
                    return
                logger.warning("the store is away, a seal is tried again: %s", error)
                time.sleep(0.5 + random.random())  # noqa: S311 - jitter, no secret
        failpoints.reach(f"{work.name}.sealed")
        for record, event in ended:
            key = work.kind.key_of(record)
            result = results[key]
            if isinstance(result, moves.Moved):
                self._tell(key, result, report)
                continue
            # Its row was pruned meanwhile: no journal takes what was said, so it is told here.
            word, ref = _told(event)
            text = "the result of %s of %s was refused: %s %r: %s"
            logger.error(text, work.name, key, word, ref, result, extra=about(record))
            report.outcomes[key] = Outcome.NO_SUCH_KEY
        for name, one in taken.flows.items():
            if one.trouble_percent:
                mine = [(record, event) for record, event in ended if record.connector == name]
                self._count_troubles(work, name, mine, results)

    def _count_troubles(
        self,
        work: _Work[R],
        name: str,
        ended: Sequence[tuple[R, ClaimEnd]],
        results: Mapping[str, moves.Moved[R] | moves.Refused],
    ) -> None:
        """Tell the breaker of a connector how calls or looks of it ended, and end its probe, if that is among them.

        Where this is not reached, as the process dies or the store is away, less is counted, and another probe goes.
        """
        told = [(work.kind.key_of(record), trouble) for record, event in ended if (trouble := _trouble(event))]
        if not told:
            return
        try:
            changed = flows.count(self._database, name, work.verb, told)
            tell_breaker(*changed or (), meter=self._database.meter)
            probe = dict(told).get(changed[1].probe_key) if changed else None
            if changed is None or changed[1].breaker is not Breaker.HALF_OPEN or probe is not Trouble.NONE:
                return
            key = changed[1].probe_key
            result = results[key]
            seen = work.verb == "look" or (isinstance(result, moves.Moved) and self._is_seen(result.after))
            ended_probe = flows.end_probe(self._database, name, work.verb, key, seen=seen)
            tell_breaker(*ended_probe or (), meter=self._database.meter)
        except StoreUnavailable as error:
            logger.warning("the breaker of %s was not told: %s", name, error)

    def _is_seen(self, record: Effect | Obligation) -> bool:
        """Whether the upstream, when asked, knows of what it said has landed; also where nobody can, or may, ask it."""
        if flows.is_held(self._database, record.connector, "look"):
            return True
        if isinstance(record, Obligation):
            return self._knows_of(_Work("compensate", OBLIGATIONS, "look", self._observe_compensation), record)
        return self._knows_of(_Work("observe", EFFECTS, "look", self._observe), record)

    def _knows_of(self, look: _Work[R], record: R) -> bool:
        event, fatal = self._called(look, record, None)
        if fatal is not None:
            logger.error("a connector raised %s when it was asked, which ends nothing", type(fatal).__name__)
        if isinstance(event, Observed):
            # No claim is behind it: whatever it says is late evidence, and in the journal.
            late = replace(event, token=record.token, nonce=uuid.uuid4().hex, actor=self._actor())
            moves.move(self._database, look.kind, [moves.Move(look.kind.key_of(record), late, self.terms(record))])
        return not isinstance(event, Observed) or event.status in ("confirmed", "duplicate")

    def _tell(self, key: str, result: moves.Moved[Any], report: Report) -> None:
        before, after = result.before, result.after
        got_stuck = after.status == "STUCK" != before.status
        if got_stuck:
            logger.error("%s is STUCK: %s", key, after.reason, extra=about(after))
        elif logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s is %s: %s", key, after.status, result.kind, extra=about(after))
        late = result.kind == "late" and not got_stuck
        self._count_lost("seal", late)
        report.outcomes[key] = Outcome.LATE if late else _outcome(after)
        report.to_compensate.extend(result.owed)
        if result.run_may_walk:
            report.run_ids.add(after.run_id)
        if result.next is not None and (result.next.due_at_ms or 0) <= after.updated_at_ms:
            report.to_dispatch.append(result.next)
        if result.may_call_back:
            report.called_back.append(key)
        due_now = after.due_at_ms is not None and after.due_at_ms <= after.updated_at_ms
        if isinstance(after, Obligation):
            if due_now:
                report.to_compensate.append(key)
        elif due_now and after.status is EffectStatus.UNKNOWN:
            report.to_observe.append(after)
        elif due_now and after.status is EffectStatus.PENDING:
            report.to_dispatch.append(after)

    def _why_not(self, works: Sequence[_Work[Any]], keys: Sequence[str]) -> dict[str, Outcome]:
        """Why keys were not claimed, as their rows stand now."""
        kind = works[0].kind
        found = inspection.get_many(self._database, kind, list(keys))
        verbs = {work.verb for work in works}
        now = inspection.now_ms(self._database)
        return {key: self._why_one(found.get(key), verbs, now) for key in keys}

    def _why_one(self, record: Effect | Obligation | None, verbs: set[Verb], now: int) -> Outcome:
        if record is None:
            return Outcome.NO_SUCH_KEY
        looking = EFFECTS.looking if isinstance(record, Effect) else OBLIGATIONS.looking
        wanted = {"call": ("PENDING",), "look": looking}
        asked = any(record.status in wanted[verb] for verb in verbs) and record.due_at_ms is not None
        if record.lease_until_ms is not None:
            return Outcome.HELD
        if not asked:
            return Outcome.NOTHING_TO_DO
        if not self._knows(record):
            return Outcome.UNKNOWN_CONNECTOR
        if record.due_at_ms is not None and record.due_at_ms > now:
            return Outcome.NOT_DUE
        if isinstance(record, Effect) and record.expires_at_ms is not None and record.expires_at_ms <= now:
            return Outcome.EXPIRED
        if isinstance(record, Effect) and record.ordering_key and "call" in verbs:
            return Outcome.WAITING_ITS_TURN
        return Outcome.WAITING if isinstance(record, Obligation) else Outcome.HELD

    def _keeper(self, work: _Work[R], claimed: Sequence[R]) -> LeaseKeeper:
        """Keeps the leases of those calls that may take longer than their lease; the others need no keeping."""
        bounds: dict[str, float] = {}
        shortest = self._settings.lease_seconds
        for record in claimed:
            lease_ms = self._lease_ms(record.connector)
            total = _own(self._connector(record.connector), "total_seconds", 0.0)
            if total * 1000 > lease_ms - margin_ms(lease_ms):
                bounds[work.kind.key_of(record)] = total
                shortest = min(shortest, lease_ms / 1000)
        by_key = {work.kind.key_of(record): record for record in claimed}

        def renew(key: str) -> bool:
            record = by_key[key]
            return claims.renew(self._database, work.kind, record, lease_ms=self._lease_ms(record.connector))

        def told(key: str) -> dict[str, Any]:
            return about(by_key[key])

        return LeaseKeeper(bounds, every_seconds=shortest / 3, renew=renew, about=told)

    # --- the operations: a row in, the event that ends its claim out ---

    def _dispatch(self, effect: Effect) -> ClaimEnd:
        # Asked for the terms only where they matter: it is a tenth of what is done here.
        if effect.may_have_landed and state.must_withhold(effect, self.terms(effect)):
            return Withheld(token=0)
        connector = base.get(effect.connector)
        if (refused := base.refusal(connector, effect.request_json)) is not None:
            result: Any = DispatchResult("failed", error=outcomes.describe(refused, self._masks(effect)))
        else:
            result = awaited(connector.dispatch(effect))
        return outcomes.dispatched(
            result,
            worker_now_ms=time.time_ns() // 1_000_000,
            backoff_ms=self._backoff(effect),
            most_bytes=self._settings.max_response_bytes,
            masks=self._masks(effect),
        )

    def _observe(self, effect: Effect) -> ClaimEnd:
        connector = base.get(effect.connector)
        look = connector.observe if base.can_observe(connector) else self._authored_by(effect).status_check
        return self._look(look, effect)

    def _compensate(self, obligation: Obligation) -> ClaimEnd:
        if obligation_state.must_withhold(obligation, self.terms(obligation)):
            return Withheld(token=0)
        inverse = self._inverse(obligation)
        if inverse is None:
            return Answered(token=0, status="failed", final=True, reason="no inverse exists")
        return outcomes.compensated(
            awaited(inverse(obligation)),
            worker_now_ms=time.time_ns() // 1_000_000,
            backoff_ms=self._backoff(obligation),
            most_bytes=self._settings.max_response_bytes,
            masks=self._masks(obligation),
        )

    def _observe_compensation(self, obligation: Obligation) -> ClaimEnd:
        return self._look(getattr(base.get(obligation.connector), "observe_compensation", None), obligation)

    def _look(self, look: Callable[[Any], Any] | None, record: Effect | Obligation) -> ClaimEnd:
        if look is None:
            return Unobservable(token=0, backoff_ms=self._backoff_after(record.attempt + record.unsent))
        return outcomes.observed(
            awaited(look(record)),
            backoff_ms=self._backoff(record),
            most_bytes=self._settings.max_response_bytes,
            masks=self._masks(record),
        )

    # --- what is known of a connector ---

    def _connector(self, name: str) -> Any:
        return base.find(name)

    def _authored_by(self, record: Effect | Obligation) -> Authored:
        return self._authored.get(record.effect_name, Authored())

    def _inverse(self, record: Effect | Obligation) -> Callable[[Obligation], Any] | None:
        connector = self._connector(record.connector)
        if connector is not None and base.can_compensate(connector):
            inverse: Callable[[Obligation], Any] = connector.compensate
            return inverse
        return self._authored_by(record).compensate

    def _knows(self, record: Effect | Obligation) -> bool:
        return self._connector(record.connector) is not None and (
            not record.effect_name or record.effect_name in self._authored
        )

    def _masks(self, record: Effect | Obligation) -> Masks:
        return masks_of(base.mask_fields(self._connector(record.connector)))

    def _lease_ms(self, connector: str) -> int:
        return round(_own(self._connector(connector), "lease_seconds", self._settings.lease_seconds) * 1000)

    def _backoff(self, record: Effect | Obligation) -> int:
        looking = record.status in (EffectStatus.UNKNOWN, ObligationStatus.UNKNOWN)
        return self._backoff_after(record.looks if looking else record.attempt + record.unsent)

    def _backoff_after(self, tries: int) -> int:
        return backoff_ms(
            tries,
            base_seconds=self._settings.backoff_base_seconds,
            cap_seconds=self._settings.backoff_cap_seconds,
            jitter=random.random(),  # noqa: S311 - jitter, no secret
        )


def _verb(work: _Work[Any]) -> str:
    """The operation of the connector, as metrics and spans name it."""
    return work.name if work.verb == "call" else "observe"


def _went_wrong(event: ClaimEnd) -> bool:
    """Whether a call did not come to what it was for, or a look brought no answer."""
    if isinstance(event, Observed):
        return event.status == "stuck"
    return not isinstance(event, Unobservable) and getattr(event, "status", "") != "confirmed"


def _trouble(event: ClaimEnd) -> Trouble | None:
    """What the end of a call or look says of the upstream's health; ``None``: nothing, it was not asked."""
    if isinstance(event, Observed):
        return Trouble.FAILED if event.status == "stuck" else Trouble.NONE
    if not isinstance(event, Answered) or (not event.sent and event.reason.startswith(HANDED_BACK)):
        return None
    if event.status == "confirmed":
        return Trouble.NONE
    return Trouble.UNKNOWN if event.status == "unknown" and event.sent else Trouble.FAILED


def tell_breaker(before: Flow | None = None, after: Flow | None = None, *, meter: Meter | None) -> None:
    """Log that the breaker opened or closed, loudly, and count how often it opened."""
    if before is None or after is None or before.breaker is after.breaker:
        return
    if meter is not None and after.breaker is Breaker.OPEN:
        meter.count(metering.BREAKER_OPENINGS, after.connector, after.verb)
        meter.send()
    what = "calls" if after.verb == "call" else "looks"
    if after.breaker is Breaker.OPEN and before.breaker is Breaker.CLOSED:
        text = "the breaker of %s opened for its %s: %d of %d were UNKNOWN and %d failed"
        logger.warning(text, after.connector, what, after.unknown_calls, after.calls, after.failed_calls)
    elif after.breaker is Breaker.OPEN:
        logger.warning("the breaker of %s opened again for its %s: the probe failed", after.connector, what)
    elif after.breaker is Breaker.CLOSED:
        logger.warning("the breaker of %s closed for its %s: the probe was seen", after.connector, what)


def _told(event: Event) -> tuple[str, str]:
    """What an upstream said, without its bodies: the word, and the record that it named."""
    return getattr(event, "status", type(event).__name__), getattr(event, "external_ref", "")


def _outcome(after: Effect | Obligation) -> Outcome:
    """What its row says of it. Where a seal was tried again, somebody else may hold the row by now."""
    if after.status in (EffectStatus.DISPATCHING, ObligationStatus.COMPENSATING):
        return Outcome.HELD
    return Outcome(str(after.status).lower())


def _own(connector: Any, name: str, default: float) -> float:
    """A number that the connector carries itself, else the default."""
    value = getattr(connector, name, None)
    return default if value is None else float(value)
