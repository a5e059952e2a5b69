"""What can happen to an effect or an obligation: frozen values, written to the journal and read back from it.

Instants (``at_ms``) are epoch milliseconds on the database's clock; spans end in ``_ms`` too and are named for what
they span.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tape_celery.policy import Terms


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened at ``at_ms``, told or done by ``actor``.

    ``nonce`` is its own: writing the same event again after a lost answer to COMMIT changes nothing. A claim, and
    the event that ends it, carry the claim's.
    """

    at_ms: int = 0
    actor: str = ""
    nonce: str = ""


@dataclass(frozen=True, kw_only=True)
class Claimed(Event):
    """A worker took the row for a call (``call``) or a look (``look``)."""

    verb: Literal["call", "look"]
    lease_ms: int


@dataclass(frozen=True, kw_only=True)
class ClaimEnd(Event):
    """The end of the claim that had ``token``, as its worker tells it: in time or late."""

    token: int
    traceparent: str = ""
    """The span of the call or look, as W3C's ``traceparent``; empty where it was not traced."""


@dataclass(frozen=True, kw_only=True)
class Answered(ClaimEnd):
    """A call ended: `DispatchResult` or `CompensationResult`, or the lack of one, boiled down to what decides."""

    status: Literal["confirmed", "failed", "unknown"]
    external_ref: str = ""
    sent: bool = True
    """False where it is proved that nothing was sent."""
    may_have_landed: bool = False
    """A `failed` that admits that the call may have landed."""
    final: bool = False
    """A `failed` inverse that must not be tried again, or that does not exist."""
    retry_in_ms: int | None = None
    """After how long the connector wants another attempt; ``None``: it does not ask for one."""
    backoff_ms: int = 0
    reason: str = ""
    """What went wrong, in words for a person."""
    response_json: str = ""
    error_json: str = ""


@dataclass(frozen=True, kw_only=True)
class Withheld(ClaimEnd):
    """A claimed call that must not be sent.

    An earlier one may have landed, and the upstream may have forgotten the key.
    """


@dataclass(frozen=True, kw_only=True)
class Observed(ClaimEnd):
    """A look ended with what the upstream said; ``stuck`` where it said nothing that helps, or the look failed."""

    status: Literal["confirmed", "absent", "duplicate", "failed", "stuck"]
    external_ref: str = ""
    duplicates: tuple[str, ...] | None = None
    """The extra records, where the upstream lists them."""
    superseded: bool = False
    """Another live effect holds the business key, so that what was seen may be that one's."""
    others: tuple[str, ...] = ()
    """Those of the extra records that CONFIRMED effects which let go of the same business key say is theirs."""
    backoff_ms: int = 0
    response_json: str = ""
    error_json: str = ""

    @property
    def extras(self) -> tuple[str, ...]:
        """The records that are too many, of a ``duplicate``: those in the list, or the one that it names."""
        return (self.external_ref,) if self.duplicates is None else self.duplicates


@dataclass(frozen=True, kw_only=True)
class Unobservable(ClaimEnd):
    """A look was due and nothing can look: no observing connector, no ``status_check``."""

    backoff_ms: int = 0
    """How long to wait before another call, where one is safe."""


@dataclass(frozen=True, kw_only=True)
class Lapsed(Event):
    """The lease of a call ran out: its worker was killed, paused or lost."""

    lease_until_ms: int = 0
    """When it ran out. Renewals are not journaled, so the journal cannot tell it otherwise."""


@dataclass(frozen=True, kw_only=True)
class Act(Event):
    """What a person or the app asked for."""

    reason: str
    seen_version: int | None = None
    """The version of the row that they looked at when they decided; ``None``: whichever it is."""
    proposed_by: str = ""
    """The first of two people, where the actor is the second one."""
    proposal: str = ""
    """The key of what the first one proposed."""


@dataclass(frozen=True, kw_only=True)
class CancelAsked(Act):
    """A person or the app asked for the effect not to happen."""

    before_call: bool = False
    """Only as long as no call is under way: what is, is followed to its outcome as if nobody had asked."""


@dataclass(frozen=True, kw_only=True)
class Expired(Event):
    """The effect's expiry passed while it was PENDING or HELD."""


@dataclass(frozen=True, kw_only=True)
class Resolved(Act):
    """A person decided, or asked for another look."""

    verdict: Literal["confirmed", "failed", "observe"]
    external_ref: str = ""


@dataclass(frozen=True, kw_only=True)
class OweAsked(Act):
    """A person or the app wants a confirmed effect undone, by itself (``owed``) or in its turn with its ``run``."""

    kind: Literal["owed", "run"] = "owed"


@dataclass(frozen=True, kw_only=True)
class ReleaseAsked(Act):
    """A person says that a HELD effect is meant, and no second one of what it looks like."""


@dataclass(frozen=True, kw_only=True)
class ReissueAsked(Act):
    """A person or the app wants an effect that ended in vain to be issued again, as a fresh one."""

    successor: str
    """The key of the fresh effect."""


@dataclass(frozen=True, kw_only=True)
class Shared(Event):
    """The effect was handed to another run too, by deduplication."""

    run_id: str


_LEFT_OUT = frozenset({"at_ms", "actor", "response_json", "error_json"})
_EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Claimed, Answered, Withheld, Observed, Unobservable, Lapsed, CancelAsked, Expired, Resolved, OweAsked,
        ReissueAsked, ReleaseAsked, Shared,
    )
}  # fmt: skip


def to_evidence(event: Event, terms: Terms | None = None) -> dict[str, Any]:
    """What the journal keeps of ``event``: all that decides, and no bodies."""
    facts = {name: value for name, value in vars(event).items() if name not in _LEFT_OUT}
    for name in ("traceparent", "others"):
        if not facts.get(name, True):
            del facts[name]
    return {"event": type(event).__name__, **facts} | ({} if terms is None else {"terms": dict(vars(terms))})


def from_evidence(evidence: dict[str, Any], *, at_ms: int, actor: str) -> tuple[Event, Terms]:
    """The event and terms that `to_evidence` wrote; raises `KeyError` for an event that this code does not know."""
    kind = _EVENTS[evidence["event"]]
    facts = {name: value for name, value in evidence.items() if name in kind.__dataclass_fields__}
    if facts.get("duplicates") is not None:
        facts["duplicates"] = tuple(facts["duplicates"])
    if "others" in facts:
        facts["others"] = tuple(facts["others"])
    terms = dict(evidence.get("terms") or {})
    if "watch_ms" in terms:
        terms["watch_ms"] = tuple(terms["watch_ms"])
    return kind(**{**facts, "at_ms": at_ms, "actor": actor}), Terms(**terms)
