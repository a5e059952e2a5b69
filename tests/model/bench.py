"""What every rule of the model stands on: each act is done on the store, predicted, and judged by the contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from tape_celery import obligation_state, state
from tape_celery.errors import KeyConflict, NotAllowed
from tape_celery.events import (
    Answered,
    CancelAsked,
    Event,
    Lapsed,
    Observed,
    ReissueAsked,
    Resolved,
    Withheld,
    from_evidence,
)
from tape_celery.intent import Intent
from tape_celery.records import Effect, EffectStatus, JournalEntry, Obligation, Semantics
from tape_celery.store import claims, intents, moves, reissues
from tape_celery.store.moves import Moved
from tape_celery.store.rows import EFFECTS, Kind
from tests.invariants import broken_invariants
from tests.model import contract
from tests.model.answers import CALL_ANSWERS, INVERSE_ANSWERS, LOOK_ANSWERS, LOST
from tests.model.arena import Arena, Loss, ModelDatabase, World
from tests.model.contract import EffectLedger, ObligationLedger, demand
from tests.model.prediction import Deed, Outcome, Prediction, Row, Taking, expect_same
from tests.model.terms import EVERYTHING, LEASE_MS, TERMS, WORKERS


@dataclass(eq=False)
class Lease:
    """A claim, as the worker that made it knows it."""

    kind: Kind[Any]
    verb: str
    actor: str
    record: Any
    withheld: bool = False
    """What was claimed must not be sent."""
    told: Event | None = None
    """What its worker has told of it."""

    def __repr__(self) -> str:
        return f"<{self.verb} of {self.key} under {self.record.token} by {self.actor}>"

    @property
    def key(self) -> str:
        """The row's."""
        return str(self.kind.key_of(self.record))

    def end(self, answer: Event) -> Event:
        """``answer`` as the end of this claim."""
        if self.withheld:
            answer = Withheld(token=0)
        return replace(answer, token=self.record.token, nonce=self.record.claim_nonce, actor=self.actor)  # type: ignore[call-arg]


UNSENT_INVERSES_ARE_LATE_IN_VAIN = True
"""A known fault: late proof that an inverse was never sent, after a person asked for a look, breaks a constraint."""
EXTRAS_SEEN_IN_MID_CALL_MAY_STAY = True
"""A known fault: of records that a late `duplicate` calls extra, one becomes the effect's, and is reversed."""


