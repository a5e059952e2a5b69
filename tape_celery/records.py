"""The frozen values that the store hands out: effects, obligations, journal entries, and their words.

All instants are epoch milliseconds on the database's clock and end in ``_ms``; ``None`` means "not set".
Texts use ``""`` for "not given".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from tape_celery.errors import UnknownEncryptionKey

T = TypeVar("T")


def made_of(record: type[T], values: dict[str, Any]) -> T:
    """A record of just these values, one for each field, for one that neither checks nor derives anything.

    Called as a class with fifty names it would take ten times as long.
    """
    made = object.__new__(record)
    object.__setattr__(made, "__dict__", values)
    return made


if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(record: T, /, **changes: Any) -> T:
        """`dataclasses.replace` for frozen values that neither check nor derive anything when they are made.

        Of fifty fields it calls each by its name; copied as they are, they take a tenth of the time.
        """
        values = vars(record) | changes
        if len(values) > len(vars(record)):
            raise TypeError(f"{type(record).__name__} has no {', '.join(sorted(changes.keys() - vars(record).keys()))}")
        return made_of(type(record), values)


class EffectStatus(StrEnum):
    """The states of an effect; `tape_celery.state` draws the ways between them."""

    PENDING = "PENDING"
    DISPATCHING = "DISPATCHING"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    STUCK = "STUCK"
    CANCELLED = "CANCELLED"
    HELD = "HELD"
    """Parked before anything was sent: it looks like another effect, and a person says whether it is meant."""

    @property
    def settled(self) -> bool:
        """CONFIRMED, FAILED and CANCELLED: over, but for late evidence."""
        return self in (EffectStatus.CONFIRMED, EffectStatus.FAILED, EffectStatus.CANCELLED)


class ObligationStatus(StrEnum):
    """The states of an obligation; `tape_celery.obligation_state` draws the ways between them."""

    PENDING = "PENDING"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    UNKNOWN = "UNKNOWN"
    STUCK = "STUCK"


class RunStatus(StrEnum):
    """The states of a run; `tape_celery.run_state` draws the ways between them."""

    OPEN = "OPEN"
    CANCELLING = "CANCELLING"
    COMPENSATING = "COMPENSATING"
    CANCELLED = "CANCELLED"
    COMPENSATED = "COMPENSATED"
    STUCK = "STUCK"

    @property
    def cancels(self) -> bool:
        """What was confirmed stays."""
        return self in (RunStatus.CANCELLING, RunStatus.CANCELLED)


class Semantics(StrEnum):
    """What a second call does at the upstream."""

    NON_IDEMPOTENT = "non_idempotent"
    """It may land twice."""
    IDEMPOTENT = "idempotent"
    """The upstream deduplicates on our key, within the connector's window."""
    OBSERVE_ONLY = "observe_only"
    """It changes nothing and may be repeated at will."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One intended call to the outside world, as its row stands."""

    effect_key: str
    connector: str
    effect_name: str = ""
    """The registered name of a decorated effect."""
    semantics: Semantics = Semantics.NON_IDEMPOTENT
    status: EffectStatus = EffectStatus.PENDING
    reason: str = ""
    """Why the effect is in this state, in words, where the state does not say it."""
    idempotency_key: str
    business_key: str = ""
    holds_business_key: bool = False
    run_id: str
    request_json: str
    """The exact text that is sent."""
    request_digest: str
    response_json: str = ""
    error_json: str = ""
    external_ref: str = ""
    attempt: int = 0
    """Dispatch attempts used."""
    max_attempts: int = 5
    unsent: int = 0
    """How often in a row a claim was handed back without anything being sent."""
    looks: int = 0
    """Observations since the effect became UNKNOWN that brought no answer."""
    watches: int = 0
    """Looks taken at an absence that was believed."""
    token: int = 0
    """The fencing token, raised by every claim."""
    dispatch_token: int = 0
    """The token of the last dispatch claim."""
    claim_nonce: str = ""
    claimed_at_ms: int | None = None
    lease_until_ms: int | None = None
    may_have_landed: bool = False
    might_before: bool = False
    """`may_have_landed` as it was when the last dispatch was claimed."""
    landed: bool = False
    """Late evidence said `confirmed` while a newer claim was at work."""
    landed_ref: str = ""
    cancel_requested: bool = False
    absent: bool = False
    """The upstream did not have it, and was believed: if it ends FAILED or CANCELLED, it is watched."""
    due_at_ms: int | None = None
    """When the next dispatch or look may be claimed."""
    sweep_at_ms: int | None = None
    """When a sweep has to act on the row: publish its hint again, or end its lease."""
    expires_at_ms: int | None = None
    settled_at_ms: int | None = None
    """From when on an `absent` is believed."""
    first_sent_at_ms: int | None = None
    """The first moment at which anything can have been sent."""
    ended_at_ms: int | None = None
    """When the effect first was CONFIRMED, FAILED or CANCELLED: it is never dispatched after that."""
    created_at_ms: int = 0
    updated_at_ms: int = 0
    version: int = 1
    """The number of the row's last journal entry."""
    priority: int = 0
    """0 to 9; what is more urgent is hinted and swept first."""
    ordering_key: str = ""
    """Effects with the same one are dispatched one at a time, in the order in which they were recorded."""
    order_number: int = 0
    """The place among the effects of its ordering key, from 1."""
    reissue_of: str = ""
    """The effect that this one was issued again for."""
    reissued_as: str = ""
    """The effect that was issued again for this one."""
    similar_digest: str = ""
    """What near-duplicates of its connector are found by: the digest of the fields that were chosen for that."""
    shared: bool = False
    """It was handed to another run too, by deduplication: neither run's compensation may reverse it by itself."""
    traceparent: str = ""
    """The span in which it was asked for, as W3C's ``traceparent``; empty where nobody traced that."""
    dispatch_traceparent: str = ""
    """The span of the last call that ended with a result, in time or late."""

    @property
    def request(self) -> dict[str, Any]:
        """The request, decoded anew at each call; empty where only a tombstone is left."""
        return decoded(self, "request_json")

    @property
    def response(self) -> dict[str, Any]:
        """What the upstream answered; empty where it did not."""
        return decoded(self, "response_json")

    @property
    def error(self) -> dict[str, Any]:
        """What went wrong at the last attempt; empty where nothing did."""
        return decoded(self, "error_json")


