"""What the forms of a page do: acts of people, by their names in `tape_celery.explanation`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from tape_celery.errors import NeedsSecondPerson, NotAllowed
from tape_celery.handle import EffectHandle
from tape_celery.records import Effect, Obligation, Proposal
from tape_celery.runs import EffectRun
from tape_celery.tape import Tape


@dataclass(frozen=True)
class Asked:
    """A field of a form: its name, and what the page calls it."""

    name: str
    label: str


@dataclass(frozen=True)
class Act:
    """One act: what the page calls it, and what it takes."""

    label: str
    takes_ref: bool = False
    """It takes the reference that the upstream knows the record by."""
    asks: tuple[Asked, ...] = ()
    """What else it takes."""


ACTS = {
    "resolve-confirmed": Act("It landed", takes_ref=True),
    "resolve-failed": Act("It did not land"),
    "observe": Act("Look again"),
    "release": Act("Release it"),
    "reissue": Act("Issue it again"),
    "cancel": Act("Cancel it"),
    "owe": Act("Compensate it"),
}
"""On an effect or an obligation."""

RUN_ACTS = {
    "compensate-run": Act("Compensate the run"),
    "cancel-run": Act("Cancel the run"),
}
"""On a run."""

RUN_WORDS = {
    "compensate-run": "Nothing more of it is sent, and what was confirmed is undone, newest first. That is final.",
    "cancel-run": "Nothing more of it is sent; what is under way may land, and what was confirmed stays.",
}
"""What the acts on a run do."""

DECISIONS = ("confirm", "withdraw")
"""On an act that somebody else proposed."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What somebody filled in."""

    act: str
    reason: str
    actor: str
    seen_version: int
    """The version of the row that they had before them."""
    external_ref: str = ""
    proposal: str = ""
    """The key of what they confirm or withdraw."""
    within: Collection[str] | None = None
    """The connectors that they may act on, with ``*`` for any part of a name; ``None``: all of them."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What they gave for what the act asks, by name."""


def perform(tape: Tape, key: str, form: Form) -> str:
    """Do what the form says to an effect, an obligation or a run; returns what it came to, in words.

    What one person may not do alone is proposed instead. Raises what the acts of `Tape` raise.
    """
    if form.act in DECISIONS:
        return _decide(tape, key, form)
    said: dict[str, Any] = {"reason": form.reason, "actor": form.actor, "seen_version": form.seen_version}
    name, arguments = _CALLS[form.act]
    if form.external_ref and ACTS.get(form.act, PLAIN).takes_ref:
        arguments = arguments | {"external_ref": form.external_ref}
    # An effect is of one connector for ever, which the page has looked at; a run may have got others since.
    scope = {"within": form.within} if form.act in RUN_ACTS else {}
    try:
        return _done(getattr(tape, name)(key, **arguments, **said, **scope))
    except NeedsSecondPerson as needed:
        tape.propose(name, key, **arguments, **said)
        return f"Proposed, for {needed.why}: somebody else has to confirm it, on this page."


PLAIN = Act("")
_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "resolve-confirmed": ("resolve", {"verdict": "confirmed"}),
    "resolve-failed": ("resolve", {"verdict": "failed"}),
    "observe": ("resolve", {"verdict": "observe"}),
    "release": ("release", {}),
    "reissue": ("reissue", {}),
    "cancel": ("cancel", {}),
    "owe": ("owe", {}),
    "compensate-run": ("compensate_run", {}),
    "cancel-run": ("cancel_run", {}),
}
"""The method of `Tape` behind each act, and what it is given."""


def label(proposal: Proposal) -> str:
    """What a proposed act is called on the page."""
    verdict = {"verdict": proposal.arguments["verdict"]} if "verdict" in proposal.arguments else {}
    names = [name for name, call in _CALLS.items() if call == (proposal.act, verdict)]
    return (ACTS | RUN_ACTS)[names[0]].label if names else proposal.act


def _decide(tape: Tape, key: str, form: Form) -> str:
    if form.proposal not in {proposal.proposal_key for proposal in tape.proposals(key)}:
        raise NotAllowed(key, "as it is", f"to {form.act} that", "no such proposal is open")
    if form.act == "withdraw":
        tape.withdraw(form.proposal, actor=form.actor)
        return "Done: it is not proposed any more."
    return _done(tape.confirm(form.proposal, actor=form.actor, within=form.within))


def _done(after: Effect | Obligation | EffectHandle | EffectRun) -> str:
    if isinstance(after, EffectHandle):
        return f"Done: it was issued again as {after.id}."
    if isinstance(after, Obligation) and after.version == 1:
        return f"Done: its undoing is owed, as obligation {after.obligation_key}."
    return f"Done: it is {after.status} now."