class Bench(RuleBasedStateMachine):
    """One store, what is known of it, and acts that are checked."""

    def __init__(self, arena: Arena) -> None:
        super().__init__()
        self.arena = arena
        self.database = arena.database
        arena.empty()
        self.world = arena.look(None)
        self.made: list[Lease] = []
        self.effect_ledgers: dict[str, EffectLedger] = {}
        self.obligation_ledgers: dict[str, ObligationLedger] = {}
        self.replayed: dict[str, Row] = {}
        self.nonces: set[str] = set()
        self.reached: set[tuple[str, str, str, str]] = set()
        self.changed = False

    # --- what a row, a lease, a moment offers ---

    def effects_in(self, *statuses: str) -> list[Effect]:
        """The effects in one of ``statuses``."""
        return [effect for effect in self.world.effects.values() if effect.status in statuses]

    def obligations_in(self, *statuses: str) -> list[Obligation]:
        """The obligations in one of ``statuses``."""
        return [owed for owed in self.world.obligations.values() if owed.status in statuses]

    def rows(self, kind: Kind[Any]) -> Any:
        """The rows of one table, by key."""
        return self.world.effects if kind is EFFECTS else self.world.obligations

    def ledger(self, kind: Kind[Any], key: str) -> Any:
        """What the contract knows of a row."""
        return self.effect_ledgers[key] if kind is EFFECTS else self.obligation_ledgers[key]

    def holds(self, lease: Lease) -> bool:
        """Whether the row still is under this claim."""
        row = self.rows(lease.kind)[lease.key]
        return bool(row.claim_nonce == lease.record.claim_nonce and lease.told is None)

    def held(self, kind: Kind[Any], verb: str) -> list[Lease]:
        """The claims that rows are under."""
        return [lease for lease in self.made if (lease.kind, lease.verb) == (kind, verb) and self.holds(lease)]

    def waiting(self, kind: Kind[Any], *statuses: str) -> list[Any]:
        """The rows in one of ``statuses`` for which a worker will come."""
        return [row for row in self.rows(kind).values() if row.status in statuses and row.due_at_ms is not None]

    def late(self, kind: Kind[Any], *verbs: str) -> list[Lease]:
        """The claims that were lost before they ended."""
        mine = [lease for lease in self.made if lease.kind is kind and lease.verb in verbs]
        return [lease for lease in mine if lease.told is None and not self.holds(lease)]

    # --- acts ---

    def put(self, intent: Intent, lost: Loss | None = None) -> Effect | None:
        expected = self._standing_for(intent)
        before = self.world
        self.database.lose = lost
        try:
            found = intents.record(self.database, intent, actor="app", hint_ms=LEASE_MS)
        except KeyConflict:
            demand(expected == "conflict", "a key that is free is no conflict", intent, expected)
            self.happened(before, lambda prediction: None)
            return None
        finally:
            self.database.lose = None
        demand(expected != "conflict", "a key belongs to one request", intent, found)
        if isinstance(expected, Effect):
            demand(found.effect == expected, "the effect that stands for an intent is returned", intent, found)
            demand(not found.created, "who finds an effect has not made it", intent)
            self.happened(before, lambda prediction: None)
            return expected
        demand(found.created, "who makes an effect is told so", intent, found)
        effect = intents.effect_of(intent, found.effect.created_at_ms, LEASE_MS)
        if alike := self._alike(intent, effect.created_at_ms):
            demand(any(key in found.effect.reason for key in alike), "what is held says like what", found, alike)
            effect = replace(
                effect, status=EffectStatus.HELD, reason=found.effect.reason, sweep_at_ms=effect.expires_at_ms
            )
        self.happened(before, lambda p: p.record(effect))
        return found.effect

    def _alike(self, intent: Intent, at: int) -> list[str]:
        """By the contract: the effects that an intent with a rule looks like."""
        if intent.hold_within_ms is None:
            return []
        return [
            effect.effect_key
            for effect in self.world.effects.values()
            if (effect.connector, effect.similar_digest) == (intent.connector, intent.similar_digest)
            and effect.status not in ("FAILED", "CANCELLED")
            and effect.created_at_ms >= at - intent.hold_within_ms
        ]

    def again(self, key: str, lost: Loss | None = None) -> Effect | None:
        """Issue an effect again; the successor, where it has got one by that."""
        before, row = self.world, self.world.effects[key]
        event = ReissueAsked(actor="person", reason="again", successor=f"e{len(before.effects):03}")
        allowed = row.status in ("FAILED", "CANCELLED") and not row.reissued_as
        taken = any(
            row.business_key and (other.connector, other.business_key) == (row.connector, row.business_key)
            for other in before.effects.values()
            if other.holds_business_key
        )
        self.database.lose = lost
        try:
            reissues.reissue(self.database, row, event, TERMS[row.connector])
        except NotAllowed:
            demand(not allowed, "what ended in vain may be reissued", row)
        except KeyConflict:
            demand(allowed and taken, "a business key that is free is no conflict", row)
        else:
            demand(allowed and not taken, "only what ended in vain is reissued, under a key that is free", row)
            self.happened(before, lambda prediction: prediction.done(Deed(EFFECTS, key, event)))
            return self.world.effects[event.successor]
        finally:
            self.database.lose = None
        self.happened(before, lambda prediction: None)
        return None

    def _standing_for(self, intent: Intent) -> Effect | str | None:
        """By the contract: the effect that has the intent's keys, ``"conflict"``, or none."""
        for effect in self.world.effects.values():
            if effect.idempotency_key == intent.idempotency_key:
                other_name = intent.business_key not in ("", effect.business_key)
                same = (effect.connector, effect.request_digest) == (intent.connector, intent.request_digest)
                return effect if same and not other_name else "conflict"
        for effect in self.world.effects.values():
            held = effect.business_key if effect.holds_business_key else ""
            if intent.business_key and (effect.connector, held) == (intent.connector, intent.business_key):
                return effect if effect.request_digest == intent.request_digest else "conflict"
        return None

    def take(self, taking: Taking, lost: Loss | None = None) -> list[Lease]:
        before = self.world
        self.database.lose = lost
        got = self._claimed_by(self.database, taking)
        self.database.lose = None
        expected: list[str] = []
        self.happened(before, lambda p: expected.extend([] if lost == "commit" else p.taken(taking)))
        return self._leased(taking, got, expected)

    def _claimed_by(self, database: ModelDatabase, taking: Taking) -> list[Any]:
        return claims.claim(
            database, taking.kind, taking.keys, verb=taking.verb, reach=taking.reach, actor=taking.actor
        )

    def _leased(self, taking: Taking, got: Sequence[Any], expected: Sequence[str]) -> list[Lease]:
        """The claims of ``got``; each is the caller's alone."""
        keys = [taking.kind.key_of(record) for record in got]
        demand(sorted(keys) == sorted(expected), "a worker gets what is due and free", taking, keys, expected)
        fresh: list[Lease] = []
        for record in got:
            row = self.rows(taking.kind)[taking.kind.key_of(record)]
            demand(record == row or record.version < row.version, "who claims is given the row", record, row)
            lease = Lease(taking.kind, taking.verb, taking.actor, record)
            if taking.verb == "call":
                must: Any = state.must_withhold if taking.kind is EFFECTS else obligation_state.must_withhold
                lease.withheld = must(record, TERMS[record.connector])
                self._may_send(lease)
            fresh.append(lease)
        nonces = {lease.record.claim_nonce for lease in fresh}
        demand(len(nonces) <= 1 and not nonces & self.nonces, "a claim has a nonce of its own", fresh)
        self.nonces |= nonces
        self.made += fresh
        return fresh

    def _may_send(self, lease: Lease) -> None:
        """A call that may land a second time is not sent."""
        ledger = self.ledger(lease.kind, lease.key)
        if ledger.call is None or ledger.call.token != lease.record.token:
            return
        safe = not ledger.maybe or ledger.resend_is_safe(lease.record.lease_until_ms)
        demand(safe or lease.withheld, "what may land a second time is not sent", lease, ledger)
        demand(ledger.maybe or not lease.withheld, "a first call is sent", lease, ledger)

    def keep(self, lease: Lease) -> None:
        row = self.rows(lease.kind)[lease.key]
        ours = row.claim_nonce == lease.record.claim_nonce and row.lease_until_ms is not None
        before, span = self.world, WORKERS[lease.actor].lease_ms[row.connector]
        kept = claims.renew(self.database, lease.kind, lease.record, lease_ms=span)
        demand(kept == ours, "a lease is kept by who has it, and by nobody else", lease, row)

        def longer(prediction: Prediction) -> None:
            until = self.rows(lease.kind)[lease.key].lease_until_ms
            demand(before.now + span <= until <= self.world.now + span, "a lease is kept from now on", until)
            prediction.rows(lease.kind)[lease.key] = replace(row, lease_until_ms=until, sweep_at_ms=until)
            self.ledger(lease.kind, lease.key).renewed(until)

        self.happened(before, longer if kept else lambda prediction: None)

    def answer(self, lease: Lease, which: int) -> Event:
        if lease.verb == "look":
            return LOOK_ANSWERS[which % len(LOOK_ANSWERS)]
        answers = CALL_ANSWERS if lease.kind is EFFECTS else INVERSE_ANSWERS
        return answers[which % len(answers)]

    def spared(self, answer: Event, kind: Kind[Any], key: str, *, racing: bool = False) -> Event:
        """``answer``, or another where the product is known to fail."""
        row = self.rows(kind)[key]
        if UNSENT_INVERSES_ARE_LATE_IN_VAIN and isinstance(row, Obligation) and row.status != "COMPENSATING":
            return answer if getattr(answer, "sent", True) else LOST
        if EXTRAS_SEEN_IN_MID_CALL_MAY_STAY and isinstance(row, Effect) and row.status == "DISPATCHING":
            if isinstance(answer, Observed) and answer.status == "duplicate" and (racing or row.landed):
                return replace(answer, status="confirmed", duplicates=None)
            extras = {owed.external_ref for owed in self.world.obligations.values() if owed.effect_key == key}
            if isinstance(answer, Answered) and answer.external_ref in extras:
                return replace(answer, external_ref="")
        return answer

    def tell(self, lease: Lease, answer: Event, lost: Loss | None = None) -> None:
        before, again = self.world, lease.told is not None
        lease.told = lease.told or lease.end(self.spared(answer, lease.kind, lease.key))
        self.do([Deed(lease.kind, lease.key, lease.told, again, lease.record)], lost)
        if not again:
            self.are_journaled(before, [lease])

    def are_journaled(self, before: World, told: Sequence[Lease]) -> None:
        """Nothing that a worker tells is dropped, and what is not of the row's own claim ends no claim."""
        for lease in told:
            entries = [entry for entry in self.world.news if entry.key == lease.key]
            nonces = [entry.evidence.get("nonce") for entry in entries]
            demand(nonces == [lease.record.claim_nonce], "what a worker tells is journaled, once", lease, entries)
            row = (before.effects | before.obligations)[lease.key]  # type: ignore[operator]
            after = self.rows(lease.kind)[lease.key]
            if row.token != lease.record.token and after.status == row.status and row.lease_until_ms is not None:
                same = (after.token, after.claim_nonce, after.lease_until_ms)
                kept = same == (row.token, row.claim_nonce, row.lease_until_ms)
                demand(kept, "who lost its claim does not end another's", lease, row, after)

    # --- races ---

    def race_for(self, kind: Kind[Any], key: str, act: int, which: int, other: int) -> list[Lease]:
        ours, our_lease = self._contender(kind, key, act, which, actor="worker-1")
        theirs, their_lease = self._contender(kind, key, other % 6, other, actor="worker-3", besides=our_lease)
        before = self.world
        theirs_got: list[Any] = []
        met: list[bool] = []

        def get_in(where: Any) -> None:
            met.append(True)
            theirs_got.append(self._perform(where, theirs))

        self.arena.in_between(get_in)
        ours_got = self._perform(self.database, ours)
        self.database.meanwhile = None
        results: list[Any] = []

        def predict(prediction: Prediction) -> None:
            for done in (theirs, ours) if met else (ours,):
                results.append(prediction.taken(done) if isinstance(done, Taking) else prediction.done(done))

        self.happened(before, predict)
        fresh: list[Lease] = []
        pairs = [(theirs, theirs_got[0], their_lease)] if met else []
        for (done, got, lease), expected in zip([*pairs, (ours, ours_got, our_lease)], results, strict=True):
            if isinstance(done, Taking):
                fresh += self._leased(done, got, expected)
            else:
                self._as_expected(got[done.key], expected, compare=done is ours)
                if lease is not None and lease.told is None:
                    lease.told = done.event
        return fresh

    def _contender(
        self, kind: Kind[Any], key: str, act: int, which: int, *, actor: str, besides: Lease | None = None
    ) -> tuple[Deed | Taking, Lease | None]:
        """What one of two may do with a row, and the claim that it ends."""
        open_leases = [
            lease
            for lease in self.made
            if (lease.kind, lease.key) == (kind, key) and lease.told is None and lease is not besides
        ]
        if act <= 2 and open_leases:
            lease = open_leases[-1 - which % len(open_leases)] if act else open_leases[-1]
            end = lease.end(self.spared(self.answer(lease, which), kind, key, racing=True))
            return Deed(kind, key, end, seen=lease.record), lease
        row = self.rows(kind)[key]
        if act == 3 and row.status == kind.calling:
            return Deed(kind, key, Lapsed(actor="sweep")), None
        if act == 4 and row.status == "UNKNOWN":
            verdict: Any = ("confirmed", "failed", "observe")[which % 3]
            return Deed(kind, key, Resolved(actor="person", reason="asked", verdict=verdict)), None
        if act == 5 and kind is EFFECTS:
            return Deed(kind, key, CancelAsked(actor="person", reason="not wanted")), None
        verb: Any = "look" if row.status == "UNKNOWN" else "call"
        return Taking(kind, (key,), verb, EVERYTHING, actor), None

    def _perform(self, where: Any, done: Deed | Taking) -> Any:
        """Do it, through a store of one's own or on a connection that is in the middle of another's unit."""
        if isinstance(where, ModelDatabase):
            if isinstance(done, Taking):
                return self._claimed_by(where, done)
            return moves.move(where, done.kind, [self._move(done)])
        if isinstance(done, Taking):
            nonce = f"nonce-{len(self.nonces)}"
            what = (done.kind, done.keys, done.verb, done.reach, nonce, done.actor)
            return claims._claim(where, self.database, *what, ends={})
        named = self._move(done)
        event = named.event if named.event.nonce else replace(named.event, nonce="meanwhile")
        return moves.move_within(where, self.database, done.kind, [replace(named, event=event)], again=False)

    # --- time ---

    def wait(self, span: int) -> None:
        self.arena.pass_time(span)
        self.world = replace(self.world, now=self.world.now + span, news=())

    # --- what is common to all that happens ---

    def _move(self, deed: Deed) -> moves.Move:
        return deed.move(TERMS[self.rows(deed.kind)[deed.key].connector])

    def do(self, deeds: Sequence[Deed], lost: Loss | None = None) -> None:
        """Bring ``deeds`` to the store in one unit, and see that it does what the pure functions say."""
        before, kind = self.world, deeds[0].kind
        self.database.lose = lost
        results = moves.move(self.database, kind, [self._move(deed) for deed in deeds])
        self.database.lose = None
        expected: dict[str, Outcome] = {}

        def predict(prediction: Prediction) -> None:
            for deed in sorted(deeds, key=lambda deed: deed.key):
                expected[deed.key] = prediction.done(deed)

        self.happened(before, predict)
        for deed in deeds:
            self._as_expected(results[deed.key], expected[deed.key], compare=lost != "answer")

    def _as_expected(self, result: Any, expected: Outcome, *, compare: bool) -> None:
        if expected.word == "refused":
            demand(isinstance(result, NotAllowed), "what a state does not allow is refused", result)
            return
        demand(isinstance(result, Moved), "what a state allows is done", result, expected)
        if expected.word != "known":
            demand(result.kind == expected.word, "who acts is told what it did", result.kind, expected)
            if compare:
                demand(result.after == expected.after, "who acts is given the row", result.after, expected.after)

    def happened(self, before: World, predict: Callable[[Prediction], object]) -> None:
        """Look at the store; its rows must be those that ``predict`` makes of the rows before."""
        self.arena.steps += 1
        self.world = self.arena.look(before)
        self.changed = True
        for entry in self.world.news:
            self._learn(entry)
        prediction = Prediction(before, self.world)
        predict(prediction)
        expect_same(prediction.effects, self.world.effects)
        expect_same(prediction.obligations, self.world.obligations)

    def _learn(self, entry: JournalEntry) -> None:
        """Take one new entry of the journal into the ledgers of the contract and the replay."""
        table = "effect" if entry.key == entry.effect_key else "obligation"
        self.reached.add((table, entry.kind, entry.from_status, entry.status))
        self.arena.reached[(table, entry.kind, entry.from_status, entry.status)] += 1
        rows: Any = self.world.effects if table == "effect" else self.world.obligations
        ledgers: dict[str, Any] = self.effect_ledgers if table == "effect" else self.obligation_ledgers
        if entry.seq == 1:
            demand(entry.kind == "recorded", "a journal begins with the recording", entry)
            ledgers[entry.key] = _begun(rows[entry.key], entry)
            self.replayed[entry.key] = _recorded(rows[entry.key], entry)
            return
        demand(entry.seq == self.replayed[entry.key].version + 1, "a journal has no gaps", entry)
        ledgers[entry.key].read(entry)
        event, terms = from_evidence(entry.evidence, at_ms=entry.at_ms, actor=entry.actor)
        decide: Any = state.decide if table == "effect" else obligation_state.decide
        self.replayed[entry.key] = decide(self.replayed[entry.key], event, terms).after

    # --- what must be true after every step ---

    @invariant()
    def audit_finds_nothing(self) -> None:
        """The product's own invariants hold."""
        if self.changed:
            found = broken_invariants(self.database)
            assert not found, found

    @invariant()
    def journals_replay_to_their_rows(self) -> None:
        """And hold one entry for each change of a row."""
        rows: list[Row] = [*self.world.effects.values(), *self.world.obligations.values()]
        assert self.world.entries == sum(row.version for row in rows), "the journal has an entry that no row knows"
        if self.changed:
            for key, row in [*self.world.effects.items(), *self.world.obligations.items()]:
                replayed = self.replayed[key]
                differs = {
                    name: (value, getattr(replayed, name))
                    for name, value in row.__dict__.items()
                    if name not in _NOT_REPLAYED and value != getattr(replayed, name)
                }
                assert not differs, f"{key}: the row and its replay: {differs}"

    @invariant()
    def the_contract_holds(self) -> None:
        """Each row is what the contract makes of its journal."""
        if self.changed:
            for key, effect in self.world.effects.items():
                self.effect_ledgers[key].agrees(effect)
            for key, owed in self.world.obligations.items():
                self.obligation_ledgers[key].agrees(owed)
            decided = {key for key, ledger in self.obligation_ledgers.items() if ledger.decided}
            contract.no_obligation_is_wrong(self.world.effects, self.world.obligations, decided)
            contract.no_key_is_taken_twice(self.world.effects)
            contract.every_successor_is_one(self.world.effects)
        self.changed = False


