"""What the pure functions say that the store will do: the world after, from the rows before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tape_celery import obligation_state, state
from tape_celery.errors import NotAllowed
from tape_celery.events import Claimed, Event, Lapsed, Observed, OweAsked, ReissueAsked
from tape_celery.intent import successor_of
from tape_celery.policy import Terms
from tape_celery.records import Effect, Obligation
from tape_celery.store import intents, registering
from tape_celery.store.claims import Reach, Verb
from tape_celery.store.moves import Move
from tape_celery.store.rows import EFFECTS, Kind
from tests.model.arena import World
from tests.model.terms import TERMS

Row = Effect | Obligation


@dataclass(frozen=True)
class Deed:
    """One event for one row."""

    kind: Kind[Any]
    key: str
    event: Event
    again: bool = False
    """The very event has been written before: its answer was lost, as far as the one who tells it knows."""
    seen: Row | None = None
    """The row as the claim left it that the event ends."""

    def move(self, terms: Terms) -> Move:
        """It, as the store takes it."""
        return Move(self.key, self.event, terms, self.seen)


@dataclass(frozen=True)
class Taking:
    """One claim of several rows."""

    kind: Kind[Any]
    keys: tuple[str, ...]
    verb: Verb
    reach: Reach
    actor: str


@dataclass(frozen=True)
class Outcome:
    """What became of a deed: the kind of its journal entry, or ``refused``, or ``known``."""

    word: str
    after: Row | None = None


class Prediction:
    """The rows as they should be, one deed after the other."""

    def __init__(self, before: World, after: World) -> None:
        self._before = before
        self.effects = dict(before.effects)
        self.obligations = dict(before.obligations)
        self._now = after.now
        self._found = after
        self._instants: dict[str, Iterator[int]] = {}
        for entry in after.news:
            instants = [e.at_ms for e in after.news if e.key == entry.key]
            self._instants.setdefault(entry.key, iter(instants))

    def rows(self, kind: Kind[Any]) -> dict[str, Any]:
        """Those of one table."""
        return self.effects if kind is EFFECTS else self.obligations

    def terms(self, row: Row) -> Terms:
        """Those that the model decides a row under."""
        return TERMS[row.connector]

    def taken(self, taking: Taking) -> list[str]:
        """The keys that a claim must get, in its order; their rows are leased."""
        rows, got = self.rows(taking.kind), []
        for key in sorted(set(taking.keys)):
            before = rows.get(key)
            if before is not None and self._is_free(before, taking):
                at = self._instant(key)
                lease_ms = taking.reach.lease_ms[before.connector]
                nonce = self._nonce_of(taking.kind, key)
                event = Claimed(at_ms=at, actor=taking.actor, nonce=nonce, verb=taking.verb, lease_ms=lease_ms)
                rows[key] = self._decide(before, event).after
                got.append(key)
        return got

    def done(self, deed: Deed) -> Outcome:
        """What becomes of a deed."""
        rows = self.rows(deed.kind)
        before = rows[deed.key]
        event = deed.event
        if isinstance(event, Lapsed):
            event = replace(event, lease_until_ms=before.lease_until_ms or self._now)
        if isinstance(event, Observed) and isinstance(before, Effect):
            others = tuple(ref for ref in event.extras if ref in self._let_go_with(before))
            event = replace(event, superseded=self._is_superseded(before))
            event = replace(event, others=others if event.status == "duplicate" else ())
        try:
            if deed.again and self._decide(before, replace(event, at_ms=self._now)).kind == "late":
                return Outcome("known", before)
            if isinstance(event, OweAsked):
                self._refuse_owed(before, event)
            self._decide(before, replace(event, at_ms=self._now))
        except NotAllowed:
            return Outcome("refused")
        event = replace(event, at_ms=self._instant(deed.key))
        decided = self._decide(before, event)
        rows[deed.key] = decided.after
        if isinstance(event, ReissueAsked):
            made_at = self._found.effects[event.successor].created_at_ms
            self.record(intents.effect_of(successor_of(before, event.successor), made_at, 0))
        for owed in getattr(decided, "owed", ()):
            self._register(decided.after, owed, event)
        return Outcome(decided.kind, decided.after)

    def record(self, effect: Effect) -> None:
        """A new effect."""
        self.effects[effect.effect_key] = effect

    def _is_free(self, row: Row, taking: Taking) -> bool:
        """Whether the contract lets a worker have a row now."""
        due = row.due_at_ms is not None and row.due_at_ms <= self._now
        if not due or row.connector not in taking.reach.lease_ms:
            return False
        if taking.verb == "look":
            ended = row.status in ("FAILED", "CANCELLED")
            looked_at = row.status == "UNKNOWN" or (ended and isinstance(row, Effect) and row.absent)
            return looked_at and (row.lease_until_ms is None or row.lease_until_ms <= self._now)
        if isinstance(row, Effect):
            return row.status == "PENDING" and (row.expires_at_ms is None or self._now < row.expires_at_ms)
        return row.status == "PENDING" and self.effects[row.effect_key].status == "CONFIRMED"

    def _decide(self, row: Row, event: Event) -> Any:
        if isinstance(row, Obligation):
            return obligation_state.decide(row, event, self.terms(row))
        return state.decide(row, event, self.terms(row))

    def _instant(self, key: str) -> int:
        return next(self._instants.get(key, iter(())), self._now)

    def _nonce_of(self, kind: Kind[Any], key: str) -> str:
        """The nonce that a claim chose; it is random, so the journal tells it."""
        seq = self.rows(kind)[key].version + 1
        told = [e.evidence.get("nonce", "") for e in self._found.news if (e.key, e.seq) == (key, seq)]
        return told[0] if told else ""

    def _is_superseded(self, effect: Effect) -> bool:
        last = effect
        while last.reissued_as:
            last = self.effects[last.reissued_as]
            if last.status not in ("FAILED", "CANCELLED"):
                return True
        if not effect.business_key or effect.holds_business_key:
            return False
        return any(
            (other.connector, other.business_key) == (effect.connector, effect.business_key)
            and other.holds_business_key
            and other.semantics != "observe_only"
            for other in self.effects.values()
        )

    def _let_go_with(self, effect: Effect) -> Collection[str]:
        """The records of CONFIRMED effects that had the business key of ``effect`` and let it go."""
        return {
            other.external_ref
            for other in self.effects.values()
            if (other.connector, other.business_key)
            == (effect.connector, effect.business_key)
            != (effect.connector, "")
            and not other.holds_business_key
            and other.effect_key != effect.effect_key
            and (other.status, bool(other.external_ref)) == ("CONFIRMED", True)
        }

    def _refs_owed(self, effect_key: str) -> Collection[str]:
        return {owed.external_ref for owed in self.obligations.values() if owed.effect_key == effect_key}

    def _refuse_owed(self, effect: Effect, event: OweAsked) -> None:
        if effect.status == "CONFIRMED" and effect.external_ref in self._refs_owed(effect.effect_key):
            raise NotAllowed(effect.effect_key, effect.status, "to owe its compensation")

    def _register(self, effect: Effect, owed: state.Owed, event: Event) -> None:
        if owed.external_ref in self._refs_owed(effect.effect_key):
            return
        born = registering.obligation(effect, owed, event)
        key = self._key_of(effect.effect_key, owed.external_ref)
        self.obligations[key] = replace(born, obligation_key=key, idempotency_key=f"compensate:{key}")

    def _key_of(self, effect_key: str, ref: str) -> str:
        """The key that was made for an obligation; it is random, so the store tells it."""
        record = (effect_key, ref)
        found = [key for key, o in self._found.obligations.items() if (o.effect_key, o.external_ref) == record]
        return found[0] if found else f"none for {record}"


def expect_same(expected: Mapping[str, Row], found: Mapping[str, Row]) -> None:
    """Raise `AssertionError` with what differs between the rows that were predicted and those that are there."""
    if expected == found:
        return
    assert set(expected) == set(found), f"rows: expected {sorted(expected)}, found {sorted(found)}"
    for key, row in expected.items():
        other = found[key]
        differs = {
            name: (value, getattr(other, name)) for name, value in row.__dict__.items() if value != getattr(other, name)
        }
        assert not differs, f"{key}: expected and found: {differs}"
