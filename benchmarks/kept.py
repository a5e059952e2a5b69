"""A filled store, and all that is done with one: each step by itself, on rows that were made for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from celery import Celery

from benchmarks.filling import RARE
from tape_celery import Tape, connectors
from tape_celery.cli.looking import COUNTED
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.events import Answered, Event, Expired, Lapsed
from tape_celery.intent import Callback, Intent, canonical_json, digest_of, new_key
from tape_celery.records import Effect, EffectStatus, ObligationStatus, RunStatus, Semantics
from tape_celery.store import (
    ages,
    bulk,
    callbacks,
    claims,
    due,
    figures,
    inspection,
    intents,
    moves,
    owing,
    paging,
    retention,
    runs,
)
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind

EACH = 20
"""How many rows one step is about."""
DAY_MS = 86_400_000
WIRE = "scripted"
"""The connector that `fill` knows."""

_LISTED = ("CONFIRMED", "PENDING", "STUCK")

Step = tuple[str, Callable[[], Any]]


class _Upstream:
    """Confirms at once, says so whoever asks, and undoes."""

    name = WIRE

    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult("confirmed", external_ref=f"ref-{effect.effect_key}")

    def observe(self, effect: Any) -> ObservationResult:
        return ObservationResult("confirmed", external_ref=f"ref-{effect.effect_key}")

    def compensate(self, obligation: Any) -> CompensationResult:
        return CompensationResult("compensated")


class Store:
    """A store that `fill` has filled with ``rows``, and what is done with it.

    ``counted``: how many of each state of each connector `status` counts; by default as many as the command does.
    """

    def __init__(self, url: str, rows: int, *, counted: int = COUNTED) -> None:
        self.counted = counted
        connectors.register(_Upstream())
        app = Celery(f"flatness-{rows}", broker="memory://", set_as_current=False)
        self.tape = Tape(app, store_url=url)
        self.database = self.tape.database
        self.number = itertools.count()
        self.reach = claims.Reach({WIRE: 30_000})
        tens = rows * 3 // 40
        self.number_of_old = 10 * tens
        self.old, self.failed = (f"e{100_000_000 + self.number_of_old + n}" for n in (0, 7))
        """Two that ended 25 days ago."""
        self.run = f"r{tens + (1 - tens) % 4}"

    def steps(self) -> Iterator[Step]:
        """Every step with its name; what has to be there for it is made when it is asked for."""
        yield from self._life()
        yield from self._in_order()
        yield from self._parts_of_a_sweep()
        yield from self._sweeps()
        yield from self._looking()

    def _life(self) -> Iterator[Step]:
        asked = self.intents()
        yield f"record {EACH}", lambda: bulk.record_many(self.database, asked, actor="", hint_ms=60_000)
        many = self.intents(100)
        yield "record 100", lambda: bulk.record_many(self.database, many, actor="", hint_ms=3_600_000)
        one = self.intents()[0]
        yield "record one", lambda: intents.record(self.database, one, actor="", hint_ms=60_000)
        keys = [intent.effect_key for intent in asked]
        taken: list[Effect] = []
        yield f"claim {EACH}", lambda: taken.extend(self.claim(keys))
        yield f"seal {EACH}", lambda: self.seal(taken)

    def _in_order(self) -> Iterator[Step]:
        asked = self.intents(3, ordering_key="k3")
        yield "record 3 of an ordering key", lambda: bulk.record_many(self.database, asked, actor="", hint_ms=60_000)
        taken: list[Effect] = []
        yield "claim the one whose turn it is", lambda: taken.extend(self.claim([one.effect_key for one in asked]))
        yield "seal it, and wake the next", lambda: self.seal(taken)
        for one in asked[1:]:
            self.seal(self.claim([one.effect_key]))
        alike = self.intents(1, similar_digest=f"d{self.number_of_old + 4}", hold_within_ms=60_000)
        yield (
            "record what may look like another",
            lambda: bulk.record_many(self.database, alike, actor="", hint_ms=60_000),
        )

    def _parts_of_a_sweep(self) -> Iterator[Step]:
        keys = self.recorded()
        yield f"due: {EACH} to dispatch", lambda: self.due(EFFECTS)
        yield f"relay {EACH}", lambda: due.mark_relayed(self.database, EFFECTS, keys, relay_ms=3_600_000)
        lapsing = self.recorded(lease_ms=0)
        yield f"due: {EACH} whose lease is over", lambda: self.due(EFFECTS)
        yield f"lapse {EACH}", lambda: self.move(lapsing, Lapsed(actor=""))
        yield f"due: {EACH} to observe", lambda: self.due(EFFECTS)
        yield f"observe {EACH}", lambda: self.tape.observe(*lapsing)
        expiring = self.recorded(expires_in_ms=-1000)
        yield f"due: {EACH} that expired", lambda: self.due(EFFECTS)
        yield f"expire {EACH}", lambda: self.move(expiring, Expired(actor=""))
        owed = self.owed()
        yield f"due: {EACH} to compensate", lambda: self.due(OBLIGATIONS)
        yield f"compensate {EACH}", lambda: self.tape.compensate(*owed)
        self.confirmed(callbacks=(Callback("confirmed", "{}"),))
        yield f"callbacks: {EACH}", lambda: callbacks.take(self.database, relay_ms=3_600_000, limit=500)
        self.closed_runs()
        yield f"due: {EACH} runs", lambda: runs.due(self.database, limit=500)
        yield "prune, nothing old enough", lambda: self.prune(200)
        yield f"prune {EACH}", lambda: self.prune(50)

    def _sweeps(self) -> Iterator[Step]:
        self.tape.sweep()
        yield "a whole sweep, nothing due", self.tape.sweep
        self.recorded()
        self.recorded(lease_ms=0)
        self.recorded(expires_in_ms=-1000)
        self.owed()
        self.closed_runs()
        yield f"a whole sweep, {EACH} due of each kind", self.tape.sweep

    def _looking(self) -> Iterator[Step]:
        yield "live part of the audit", self.tape.overdue
        yield "get", lambda: self.tape.get(self.old)
        yield "journal", lambda: self.tape.journal(self.old)
        yield "list", self.tape.effects
        listed: dict[str, dict[str, Any]] = {
            **{status: {"status": status} for status in _LISTED},
            **{f"{status} of one connector": {"status": status, "connector": WIRE} for status in _LISTED},
            "FAILED of a rare connector": {"status": "FAILED", "connector": RARE, "limit": 10},
            "CONFIRMED of a rare connector": {"status": "CONFIRMED", "connector": RARE},
            **{f"connector {name}": {"connector": name, "limit": 10} for name in (WIRE, RARE, "nobody")},
            "a run": {"run_id": self.run},
            "a run of one": {"run_id": self.old},
            "a business key": {"business_key": self.old},
            "a business key that was let go": {"business_key": self.failed},
        }
        for name, filters in listed.items():
            yield f"list: {name}", partial(self.tape.effects, **filters)
        hour = {"recorded_since_ms": inspection.now_ms(self.database) - 3_600_000}
        recent: dict[str, dict[str, Any]] = {
            "": {},
            ": CONFIRMED": {"status": EffectStatus.CONFIRMED},
            ": FAILED of a rare connector": {"status": EffectStatus.FAILED, "connector": RARE},
        }
        for name, filters in recent.items():
            asked = paging.Filters(**hour, **filters)
            yield f"list of the last hour{name}", partial(paging.read_page, self.database, asked)
        for name, filters in {"": {}, ": CONFIRMED": {"status": EffectStatus.CONFIRMED}}.items():
            page = partial(paging.read_page, self.database, paging.Filters(**filters), limit=20)
            yield f"page of old ones{name}", partial(page, before=self.old)
            yield f"page of old ones{name}, going back", partial(page, after=self.old)
        yield "figures of a connector", lambda: figures.of_connector(self.database, WIRE, newest=50)
        yield "open proposals", self.tape.proposals
        yield "open proposals of an effect", lambda: self.tape.proposals(self.old)
        yield "obligations, newest", lambda: owing.list_owing(self.database, owing.Owing(), limit=20)
        owed = self.tape.obligations
        yield "obligations of an effect", lambda: owed(effect_key=self.old)
        yield "obligations of a run", lambda: owed(run_id=self.run)
        yield "obligations: PENDING", lambda: owed(status=ObligationStatus.PENDING)
        most = self.counted
        yield "status", lambda: (self.tape.counts(at_most=most), self.tape.obligation_counts(at_most=most))
        yield "gauges, counting to 50", lambda: (ages.read(self.database, 50, 100), ages.count_runs(self.database, 50))
        yield "counts", self.tape.counts

    # --- what the steps are about ---

    def intents(self, number: int = EACH, **given: Any) -> list[Intent]:
        """Intents that nobody has recorded."""
        made = []
        for _ in range(number):
            key, request = new_key(), canonical_json({"number": next(self.number)})
            made.append(
                Intent(
                    effect_key=key,
                    connector=WIRE,
                    request_json=request,
                    request_digest=digest_of(request),
                    idempotency_key=key,
                    business_key=f"b-{key}",
                    max_attempts=5,
                    semantics=Semantics.NON_IDEMPOTENT,
                    **{"run_id": key, **given},
                )
            )
        return made

    def recorded(self, number: int = EACH, *, lease_ms: int | None = None, **given: Any) -> list[str]:
        """Effects that a sweep finds at once: PENDING, or under a lease that is over."""
        asked = self.intents(number, **given)
        bulk.record_many(self.database, asked, actor="", hint_ms=0)
        keys = [intent.effect_key for intent in asked]
        if lease_ms is not None:
            claims.claim(self.database, EFFECTS, keys, verb="call", reach=claims.Reach({WIRE: lease_ms}), actor="")
        return keys

    def confirmed(self, **given: Any) -> list[str]:
        keys = self.recorded(**given)
        self.tape.engine.dispatch(keys)
        return keys

    def owed(self) -> list[str]:
        """Obligations that are due."""
        keys = self.confirmed()
        return [str(self.tape.owe(key, reason="returned", actor="ann").obligation_key) for key in keys]

    def closed_runs(self) -> None:
        """Runs with an effect each that are to be walked."""
        for _ in range(EACH):
            run = f"run-{new_key()}"
            bulk.record_many(self.database, self.intents(1, run_id=run), actor="", hint_ms=60_000)
            runs.close(self.database, run, RunStatus.CANCELLING, reason="no more", actor="ann")

    def claim(self, keys: Sequence[str]) -> list[Effect]:
        return claims.claim(self.database, EFFECTS, keys, verb="call", reach=self.reach, actor="")

    def seal(self, claimed: Sequence[Effect]) -> None:
        asked = []
        for one in claimed:
            ref = f"ref-{one.effect_key}"
            event = Answered(token=one.token, nonce=one.claim_nonce, actor="", status="confirmed", external_ref=ref)
            asked.append(moves.Move(one.effect_key, event, self.tape.engine.terms(one)))
        moves.move(self.database, EFFECTS, asked)

    def due(self, kind: Kind[Any]) -> list[due.Due]:
        return due.due(self.database, kind, connector=WIRE, reach=self.reach, limit=500)

    def move(self, keys: Sequence[str], event: Event) -> None:
        records: dict[str, Effect] = inspection.get_many(self.database, EFFECTS, list(keys))
        asked = [moves.Move(key, event, self.tape.engine.terms(record)) for key, record in records.items()]
        moves.move(self.database, EFFECTS, asked)

    def prune(self, days: int) -> int:
        chunks = retention.chunks(self.database, age_ms=days * DAY_MS, limit=EACH)
        return sum(chunk.effects for chunk in chunks)