_NOT_REPLAYED = {"response_json", "error_json", "sweep_at_ms", "lease_until_ms"}
"""Bodies, marks of sweeps and renewals are not in the journal."""


def _begun(row: Any, entry: JournalEntry) -> Any:
    terms = TERMS[row.connector]
    if isinstance(row, Obligation):
        due_at_ms = entry.at_ms if entry.status == "PENDING" else None
        return ObligationLedger(max_attempts=row.max_attempts, terms=terms, status=entry.status, due=due_at_ms)
    facts = entry.evidence
    return EffectLedger(
        semantics=facts["semantics"],
        max_attempts=facts["max_attempts"],
        business_key=row.business_key,
        terms=terms,
        due=facts["due_at_ms"],
        expires=facts["expires_at_ms"],
        status=entry.status,
    )


def _recorded(row: Any, entry: JournalEntry) -> Row:
    """The row as it was when it was made."""
    if isinstance(row, Effect):
        facts = entry.evidence
        return Effect(
            effect_key=row.effect_key,
            connector=row.connector,
            semantics=Semantics(facts["semantics"]),
            idempotency_key=row.idempotency_key,
            business_key=row.business_key,
            holds_business_key=bool(row.business_key),
            run_id=row.run_id,
            request_json=row.request_json,
            request_digest=facts["request_digest"],
            max_attempts=facts["max_attempts"],
            due_at_ms=facts["due_at_ms"],
            expires_at_ms=facts["expires_at_ms"],
            created_at_ms=entry.at_ms,
            updated_at_ms=entry.at_ms,
            status=EffectStatus(entry.status),
            reason=facts.get("reason", ""),
            reissue_of=facts.get("reissue_of", ""),
            similar_digest=row.similar_digest,
        )
    due_at_ms = entry.at_ms if entry.status == "PENDING" else None
    return Obligation(
        obligation_key=row.obligation_key,
        effect_key=row.effect_key,
        run_id=row.run_id,
        connector=row.connector,
        kind=entry.evidence["kind"],
        external_ref=entry.evidence["external_ref"],
        payload_json=row.payload_json,
        status=type(row.status)(entry.status),
        reason=entry.evidence["reason"],
        idempotency_key=row.idempotency_key,
        max_attempts=row.max_attempts,
        due_at_ms=due_at_ms,
        created_at_ms=entry.at_ms,
        updated_at_ms=entry.at_ms,
    )