@dataclass(frozen=True, kw_only=True)
class Obligation:
    """A compensation that is owed: the inverse of one record at the upstream."""

    obligation_key: str
    effect_key: str
    run_id: str
    connector: str
    effect_name: str = ""
    kind: str
    """Why it is owed: ``duplicate``, ``late``, ``cancelled``, ``owed`` or ``run``."""
    external_ref: str
    payload_json: str
    status: ObligationStatus = ObligationStatus.PENDING
    reason: str = ""
    idempotency_key: str
    response_json: str = ""
    error_json: str = ""
    attempt: int = 0
    max_attempts: int = 5
    unsent: int = 0
    looks: int = 0
    token: int = 0
    dispatch_token: int = 0
    claim_nonce: str = ""
    claimed_at_ms: int | None = None
    lease_until_ms: int | None = None
    may_have_landed: bool = False
    """An attempt may have been done whose answer was lost, and no look has said since that it was not."""
    might_before: bool = False
    """`may_have_landed` as it was when the last call was claimed."""
    landed: bool = False
    """Late evidence said `compensated` while a newer claim was at work."""
    due_at_ms: int | None = None
    sweep_at_ms: int | None = None
    settled_at_ms: int | None = None
    first_sent_at_ms: int | None = None
    created_at_ms: int = 0
    updated_at_ms: int = 0
    version: int = 1
    traceparent: str = ""
    """The effect's: the span in which that was asked for."""
    dispatch_traceparent: str = ""
    """The span of the last inverse that ended with a result; before one did, that of the effect's last call."""

    @property
    def payload(self) -> dict[str, Any]:
        """What `compensate` sends, decoded anew at each call."""
        return decoded(self, "payload_json")

    @property
    def response(self) -> dict[str, Any]:
        """What the upstream answered to the inverse; empty where it did not."""
        return decoded(self, "response_json")

    @property
    def error(self) -> dict[str, Any]:
        """What went wrong at the last attempt; empty where nothing did."""
        return decoded(self, "error_json")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A group of effects that is ended together, as its row stands. One that has no row is open."""

    run_id: str
    status: RunStatus = RunStatus.OPEN
    reason: str = ""
    """What a STUCK run waits for."""
    closing_reason: str = ""
    """Why it was closed."""
    actor: str = ""
    """Who closed it."""
    sweep_at_ms: int | None = None
    created_at_ms: int = 0
    """When it was closed."""
    updated_at_ms: int = 0
    version: int = 0


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One transition or one piece of evidence; entries are only ever added."""

    key: str
    """The effect or obligation that the entry is about."""
    effect_key: str
    seq: int
    at_ms: int
    kind: str
    from_status: str
    status: str
    token: int
    actor: str
    evidence: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    """Over the entry and the digest of the one before it; empty where it was written before there were any."""


