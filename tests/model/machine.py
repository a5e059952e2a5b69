"""The state machine: everything that may happen to effects and obligations, in any order, on a real store.

After each thing that happens the rows must be what the pure functions make of the rows before (`prediction`), and
what the contract makes of the journal (`contract`); every journal must replay to its row, and the audit find nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis import target
from hypothesis.stateful import Bundle, initialize, multiple, precondition, rule

from tape_celery.events import CancelAsked, Event, Expired, Lapsed, OweAsked, ReleaseAsked, Resolved
from tape_celery.intent import Intent, canonical_json, digest_of
from tape_celery.records import Semantics
from tape_celery.store import due
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind
from tests.model.answers import CALL_ANSWERS, INVERSE_ANSWERS, LOOK_ANSWERS, REFS
from tests.model.arena import Loss
from tests.model.bench import Bench, Lease
from tests.model.contract import demand
from tests.model.prediction import Deed, Prediction, Row, Taking
from tests.model.terms import (
    ALIKE,
    BACKOFF_MS,
    CONNECTORS,
    DELAY_MS,
    EVERYTHING,
    EXPIRY_MS,
    HOLD_MS,
    LEASE_MS,
    RETRY_MS,
    SETTLE_MS,
    WATCH_MS,
    WINDOW_MS,
    WORKERS,
)
from tests.model.ways import WAYS, Way, fitting

MOST_EFFECTS = 12
PICK = st.integers(0, 7)
"""Which of the rows or claims that a rule may take."""
WHICH = st.integers(0, 15)
"""Which of the answers that a claim may end with."""
CHUNK = st.lists(PICK, max_size=2)
ACTORS = st.sampled_from(tuple(WORKERS))
LOSSES = st.sampled_from((None, None, None, None, "answer", "commit"))
JUMPS = (1_000, DELAY_MS, BACKOFF_MS, RETRY_MS, LEASE_MS, LEASE_MS, SETTLE_MS, EXPIRY_MS, WINDOW_MS, *WATCH_MS)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An effect that has come some way when an example begins."""

    way: Way
    semantics: Semantics
    connector: str
    business_key: str
    expires_in_ms: int | None
    max_attempts: int

    def intent(self) -> dict[str, Any]:
        """What was asked for; of a kind that can go this way."""
        return fitting(self.way, {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "way"})


BEGUN = st.builds(
    Begun,
    way=st.sampled_from(WAYS),
    semantics=st.sampled_from([*Semantics, Semantics.NON_IDEMPOTENT, Semantics.IDEMPOTENT]),
    connector=st.sampled_from(CONNECTORS),
    business_key=st.sampled_from(("", "", "order-1", "order-2")),
    expires_in_ms=st.sampled_from((None, None, EXPIRY_MS)),
    max_attempts=st.integers(1, 3),
)


def an_intent(key: str, *, amount: int = 100, **given: Any) -> Intent:
    """An intent as the client makes it."""
    request = canonical_json({"amount": amount})
    chosen = {"idempotency_key": key, "run_id": "run", "similar_digest": ALIKE, **given}
    return Intent(effect_key=key, request_json=request, request_digest=digest_of(request), **chosen)


