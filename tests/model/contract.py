"""The contract once more, in few words and apart from the product: what each entry of a journal must have done.

It reads the journal, entry by entry, keeps for each row the little that the contract speaks of, and raises
`BreachError` where the product did something else. It uses nothing of the product's own deciding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from tape_celery.policy import Terms
from tape_celery.records import Effect, JournalEntry, Obligation


class BreachError(AssertionError):
    """The contract says otherwise."""


def demand(holds: object, rule: str, *seen: object) -> None:
    """Raise `BreachError` with the words of the rule unless it ``holds``."""
    if not holds:
        raise BreachError(": ".join([rule, *map(str, seen)]))


@dataclass
class Claim:
    """A claim that has not ended: of a call or a look."""

    token: int
    began: int
    until: int


@dataclass
class EffectLedger:
    """What the contract knows of one effect."""

    semantics: str
    max_attempts: int
    business_key: str
    terms: Terms
    due: int | None
    expires: int | None
    status: str = "PENDING"
    token: int = 0
    calls: dict[int, int] = field(default_factory=dict)
    """When each call that was sent, or may have been, was claimed; by token."""
    last_call: int = 0
    maybe: set[int] = field(default_factory=set)
    """The calls that may have landed: their outcome was not definite, and no settled absence has been seen since."""
    call: Claim | None = None
    look: Claim | None = None
    landed: bool = False
    """Late evidence said so while a newer call was at work."""
    cancelled: bool = False
    ended: int | None = None
    """When it was first CONFIRMED, FAILED or CANCELLED."""
    watched: bool = False
    """An absence was believed: where it ends without a landing, it is looked at again."""
    reissued_as: str = ""
    freed: bool = False
    """It was FAILED or CANCELLED once, and has let go of its business key for good."""
    settled: int = 0
    looks: int = 0
    watches: int = 0

    def resend_is_safe(self, until: int) -> bool:
        """Whether another call, begun before ``until``, cannot land a second time."""
        if self.semantics == "observe_only":
            return True
        inside = not self.calls or until < min(self.calls.values()) + self.terms.window_ms
        return self.semantics == "idempotent" and inside

    def may_resend(self, due: int) -> bool:
        """Whether a call that is due then, and uses its whole lease, is still safe."""
        return self.resend_is_safe(due + self.terms.lease_ms)

    def read(self, entry: JournalEntry) -> None:
        """Take in one entry, and raise `BreachError` if it is not what the contract makes of this row."""
        said, at = entry.evidence, entry.at_ms
        demand(entry.from_status == self.status, "an entry begins where the one before ended", entry, self.status)
        expected = getattr(self, f"_{said['event'].lower()}")(said, at)
        demand(entry.status == expected, f"{entry.kind} from {entry.from_status} leads to {expected}", entry, self)
        demand(entry.token == self.token, "the journal has the row's token", entry, self.token)
        left = self.status != expected
        self.status = expected
        if expected in ("CONFIRMED", "FAILED", "CANCELLED", "STUCK"):
            if left:
                self.due = self._watch_due(at) if expected in ("FAILED", "CANCELLED") and self.watched else None
            if expected != "STUCK" and self.ended is None:
                self.ended = at
        self.freed = self.freed or expected in ("FAILED", "CANCELLED")

    def renewed(self, until: int) -> None:
        """The claim's worker has kept its lease; no entry tells of it."""
        for claim in filter(None, (self.call, self.look)):
            if claim.token == self.token:
                claim.until = until

    # --- claims ---

    def _claimed(self, said: Mapping[str, Any], at: int) -> str:
        claim = Claim(self.token + 1, at, at + said["lease_ms"])
        self.token = claim.token
        demand(self.due is not None and self.due <= at, "nothing is claimed before it is due", self)
        if said["verb"] == "look":
            over = self.status in ("FAILED", "CANCELLED")
            demand(self.status == "UNKNOWN" or over, "a look is for UNKNOWN, or an absence that is watched", self)
            demand(self.look is None or self.look.until <= at, "a look that is under way is not taken over", self)
            self.look = claim
            if self.status == "UNKNOWN":
                self.looks += 1
            else:
                demand(self.watched, "only a believed absence is watched", self)
            return self.status
        demand(self.status == "PENDING", "only what is PENDING is called", self)
        demand(self.expires is None or at < self.expires, "what has expired is not called", self)
        demand(self.ended is None, "what has ended is not called again", self)
        demand(not self.cancelled, "what was cancelled is not called", self)
        if self.semantics == "non_idempotent":
            demand(not self.maybe, "a non-idempotent call that may have landed is never made again", self)
        self.call, self.look, self.last_call = claim, None, claim.token
        self.calls[claim.token] = at
        return "DISPATCHING"

    # --- calls ---

    def _answered(self, said: Mapping[str, Any], at: int) -> str:
        if self.call is None or said["token"] != self.call.token:
            return self._late_answer(said, at)
        token, self.call = self.call.token, None
        self.settled = max(self.settled, at + self.terms.settle_ms)
        return self._outcome(said, at, token)

    def _outcome(self, said: Mapping[str, Any], at: int, token: int) -> str:
        if self.landed or said["status"] == "confirmed":
            return self._confirm()
        if not said["sent"]:
            del self.calls[token]
            return self._back(at, said["backoff_ms"])
        left = len(self.calls) < self.max_attempts
        wait = said["backoff_ms"] if said["retry_in_ms"] is None else said["retry_in_ms"]
        if said["status"] == "failed" and said["may_have_landed"]:
            self.maybe.add(token)
            return self._back(at, wait) if left and self.may_resend(at + wait) else self._lost(at)
        if said["status"] == "failed":
            if said["retry_in_ms"] is not None and left:
                return self._back(at, wait)
            return self._lost(at) if self.maybe else "FAILED"
        self.maybe.add(token)
        return self._lost(at)

    def _withheld(self, said: Mapping[str, Any], at: int) -> str:
        if self.call is None or said["token"] != self.call.token:
            return self.status
        del self.calls[self.call.token]
        self.call = None
        return self._confirm() if self.landed else self._lost(at)

    def _lapsed(self, said: Mapping[str, Any], at: int) -> str:
        demand(self.call is not None and self.status == "DISPATCHING", "only a call's lease runs out", self)
        assert self.call is not None
        demand(said["lease_until_ms"] <= at, "a lease is not ended before its time", said, at)
        demand(said["lease_until_ms"] >= self.call.until, "nobody shortens a lease", said, self)
        token, self.call = self.call.token, None
        self.maybe.add(token)
        self.settled = max(self.settled, said["lease_until_ms"] + self.terms.settle_ms)
        if self.landed:
            return self._confirm()
        again = len(self.calls) < self.max_attempts and self.may_resend(at)
        return self._back(at, 0) if again else self._lost(at)

    def _late_answer(self, said: Mapping[str, Any], at: int) -> str:
        if said["status"] == "confirmed":
            return self._late_confirmed()
        in_time = self.status == "UNKNOWN" and said["token"] == self.last_call and self.ended is None
        if not in_time or (said["status"] == "unknown" and said["sent"]):
            return self.status
        # As if it had come in time; where that would leave it UNKNOWN, nothing of it is new.
        before = (set(self.maybe), dict(self.calls), self.due, self.looks)
        self.maybe.discard(said["token"])
        status = self._outcome(said, at, said["token"])
        if status == "UNKNOWN":
            self.maybe, self.calls, self.due, self.looks = before
        else:
            self.look = None
            self.settled = max(self.settled, at + self.terms.settle_ms)
        return status

    def _late_confirmed(self) -> str:
        if self.status == "DISPATCHING":
            self.landed = True
            return self.status
        if self.status in ("FAILED", "CANCELLED"):
            self.watched, self.look = False, None
            return "STUCK"
        if self.status == "CONFIRMED" or (self.status == "STUCK" and self.ended is not None):
            return self.status
        return self._confirm()

    # --- looks ---

    def _observed(self, said: Mapping[str, Any], at: int) -> str:
        in_time = self.look is not None and said["token"] == self.look.token and self.token == self.look.token
        if not in_time:
            return self._late_look(said)
        look, self.look = self.look, None
        assert look is not None
        if self.status in ("FAILED", "CANCELLED"):
            self.watches += 1
            if said["status"] == "duplicate" or (said["status"] == "confirmed" and not said["superseded"]):
                self.watched = False
                return "STUCK"
            self.due = self._watch_due(at)
            return self.status
        match said["status"]:
            case "confirmed" | "duplicate":
                return self._confirm()
            case "failed":
                return "FAILED"
            case "absent" if look.began < self.settled:
                self.looks -= 1
                self.due = self.settled
                return self.status
            case "absent":
                self.maybe.clear()
                self.watched, self.watches = True, 0
                left = self.ended is None and len(self.calls) < self.max_attempts
                if left and self.resend_is_safe(at):
                    return self._back(at, 0)
                return "FAILED"
            case _ if self.looks >= self.terms.observe_attempts:
                return "STUCK"
            case _:
                self.due = at + said["backoff_ms"]
                return self.status

    def _late_look(self, said: Mapping[str, Any]) -> str:
        if said["status"] not in ("confirmed", "duplicate"):
            return self.status
        if self.status in ("FAILED", "CANCELLED") and said["superseded"] and said["status"] == "confirmed":
            return self.status
        return self._late_confirmed()

    def _unobservable(self, said: Mapping[str, Any], at: int) -> str:
        if self.look is None or said["token"] != self.look.token or self.token != self.look.token:
            return self.status
        self.look = None
        if self.status in ("FAILED", "CANCELLED"):
            self.due = None
            return self.status
        due = at + said["backoff_ms"]
        if self._must_stop(at) or not self.may_resend(due) or len(self.calls) >= self.max_attempts:
            return "STUCK"
        return self._back(at, said["backoff_ms"])

    # --- people, the app, time ---

    def _cancelasked(self, said: Mapping[str, Any], at: int) -> str:
        open_ = ("HELD", "PENDING", "DISPATCHING", "UNKNOWN")
        demand(self.status in open_, "what is over is not cancelled", self)
        self.cancelled = True
        return self._stop(at) if self.status in ("HELD", "PENDING") else self.status

    def _expired(self, said: Mapping[str, Any], at: int) -> str:
        demand(self.status in ("HELD", "PENDING"), "only what is HELD or PENDING expires", self)
        demand(self.expires is not None and self.expires <= at, "nothing expires before its time", self)
        return self._stop(at)

    def _resolved(self, said: Mapping[str, Any], at: int) -> str:
        demand(self.status in ("UNKNOWN", "STUCK"), "a person decides what is UNKNOWN or STUCK", self)
        if said["verdict"] != "observe":
            self.look = None
            return "CONFIRMED" if said["verdict"] == "confirmed" else "FAILED"
        if self.status == "STUCK":
            self.look = None
        return self._lost(at)

    def _oweasked(self, said: Mapping[str, Any], at: int) -> str:
        demand(self.status == "CONFIRMED", "only what is CONFIRMED is undone", self)
        demand(self.semantics != "observe_only", "what changed nothing is not undone", self)
        return self.status

    def _releaseasked(self, said: Mapping[str, Any], at: int) -> str:
        demand(self.status == "HELD", "only what is HELD is released", self)
        return self._back(at, max(0, (self.due or 0) - at))

    def _reissueasked(self, said: Mapping[str, Any], at: int) -> str:
        demand(self.status in ("FAILED", "CANCELLED"), "only what ended in vain is reissued", self)
        demand(not self.reissued_as, "an effect has one successor", self)
        self.reissued_as = said["successor"]
        return self.status

    # --- where edges lead ---

    def _must_stop(self, at: int) -> bool:
        return self.cancelled or self.ended is not None or (self.expires is not None and self.expires <= at)

    def _back(self, at: int, wait: int) -> str:
        """Every edge to PENDING; what must stop does not get there."""
        self.due = at + wait
        if not self._must_stop(at):
            return "PENDING"
        return self._stop(at)

    def _stop(self, at: int) -> str:
        return self._lost(at) if self.maybe else "CANCELLED"

    def _lost(self, at: int) -> str:
        self.due, self.looks = at, 0
        return "UNKNOWN"

    def _confirm(self) -> str:
        self.landed, self.watched, self.look = False, False, None
        return "CONFIRMED"

    def _watch_due(self, at: int) -> int | None:
        if self.watches >= len(self.terms.watch_ms):
            return None
        return max(at, (at if self.ended is None else self.ended) + self.terms.watch_ms[self.watches])

    def agrees(self, row: Effect) -> None:
        """Raise `BreachError` unless the row is what its journal made of it."""
        demand(row.status == self.status, "the row has its journal's status", row, self)
        demand(row.token == self.token, "the row has its journal's token", row, self)
        demand(row.attempt == len(self.calls), "every call that may have been sent uses an attempt", row, self)
        demand(row.due_at_ms == self.due or self.status == "DISPATCHING", "the row is due when it should be", row, self)
        if not row.status.settled and row.ended_at_ms is None:
            demand(row.may_have_landed == bool(self.maybe), "the flag says whether a call may have landed", row, self)
        holds = self.business_key != "" and not self.freed
        demand(row.holds_business_key == holds, "an effect holds its business key until it ends in vain", row, self)
        demand(row.reissued_as == self.reissued_as, "an effect keeps its successor", row, self)
        if row.status == "HELD":
            demand(not row.token and not row.attempt, "what is HELD was never sent", row)
        if row.status in ("STUCK", "HELD"):
            demand(row.reason, "what waits for a person says why", row)
        if row.status in ("PENDING", "DISPATCHING", "UNKNOWN"):
            demand(row.sweep_at_ms is not None, "what is not settled is swept", row)