class ProposalStatus(StrEnum):
    """What became of a proposal."""

    OPEN = "OPEN"
    CONFIRMED = "CONFIRMED"
    WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An act on an effect, an obligation or a run that one person asked for, and a second one has to confirm."""

    proposal_key: str
    subject_key: str
    """The key of the effect or obligation, or the run's id."""
    act: str
    """``resolve``, ``release``, ``reissue``, ``owe`` or ``compensate_run``."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of a ``resolve``: ``verdict`` and ``external_ref``."""
    reason: str
    actor: str
    """Who proposed it."""
    seen_version: int
    """The version of the row at which it was proposed."""
    status: ProposalStatus = ProposalStatus.OPEN
    decided_by: str = ""
    """Who confirmed or withdrew it."""
    decided_at_ms: int | None = None
    created_at_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A row that breaks one of the safety invariants."""

    invariant: str
    key: str
    detail: str


WORKER_SAYS_SECONDS = 30.0
"""How often a worker says that it is there."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What one worker said of itself last."""

    name: str
    """Its node name, as Celery has it."""
    version: str
    """Of tape_celery, there."""
    connectors: tuple[str, ...] = ()
    """Those that it knows."""
    queues: tuple[str, ...] = ()
    """Those that it consumes."""
    clock_ahead_ms: int = 0
    """How far its wall clock was ahead of the database's; behind, where it is negative."""
    started_at_ms: int = 0
    seen_at_ms: int = 0
    key_ids: tuple[str, ...] = ()
    """Of the encryption keys that it holds."""

    def alive(self, now_ms: int) -> bool:
        """Whether it was seen within the last three times that it should have said something."""
        return now_ms - self.seen_at_ms <= 3 * WORKER_SAYS_SECONDS * 1000


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A connector that people have paused."""

    connector: str
    reason: str
    actor: str
    since_ms: int
    """When it was paused, or said anew why."""
    version: int
    looks: bool = False
    """Its looks, and not its calls."""


SEALED = "enc1:"
"""What a text begins with that is encrypted; the id of its key follows, and a colon. No JSON begins so."""


def is_sealed(text: str) -> bool:
    """Whether ``text`` is an encrypted body, as it is stored."""
    return text.startswith(SEALED)


def plain(record: Effect | Obligation, column: str) -> str:
    """The text of a body; raises `UnknownEncryptionKey` where it could not be decrypted as the row was read."""
    text: str = getattr(record, column)
    if is_sealed(text):
        key = record.obligation_key if isinstance(record, Obligation) else record.effect_key
        raise UnknownEncryptionKey(key, column, text.removeprefix(SEALED).partition(":")[0])
    return text


def decoded(record: Effect | Obligation, column: str) -> dict[str, Any]:
    """A body, decoded; empty where there is none. Raises `UnknownEncryptionKey`."""
    text = plain(record, column)
    return json.loads(text) if text else {}


def shown(record: Effect | Obligation, column: str) -> dict[str, Any]:
    """`decoded` for who looks: what cannot be decrypted says so in its place."""
    try:
        return decoded(record, column)
    except UnknownEncryptionKey as error:
        return {"encrypted": str(error)}
