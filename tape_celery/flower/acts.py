"""What the forms of a page do: acts of people, by their names in `tape_celery.explanation`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tape_celery.tape import Tape


@dataclass(frozen=True)
class Act:
    """One act: what the page calls it, and what it takes."""

    label: str
    takes_ref: bool = False
    """It takes the reference that the upstream knows the record by."""


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


@dataclass(frozen=True, kw_only=True)
class Form:
    """What somebody filled in."""

    act: str
    reason: str
    actor: str
    seen_version: int
    """The version of the row that they had before them."""
    external_ref: str = ""


def perform(tape: Tape, key: str, form: Form) -> str:
    """Do what the form says to an effect, an obligation or a run; returns what it came to, in words.

    Raises what the acts of `Tape` raise.
    """
    said: dict[str, Any] = {"reason": form.reason, "actor": form.actor}
    acts: dict[str, Callable[[], Any]] = {
        "resolve-confirmed": partial(tape.resolve, key, "confirmed", external_ref=form.external_ref, **said),
        "resolve-failed": partial(tape.resolve, key, "failed", **said),
        "observe": partial(tape.resolve, key, "observe", **said),
        "release": partial(tape.release, key, **said),
        "reissue": partial(tape.reissue, key, **said),
        "cancel": partial(tape.cancel, key, **said),
        "owe": partial(tape.owe, key, **said),
        "compensate-run": partial(tape.compensate_run, key, **said),
        "cancel-run": partial(tape.cancel_run, key, **said),
    }
    after = acts[form.act]()
    if form.act == "reissue":
        return f"Done: it was issued again as {after.id}."
    if form.act == "owe":
        return f"Done: its undoing is owed, as obligation {after.obligation_key}."
    return f"Done: it is {after.status} now."
