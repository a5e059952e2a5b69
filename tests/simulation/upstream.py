"""The upstream, and its own book of what reached it: the witness that no row and no journal can argue with.

It acts by itself: a request that was sent lands whatever becomes of the worker that waits for the answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tape_celery.records import Effect, Obligation, Semantics
from tests.simulation.store import Tables
from tests.simulation.world import World

MEMORY_SLACK_MS = 10_000
"""How much longer than it says the upstream remembers a key: what clocks may differ by."""


@dataclass
class Call:
    """One request that arrived."""

    number: int
    verb: str
    key: str
    effect_key: str
    token: int
    process: str
    at_ms: int
    stale: bool
    """Its sender no longer held the lease when it arrived: it was stopped after its last check."""
    claimed: bool
    """The journal had a claim with its token and nonce before it."""
    overdue: bool
    """Its sender's lease had ended before it made its last check."""
    refs: list[str] = field(default_factory=list)
    """What it made, or met."""
    answer: str = ""
    """What the connector returned, or `raised`; empty while nobody got an answer."""
    named: tuple[str, ...] = ()
    """The references in that answer."""
    twins: bool = False
    """The upstream made two records of it, by itself."""
    proof: bool = False
    """It was answered that it definitely did not land."""
    told: bool = False
    """The worker that got the answer sealed it."""


@dataclass
class Record:
    """What one landing made."""

    ref: str
    connector: str
    effect_key: str
    idempotency_key: str
    business_key: str
    call: Call
    landed_ms: int
    visible_ms: int
    undone: list[Call] = field(default_factory=list)


class Upstream:
    """All upstreams of one world."""

    def __init__(self, world: World, tables: Tables) -> None:
        self.world = world
        self._tables = tables
        self.calls: list[Call] = []
        self.records: dict[str, Record] = {}
        self.undoing: dict[str, str] = {}
        """What an idempotent inverse has undone, by its key."""
        self.in_flight: list[str] = []
        """The idempotency keys of requests that have not landed yet, and will."""
        self.refused: set[str] = set()

    def arrived(self, verb: str, given: Effect | Obligation) -> Call:
        """Book a request, and how the row that it is made for stands at that moment."""
        world, here = self.world, self.world.here
        assert here is not None
        key = given.effect_key if isinstance(given, Effect) else given.obligation_key
        late = here.checked_ms + world.shift_ms >= (given.lease_until_ms or 0)
        call = Call(
            number=len(self.calls),
            verb=verb,
            key=key,
            effect_key=given.effect_key,
            token=given.token,
            process=here.process.name,
            at_ms=world.now_ms,
            stale=not self._is_held(given, key),
            claimed=self._is_claimed(given, key),
            overdue=late and verb in ("dispatch", "compensate") and not world.jumped,
        )
        self.calls.append(call)
        here.process.calls.append(call)
        world.note(f"upstream.{verb}", key, given.token, "stale" if call.stale else "")
        return call

    def _is_held(self, given: Effect | Obligation, key: str) -> bool:
        table, name = ("effects", "effect_key") if isinstance(given, Effect) else ("obligations", "obligation_key")
        columns = "token, claim_nonce, lease_until_ms"
        rows = self._tables.raw.execute(f"SELECT {columns} FROM tape_{table} WHERE {name} = ?", (key,)).fetchall()
        return any(
            (token, nonce) == (given.token, given.claim_nonce) and (until or 0) > self.world.database_ms
            for token, nonce, until in rows
        )

    def _is_claimed(self, given: Effect | Obligation, key: str) -> bool:
        sql = "SELECT evidence_json FROM tape_journal WHERE key = ? AND token = ? AND kind IN ('claimed', 'look')"
        rows = self._tables.raw.execute(sql, (key, given.token)).fetchall()
        return any(json.loads(text)["nonce"] == given.claim_nonce for (text,) in rows)

    def land(self, call: Call, effect: Effect, *, window_ms: int, hidden_ms: int = 0, twin: bool = False) -> str:
        """Do what ``call`` asks for, now, and return the record's reference."""
        if effect.semantics is Semantics.OBSERVE_ONLY:
            return "seen"
        if effect.semantics is Semantics.IDEMPOTENT and not twin:
            for record in self.records.values():
                age = self.world.now_ms - record.landed_ms
                if record.idempotency_key == effect.idempotency_key and age < window_ms + MEMORY_SLACK_MS:
                    call.refs.append(record.ref)
                    return record.ref
        call.twins = call.twins or twin
        now = self.world.now_ms
        ref = f"ref-{len(self.records) + 1}"
        self.records[ref] = Record(
            ref, effect.connector, effect.effect_key, effect.idempotency_key, effect.business_key, call,
            now, now + hidden_ms,
        )  # fmt: skip
        call.refs.append(ref)
        self.world.note("upstream.landed", effect.effect_key, ref)
        return ref

    def land_later(self, call: Call, effect: Effect, *, after_ms: int, window_ms: int, hidden_ms: int) -> None:
        """Do it after a while, by itself."""
        self.in_flight.append(effect.idempotency_key)

        def landing() -> None:
            self.in_flight.remove(effect.idempotency_key)
            self.land(call, effect, window_ms=window_ms, hidden_ms=hidden_ms)

        self.world.at(self.world.now_ms + after_ms, landing)

    def may_come(self, key: str, idempotency_key: str) -> bool:
        """Whether a call for ``key`` is under way, or held by a worker that is alive."""
        here = self.world.here
        busy = [
            process
            for process in self.world.processes
            if process.alive and process.busy_with and (here is None or process is not here.process)
        ]
        if idempotency_key in self.in_flight or any(key in process.busy_with for process in busy):
            return True
        if not busy or not self.world.theme.limited:
            return False
        # Within limits a worker takes what waits for longer than what it was hinted.
        claims = "SELECT actor FROM tape_journal WHERE key = ? AND kind = 'claimed'"
        claimed_by = {row["actor"] for row in self._tables.rows(claims, key)}
        return any(process.name in claimed_by for process in busy)

    def seen(self, effect: Effect) -> list[Record]:
        """What a look finds under the effect's keys, oldest first."""
        return [record for record in self.standing(effect) if record.visible_ms <= self.world.now_ms]

    def standing(self, effect: Effect) -> list[Record]:
        """What landed under the effect's keys and was not undone, seen by a look or not yet."""
        return [
            record
            for record in self.records.values()
            if record.connector == effect.connector
            and not record.undone
            and (
                record.idempotency_key == effect.idempotency_key
                or (effect.business_key != "" and record.business_key == effect.business_key)
            )
        ]

    def undo(self, call: Call, obligation: Obligation, *, idempotent: bool) -> bool:
        """Reverse the record that the obligation names; False where there is none."""
        if idempotent and obligation.idempotency_key in self.undoing:
            call.refs.append(self.undoing[obligation.idempotency_key])
            return True
        record = self.records.get(obligation.external_ref)
        if record is None:
            mine = obligation.payload["idempotency_key"]
            record = next((r for r in self.records.values() if r.idempotency_key == mine and not r.undone), None)
        if record is None:
            return False
        record.undone.append(call)
        self.undoing[obligation.idempotency_key] = record.ref
        call.refs.append(record.ref)
        self.world.note("upstream.undone", obligation.obligation_key, record.ref)
        return True