@dataclass
class ObligationLedger:
    """What the contract knows of one obligation."""

    max_attempts: int
    terms: Terms
    status: str
    due: int | None
    token: int = 0
    attempts: int = 0
    first_sent: int | None = None
    last_call: int = 0
    maybe: set[int] = field(default_factory=set)
    """The inverses that may have been done: their outcome was not definite, and nothing has been learnt since."""
    call: Claim | None = None
    look: Claim | None = None
    landed: bool = False
    decided: bool = False
    """A person has spoken of it."""
    settled: int = 0
    looks: int = 0

    def resend_is_safe(self, at: int) -> bool:
        """Whether the inverse, sent once more, cannot be done twice."""
        inside = self.first_sent is not None and at < self.first_sent + self.terms.window_ms
        return self.terms.compensation_idempotent and inside

    def read(self, entry: JournalEntry) -> None:
        """Take in one entry, and raise `BreachError` if it is not what the contract makes of this row."""
        demand(entry.from_status == self.status, "an entry begins where the one before ended", entry, self.status)
        expected = getattr(self, f"_{entry.evidence['event'].lower()}")(entry.evidence, entry.at_ms)
        demand(entry.status == expected, f"{entry.kind} from {entry.from_status} leads to {expected}", entry, self)
        demand(entry.token == self.token, "the journal has the row's token", entry, self.token)
        if expected in ("COMPENSATED", "STUCK"):
            self.due = None
        self.status = expected

    def renewed(self, until: int) -> None:
        """The claim's worker has kept its lease; no entry tells of it."""
        for claim in filter(None, (self.call, self.look)):
            if claim.token == self.token:
                claim.until = until

    def _claimed(self, said: Mapping[str, Any], at: int) -> str:
        claim = Claim(self.token + 1, at, at + said["lease_ms"])
        self.token = claim.token
        demand(self.due is not None and self.due <= at, "nothing is claimed before it is due", self)
        if said["verb"] == "look":
            demand(self.status == "UNKNOWN", "a look is for UNKNOWN", self)
            demand(self.look is None or self.look.until <= at, "a look that is under way is not taken over", self)
            self.look = claim
            self.looks += 1
            return self.status
        demand(self.status == "PENDING", "only what is PENDING is undone", self)
        self.call, self.look, self.last_call = claim, None, claim.token
        self.first_sent = at if self.first_sent is None else self.first_sent
        self.attempts += 1
        return "COMPENSATING"

    def _answered(self, said: Mapping[str, Any], at: int) -> str:
        if self.call is not None and said["token"] == self.call.token:
            self.call = None
            self.settled = max(self.settled, at + self.terms.settle_ms)
            return self._outcome(said, at, said["token"])
        if said["status"] == "confirmed":
            return self._late_compensated()
        in_time = self.status == "UNKNOWN" and said["token"] == self.last_call
        if not in_time or (said["status"] == "unknown" and said["sent"]):
            return self.status
        self.settled = max(self.settled, at + self.terms.settle_ms)
        self.look = None
        self.maybe.discard(said["token"])
        return self._outcome(said, at, said["token"])

    def _outcome(self, said: Mapping[str, Any], at: int, token: int) -> str:
        if self.landed or said["status"] == "confirmed":
            return self._compensate()
        if not said["sent"]:
            # A person who asks for a look gives the inverse all its attempts again.
            self.attempts = max(self.attempts - 1, 0)
            if self.attempts == 0 and not self.maybe:
                self.first_sent = None
            return self._back(at + said["backoff_ms"])
        if said["status"] == "unknown":
            self.maybe.add(token)
            return self._lost(at)
        if said["final"] or self.attempts >= self.max_attempts:
            return "STUCK"
        return self._back(at + (said["backoff_ms"] if said["retry_in_ms"] is None else said["retry_in_ms"]))

    def _withheld(self, said: Mapping[str, Any], at: int) -> str:
        if self.call is None or said["token"] != self.call.token:
            return self.status
        self.call = None
        self.attempts -= 1
        return self._compensate() if self.landed else self._lost(at)

    def _lapsed(self, said: Mapping[str, Any], at: int) -> str:
        demand(self.call is not None and self.status == "COMPENSATING", "only a call's lease runs out", self)
        demand(said["lease_until_ms"] <= at, "a lease is not ended before its time", said, at)
        assert self.call is not None
        self.maybe.add(self.call.token)
        self.call = None
        self.settled = max(self.settled, said["lease_until_ms"] + self.terms.settle_ms)
        return self._compensate() if self.landed else self._lost(at)

    def _observed(self, said: Mapping[str, Any], at: int) -> str:
        if self.look is None or said["token"] != self.look.token:
            return self._late_compensated() if said["status"] == "confirmed" else self.status
        look, self.look = self.look, None
        match said["status"]:
            case "confirmed":
                return self._compensate()
            case "failed" | "duplicate":
                return "STUCK"
            case "absent" if look.began < self.settled:
                self.looks -= 1
                self.due = self.settled
                return self.status
            case "absent":
                self.maybe.clear()
                if self.first_sent is None or self.attempts >= self.max_attempts:
                    return "STUCK"
                return self._back(at)
            case _ if self.looks >= self.terms.observe_attempts:
                return "STUCK"
            case _:
                self.due = at + said["backoff_ms"]
                return self.status

    def _unobservable(self, said: Mapping[str, Any], at: int) -> str:
        if self.look is None or said["token"] != self.look.token:
            return self.status
        self.look = None
        due = at + said["backoff_ms"]
        if not self.resend_is_safe(due + self.terms.lease_ms) or self.attempts >= self.max_attempts:
            return "STUCK"
        return self._back(due)

    def _resolved(self, said: Mapping[str, Any], at: int) -> str:
        demand(self.status in ("UNKNOWN", "STUCK"), "a person decides what is UNKNOWN or STUCK", self)
        self.look, self.decided = None, True
        if said["verdict"] == "confirmed":
            return self._compensate()
        self.attempts = self.looks = 0
        if said["verdict"] == "failed":
            self.maybe.clear()
            self.first_sent = None
            return self._back(at)
        return self._lost(at)

    def _late_compensated(self) -> str:
        if self.status == "COMPENSATED":
            return self.status
        if self.status == "COMPENSATING":
            self.landed = True
            return self.status
        return self._compensate()

    def _back(self, due: int) -> str:
        self.due = due
        return "PENDING"

    def _lost(self, at: int) -> str:
        self.due, self.looks = at, 0
        return "UNKNOWN"

    def _compensate(self) -> str:
        self.landed, self.look = False, None
        self.maybe.clear()
        return "COMPENSATED"

    def agrees(self, row: Obligation) -> None:
        """Raise `BreachError` unless the row is what its journal made of it."""
        demand(row.status == self.status, "the row has its journal's status", row, self)
        demand(row.token == self.token, "the row has its journal's token", row, self)
        demand(
            row.may_have_landed == bool(self.maybe), "the flag says whether an inverse may have been done", row, self
        )
        demand(row.attempt == self.attempts, "every inverse that may have been sent uses an attempt", row, self)
        demand(
            row.due_at_ms == self.due or self.status == "COMPENSATING", "the row is due when it should be", row, self
        )
        if row.status == "STUCK":
            demand(row.reason, "what is STUCK says why", row)
        if row.status in ("PENDING", "COMPENSATING", "UNKNOWN"):
            demand(row.sweep_at_ms is not None, "what is not settled is swept", row)


