"""What an explanation is made from, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tape_celery.explanation import controls
from tape_celery.explanation.controls import Standing
from tape_celery.policy import Terms
from tape_celery.records import (
    Effect,
    EffectStatus,
    JournalEntry,
    Obligation,
    ObligationStatus,
    Proposal,
    Run,
)


@dataclass(frozen=True, kw_only=True)
class Upcoming:
    """One thing that will happen by itself, or that what happens next waits for."""

    what: str
    at_ms: int | None = None
    """When, on the database's clock, and now where that is past; ``None`` where it depends on something else."""


@dataclass(frozen=True, kw_only=True)
class SafeAct:
    """One act of a person that the row's state allows now."""

    name: str
    """``resolve-confirmed``, ``resolve-failed``, ``observe``, ``release``, ``reissue``, ``cancel`` or ``owe``."""
    safe: bool
    """True: it needs no check; whatever the upstream knows, it makes nothing happen twice and hides nothing that did.
    False: it is right only when what `when` says was found to be so."""
    when: str
    """When it is right, what to check first, and what it does."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One effect or obligation in plain words: what happened, why it is as it is, what comes next, what is safe."""

    key: str
    kind: str
    """``effect``, ``obligation``, or ``pruned`` for what is left of an effect."""
    status: EffectStatus | ObligationStatus
    headline: str
    """One sentence."""
    happened: tuple[str, ...]
    """Sentences, oldest first."""
    why: str
    """Why it is in this state."""
    next: tuple[Upcoming, ...]
    """What will happen by itself, soonest first; what has no time comes last."""
    acts: tuple[SafeAct, ...]
    """Those that the state allows, and no others."""
    version: int
    """The row's version that this speaks of; acts that are given it are refused when the row has moved since."""
    at_ms: int
    """When this was true, on the database's clock."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """What is known around a row when it is explained."""

    now_ms: int
    terms: Terms
    run: Run
    journal: Sequence[JournalEntry] = ()
    """The row's own, oldest first."""
    obligations: Sequence[Obligation] = ()
    """Of the effect."""
    effect: Effect | None = None
    """Whose record an obligation undoes."""
    known_here: bool = True
    """Whether this process knows the connector, and the effect's own name where it has one."""
    can_look: bool | None = True
    """Whether anything can ask the upstream; ``None`` where this process cannot tell."""
    has_inverse: bool | None = True
    """Whether anything can undo it; ``None`` where this process cannot tell."""
    turn_of: Effect | None = None
    """The effect of the same ordering key that comes first, and is not settled."""
    successor: Effect | None = None
    """What it was issued again as."""
    similar: Effect | None = None
    """What a HELD effect looks like."""
    key_holder: str = ""
    """Another effect that has the business key which this one let go."""
    known_by: Sequence[str] = ()
    """The workers that are alive and know the connector."""
    swept_at_ms: int | None = None
    """When a sweep began last; ``None``: never."""
    sweeps_late: bool = False
    """That is longer ago than it should be."""
    standings: Sequence[Standing] = ()
    """Where what holds the connector stands, of calls and of looks."""
    second_person: str = ""
    """Why one person may not act on it alone; ``""`` where one may."""
    proposals: Sequence[Proposal] = ()
    """The open ones about the row."""

    def holding(self, row: Effect | Obligation) -> Standing | None:
        """What may hold the next call of ``row``, or the next look where it is not to be called."""
        return controls.of(row, self.standings)