class StoreMachine(Bench):
    """Effects and obligations, several workers, people, sweeps and time, over one store."""

    leases: Bundle[Lease] = Bundle("leases")

    # --- recording ---

    @precondition(lambda self: len(self.world.effects) < MOST_EFFECTS)
    @rule(
        connector=st.sampled_from(CONNECTORS),
        semantics=st.sampled_from(list(Semantics)),
        business_key=st.sampled_from(("", "", "order-1", "order-2")),
        same_key_as=st.one_of(st.none(), st.none(), PICK),
        amount=st.sampled_from((100, 100, 100, 200)),
        max_attempts=st.integers(1, 3),
        expires_in_ms=st.sampled_from((None, None, EXPIRY_MS)),
        delay_ms=st.sampled_from((0, 0, DELAY_MS)),
        hold_within_ms=st.sampled_from((None, None, None, HOLD_MS)),
        lost=LOSSES,
    )
    def record(
        self,
        connector: str,
        semantics: Semantics,
        business_key: str,
        same_key_as: int | None,
        amount: int,
        max_attempts: int,
        expires_in_ms: int | None,
        delay_ms: int,
        hold_within_ms: int | None,
        lost: Loss | None,
    ) -> None:
        """An intent, with a key of its own or another's."""
        key = f"e{len(self.world.effects):03}"
        known = [effect.idempotency_key for effect in self.world.effects.values()]
        idempotency_key = key if same_key_as is None or not known else known[same_key_as % len(known)]
        intent = an_intent(
            key,
            amount=amount,
            connector=connector,
            idempotency_key=idempotency_key,
            business_key=business_key,
            semantics=semantics,
            max_attempts=max_attempts,
            expires_in_ms=expires_in_ms,
            delay_ms=delay_ms,
            hold_within_ms=hold_within_ms,
        )
        self.put(intent, lost)

    # --- claiming ---

    @precondition(lambda self: self.waiting(EFFECTS, "PENDING"))
    @rule(target=leases, pick=PICK, more=CHUNK, actor=ACTORS, patient=st.booleans(), lost=LOSSES)
    def claim_calls(self, pick: int, more: list[int], actor: str, patient: bool, lost: Loss | None) -> Any:
        """A worker takes effects to call: one that waits, and any others."""
        waiting = self.waiting(EFFECTS, "PENDING")
        return self._claim_some(EFFECTS, "call", waiting[pick % len(waiting)], more, actor, patient, lost)

    @precondition(lambda self: self.waiting(EFFECTS, "UNKNOWN", "FAILED", "CANCELLED"))
    @rule(target=leases, pick=PICK, more=CHUNK, actor=ACTORS, patient=st.booleans(), lost=LOSSES)
    def claim_looks(self, pick: int, more: list[int], actor: str, patient: bool, lost: Loss | None) -> Any:
        """A worker takes effects to look at."""
        waiting = self.waiting(EFFECTS, "UNKNOWN", "FAILED", "CANCELLED")
        return self._claim_some(EFFECTS, "look", waiting[pick % len(waiting)], more, actor, patient, lost)

    @precondition(lambda self: self.waiting(OBLIGATIONS, "PENDING"))
    @rule(target=leases, pick=PICK, more=CHUNK, actor=ACTORS, patient=st.booleans(), lost=LOSSES)
    def claim_inverses(self, pick: int, more: list[int], actor: str, patient: bool, lost: Loss | None) -> Any:
        """A worker takes obligations to compensate."""
        waiting = self.waiting(OBLIGATIONS, "PENDING")
        return self._claim_some(OBLIGATIONS, "call", waiting[pick % len(waiting)], more, actor, patient, lost)

    @precondition(lambda self: self.waiting(OBLIGATIONS, "UNKNOWN"))
    @rule(target=leases, pick=PICK, more=CHUNK, actor=ACTORS, patient=st.booleans(), lost=LOSSES)
    def claim_inverse_looks(self, pick: int, more: list[int], actor: str, patient: bool, lost: Loss | None) -> Any:
        """A worker takes obligations to look at."""
        waiting = self.waiting(OBLIGATIONS, "UNKNOWN")
        return self._claim_some(OBLIGATIONS, "look", waiting[pick % len(waiting)], more, actor, patient, lost)

    def _claim_some(
        self, kind: Kind[Any], verb: Any, row: Any, more: list[int], actor: str, patient: bool, lost: Loss | None
    ) -> Any:
        if patient and row.due_at_ms > self.world.now:
            self.wait(row.due_at_ms - self.world.now)
        keys = list(self.rows(kind))
        chosen = dict.fromkeys([kind.key_of(row), *(keys[number % len(keys)] for number in more)])
        return multiple(*self.take(Taking(kind, tuple(chosen), verb, WORKERS[actor], actor), lost))

    @precondition(lambda self: self.made)
    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        """A worker keeps its lease, or tries to keep one that it has lost."""
        self.keep(lease)

    # --- ends of claims ---

    @precondition(lambda self: self.held(EFFECTS, "call"))
    @rule(pick=PICK, answer=st.sampled_from(CALL_ANSWERS), lost=LOSSES)
    def seal_call(self, pick: int, answer: Event, lost: Loss | None) -> None:
        """A call ends."""
        held = self.held(EFFECTS, "call")
        self.tell(held[pick % len(held)], answer, lost)

    @precondition(lambda self: self.held(EFFECTS, "look"))
    @rule(pick=PICK, answer=st.sampled_from(LOOK_ANSWERS), lost=LOSSES)
    def seal_look(self, pick: int, answer: Event, lost: Loss | None) -> None:
        """A look ends."""
        held = self.held(EFFECTS, "look")
        self.tell(held[pick % len(held)], answer, lost)

    @precondition(lambda self: self.held(OBLIGATIONS, "call"))
    @rule(pick=PICK, answer=st.sampled_from(INVERSE_ANSWERS), lost=LOSSES)
    def seal_inverse(self, pick: int, answer: Event, lost: Loss | None) -> None:
        """An inverse ends."""
        held = self.held(OBLIGATIONS, "call")
        self.tell(held[pick % len(held)], answer, lost)

    @precondition(lambda self: self.held(OBLIGATIONS, "look"))
    @rule(pick=PICK, answer=st.sampled_from(LOOK_ANSWERS), lost=LOSSES)
    def seal_inverse_look(self, pick: int, answer: Event, lost: Loss | None) -> None:
        """A look at an inverse ends."""
        held = self.held(OBLIGATIONS, "look")
        self.tell(held[pick % len(held)], answer, lost)

    @precondition(lambda self: self.late(EFFECTS, "call"))
    @rule(pick=PICK, which=WHICH, lost=LOSSES)
    def call_ends_late(self, pick: int, which: int, lost: Loss | None) -> None:
        """A worker that lost its lease of an effect gets its answer."""
        late = self.late(EFFECTS, "call")
        lease = late[pick % len(late)]
        self.tell(lease, self.answer(lease, which), lost)

    @precondition(lambda self: self.late(EFFECTS, "look"))
    @rule(pick=PICK, which=WHICH, lost=LOSSES)
    def look_ends_late(self, pick: int, which: int, lost: Loss | None) -> None:
        """A worker whose look was taken over, or is no longer wanted, gets its answer."""
        late = self.late(EFFECTS, "look")
        lease = late[pick % len(late)]
        self.tell(lease, self.answer(lease, which), lost)

    @precondition(lambda self: self.late(OBLIGATIONS, "call", "look"))
    @rule(pick=PICK, which=WHICH, lost=LOSSES)
    def inverse_ends_late(self, pick: int, which: int, lost: Loss | None) -> None:
        """A worker that lost its lease of an obligation gets its answer."""
        late = self.late(OBLIGATIONS, "call", "look")
        lease = late[pick % len(late)]
        self.tell(lease, self.answer(lease, which), lost)

    @precondition(lambda self: any(lease.told is not None for lease in self.made))
    @rule(lease=leases, which=WHICH)
    def tell_again(self, lease: Lease, which: int) -> None:
        """A worker ends its claim; where it has ended it, it ends it once more, for it never heard of it."""
        self.tell(lease, self.answer(lease, which))

    @precondition(lambda self: len(self.held(EFFECTS, "call")) > 1)
    @rule(which=st.lists(WHICH, min_size=2, max_size=4), lost=LOSSES)
    def seal_chunk(self, which: list[int], lost: Loss | None) -> None:
        """Several calls end at once, some of them late."""
        chosen: dict[str, tuple[Lease, Event]] = {}
        untold = [lease for lease in self.made if lease.told is None and lease.kind is EFFECTS]
        for lease, number in zip(untold, which, strict=False):
            chosen[lease.key] = (lease, self.spared(self.answer(lease, number), EFFECTS, lease.key))
        before = self.world
        deeds = []
        for lease, answer in chosen.values():
            lease.told = lease.end(answer)
            deeds.append(Deed(EFFECTS, lease.key, lease.told, seen=lease.record))
        self.do(deeds, lost)
        self.are_journaled(before, [lease for lease, _ in chosen.values()])

    # --- sweeps ---

    @precondition(lambda self: self.effects_in("DISPATCHING"))
    @rule(pick=PICK, patient=st.sampled_from((True, True, False)), lost=LOSSES)
    def lapse(self, pick: int, patient: bool, lost: Loss | None) -> None:
        """A sweep ends the lease of a call, if it is over; it may take any row for one that is under way."""
        rows = self.effects_in("DISPATCHING") * 2 + list(self.world.effects.values())[:1]
        self._lapse(EFFECTS, rows[pick % len(rows)], patient, lost)

    @precondition(lambda self: self.obligations_in("COMPENSATING"))
    @rule(pick=PICK, patient=st.sampled_from((True, True, False)), lost=LOSSES)
    def lapse_inverse(self, pick: int, patient: bool, lost: Loss | None) -> None:
        """A sweep ends the lease of an inverse, if it is over."""
        rows = self.obligations_in("COMPENSATING") * 2 + list(self.world.obligations.values())[:1]
        self._lapse(OBLIGATIONS, rows[pick % len(rows)], patient, lost)

    def _lapse(self, kind: Kind[Any], row: Any, patient: bool, lost: Loss | None) -> None:
        if patient and row.lease_until_ms is not None and row.lease_until_ms > self.world.now:
            self.wait(row.lease_until_ms - self.world.now)
        self.do([Deed(kind, kind.key_of(row), Lapsed(actor="sweep"))], lost)

    @precondition(lambda self: any(effect.expires_at_ms for effect in self.effects_in("PENDING", "HELD")))
    @rule(pick=PICK, patient=st.booleans(), lost=LOSSES)
    def expire(self, pick: int, patient: bool, lost: Loss | None) -> None:
        """A sweep stops an effect whose expiry has passed, if it has."""
        rows = [effect for effect in self.effects_in("PENDING", "HELD") if effect.expires_at_ms]
        row = rows[pick % len(rows)]
        if patient and (row.expires_at_ms or 0) > self.world.now:
            self.wait((row.expires_at_ms or 0) - self.world.now)
        self.do([Deed(EFFECTS, row.effect_key, Expired(actor="sweep"))], lost)

    @precondition(lambda self: self.world.effects)
    @rule(of_effects=st.booleans(), connector=st.sampled_from(CONNECTORS))
    def sweep(self, of_effects: bool, connector: str) -> None:
        """A sweep finds what is due, ends what is over, and takes the hints of the rest upon itself."""
        kind: Kind[Any] = EFFECTS if of_effects else OBLIGATIONS
        before = self.world
        found = due.due(self.database, kind, connector=connector, reach=EVERYTHING, limit=100)
        expected = [
            key
            for key, row in self.rows(kind).items()
            if row.connector == connector and row.sweep_at_ms is not None and row.sweep_at_ms <= before.now
        ]
        demand(sorted(row.key for row in found) == sorted(expected), "a sweep finds what is due", found, expected)
        over: list[Deed] = [Deed(kind, row.key, Lapsed(actor="sweep")) for row in found if row.status == kind.calling]
        stopped = [row for row in found if row.status in ("PENDING", "HELD") and row.expired]
        over += [Deed(kind, row.key, Expired(actor="sweep")) for row in stopped]
        if over:
            self.do(over)
        before = self.world
        marked = due.mark_relayed(self.database, kind, [row.key for row in found], relay_ms=BACKOFF_MS)

        def mark(prediction: Prediction) -> None:
            for key in marked:
                sweep_at_ms = self.rows(kind)[key].sweep_at_ms
                demand(sweep_at_ms is not None and sweep_at_ms > before.now, "a hint is taken for a while", key)
                prediction.rows(kind)[key] = replace(prediction.rows(kind)[key], sweep_at_ms=sweep_at_ms)

        self.happened(before, mark)

    # --- people and the app ---

    @precondition(lambda self: self.effects_in("HELD"))
    @rule(pick=PICK, anyone=st.booleans(), lost=LOSSES)
    def release(self, pick: int, anyone: bool, lost: Loss | None) -> None:
        """A person says that what looks like another is meant."""
        rows = list(self.world.effects.values()) if anyone else self.effects_in("HELD")
        self.do([Deed(EFFECTS, rows[pick % len(rows)].effect_key, ReleaseAsked(actor="person", reason="meant"))], lost)

    @precondition(lambda self: self.effects_in("FAILED", "CANCELLED") and len(self.world.effects) < MOST_EFFECTS)
    @rule(pick=PICK, anyone=st.booleans(), lost=LOSSES)
    def reissue(self, pick: int, anyone: bool, lost: Loss | None) -> None:
        """Somebody wants an effect once more; mostly one that ended in vain."""
        rows = list(self.world.effects.values()) if anyone else self.effects_in("FAILED", "CANCELLED")
        self.again(rows[pick % len(rows)].effect_key, lost)

    @precondition(lambda self: self.effects_in("HELD", "PENDING", "DISPATCHING", "UNKNOWN"))
    @rule(pick=PICK, lost=LOSSES)
    def cancel(self, pick: int, lost: Loss | None) -> None:
        """Somebody does not want an effect any more; mostly while it is not over."""
        rows = self.effects_in("DISPATCHING", "UNKNOWN", "PENDING", "HELD")
        rows += self.effects_in("CONFIRMED", "FAILED", "STUCK", "CANCELLED")[:1]
        event = CancelAsked(actor="person", reason="not wanted")
        self.do([Deed(EFFECTS, rows[pick % len(rows)].effect_key, event)], lost)

    @precondition(lambda self: self.effects_in("UNKNOWN", "STUCK", "FAILED"))
    @rule(
        pick=PICK,
        verdict=st.sampled_from(("confirmed", "failed", "observe", "observe")),
        ref=st.sampled_from(REFS),
        lost=LOSSES,
    )
    def resolve(self, pick: int, verdict: Any, ref: str, lost: Loss | None) -> None:
        """A person decides, or asks for another look; mostly where that is allowed."""
        rows = [*self.effects_in("STUCK"), *self.effects_in("UNKNOWN"), *self.effects_in("FAILED")[:1]]
        event = Resolved(actor="person", reason="asked the bank", verdict=verdict, external_ref=ref)
        self.do([Deed(EFFECTS, rows[pick % len(rows)].effect_key, event)], lost)

    @precondition(lambda self: self.world.obligations)
    @rule(pick=PICK, verdict=st.sampled_from(("confirmed", "failed", "observe")), lost=LOSSES)
    def resolve_obligation(self, pick: int, verdict: Any, lost: Loss | None) -> None:
        """A person speaks of an inverse; mostly where that is allowed."""
        rows = [*self.obligations_in("STUCK"), *self.obligations_in("UNKNOWN")] or list(self.world.obligations.values())
        event = Resolved(actor="person", reason="asked the bank", verdict=verdict)
        self.do([Deed(OBLIGATIONS, rows[pick % len(rows)].obligation_key, event)], lost)

    @precondition(lambda self: self.effects_in("CONFIRMED"))
    @rule(pick=PICK, anyone=st.booleans(), lost=LOSSES)
    def owe(self, pick: int, anyone: bool, lost: Loss | None) -> None:
        """Somebody wants an effect undone."""
        rows = list(self.world.effects.values()) if anyone else self.effects_in("CONFIRMED")
        self.do([Deed(EFFECTS, rows[pick % len(rows)].effect_key, OweAsked(actor="person", reason="wrong"))], lost)

    # --- races: somebody else gets in between the read and the write ---

    @precondition(lambda self: self.effects_in("PENDING", "DISPATCHING", "UNKNOWN"))
    @rule(target=leases, pick=PICK, mine=WHICH, other=WHICH, first=st.integers(0, 5))
    def race(self, pick: int, mine: int, other: int, first: int) -> Any:
        """Two want the same effect; the other is done when we write what we have decided on what we read."""
        rows = self.effects_in("DISPATCHING", "UNKNOWN", "PENDING")
        row = rows[pick % len(rows)]
        return multiple(*self.race_for(EFFECTS, row.effect_key, first, mine, other))

    @precondition(lambda self: self.obligations_in("PENDING", "COMPENSATING", "UNKNOWN"))
    @rule(target=leases, pick=PICK, mine=WHICH, other=WHICH, first=st.integers(0, 5))
    def race_for_obligation(self, pick: int, mine: int, other: int, first: int) -> Any:
        """Two want the same obligation."""
        rows = self.obligations_in("COMPENSATING", "UNKNOWN", "PENDING")
        row = rows[pick % len(rows)]
        return multiple(*self.race_for(OBLIGATIONS, row.obligation_key, first, mine, other))

    # --- time ---

    @rule(span=st.sampled_from(JUMPS))
    def time_passes(self, span: int) -> None:
        """The clock of the database goes on."""
        self.wait(span)

    @precondition(lambda self: self._marks())
    @rule(nth=st.integers(0, 2))
    def time_passes_until_something_is_due(self, nth: int) -> None:
        """The clock stands at the very instant of the next lease end, due time, expiry or settle time."""
        marks = self._marks()
        self.wait(marks[min(nth, len(marks) - 1)] - self.world.now)

    def _marks(self) -> list[int]:
        names = ("due_at_ms", "sweep_at_ms", "lease_until_ms", "expires_at_ms", "settled_at_ms")
        rows: list[Row] = [*self.world.effects.values(), *self.world.obligations.values()]
        found = {getattr(row, name, None) for row in rows for name in names}
        return sorted(mark for mark in found if mark is not None and mark > self.world.now)

    # --- where an example begins ---

    @initialize(target=leases, begun=st.lists(BEGUN, min_size=1, max_size=3))
    def begin(self, begun: list[Begun]) -> Any:
        """Some effects have come some way already."""
        return multiple(*(lease for one in begun for lease in self.come(one)))

    @precondition(lambda self: len(self.world.effects) < MOST_EFFECTS)
    @rule(target=leases, begun=BEGUN)
    def begin_another(self, begun: Begun) -> Any:
        """One more comes some way."""
        return multiple(*self.come(begun))

    def come(self, begun: Begun) -> list[Lease]:
        """Record one effect and bring it on its way; the claims that this took."""
        known = len(self.made)
        effect = self.put(an_intent(f"e{len(self.world.effects):03}", **begun.intent()))
        if effect is not None:
            begun.way(self, effect.effect_key)
        return self.made[known:]

    def teardown(self) -> None:
        """Ask Hypothesis for examples in which much happens."""
        target(float(len(self.reached)))