def no_obligation_is_wrong(
    effects: Mapping[str, Effect], obligations: Mapping[str, Obligation], decided: Collection[str]
) -> None:
    """What must hold between effects and what is owed for them; of those ``decided`` a person has spoken."""
    seen: set[tuple[str, str]] = set()
    for owed in obligations.values():
        effect = effects[owed.effect_key]
        record = (owed.effect_key, owed.external_ref)
        demand(record not in seen, "there is at most one obligation for each record of an effect", owed)
        seen.add(record)
        demand(effect.semantics != "observe_only", "what changes nothing owes nothing", owed)
        if owed.status == "COMPENSATING":
            demand(effect.status == "CONFIRMED", "nothing is undone while its effect is not CONFIRMED", owed, effect)
        if owed.kind in ("duplicate", "late") and owed.obligation_key not in decided:
            spared = owed.external_ref != effect.external_ref or owed.status == "STUCK"
            demand(spared, "the record that stays is never the one that is reversed", owed, effect)


def every_successor_is_one(effects: Mapping[str, Effect]) -> None:
    """Raise `BreachError` unless who succeeds an effect is its only successor, and the same request."""
    for key, effect in effects.items():
        if effect.reissue_of:
            first = effects[effect.reissue_of]
            demand(first.reissued_as == key, "an effect has one successor", first, effect)
            same = ("connector", "request_json", "semantics", "business_key", "run_id", "max_attempts")
            demand(all(getattr(first, n) == getattr(effect, n) for n in same), "it is the same request", first, effect)
            demand(effect.idempotency_key != first.idempotency_key, "it has a key of its own", first, effect)
            demand(effect.status != "HELD", "who reissues means it", effect)


def no_key_is_taken_twice(effects: Mapping[str, Effect]) -> None:
    """An idempotency key is one effect's for ever, a business key one live effect's at a time."""
    keys = [effect.idempotency_key for effect in effects.values()]
    demand(len(keys) == len(set(keys)), "an idempotency key is one effect's", keys)
    held = [(effect.connector, effect.business_key) for effect in effects.values() if effect.holds_business_key]
    demand(len(held) == len(set(held)), "a business key is one live effect's", held)
