"""The words of a script: what becomes of one call at the upstream, and what its caller is told.

step                 lands   what the caller gets
confirm              once    confirmed
fail                 no      failed, for good or with a time to try again
fail_then_confirm            so many times `fail`, then `confirm`
lose_ack             once    an exception, or ``unknown``
duplicate            twice   an exception, or ``unknown``
lost_before          no      an exception, or ``unknown``: it cannot tell this from `lose_ack`
not_sent             no      ``unknown`` with the proof that nothing was sent
hang                 once    nothing for so long, then an exception
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tape_celery.errors import ScriptError

LONGEST_HANG_SECONDS = 60.0

Told = Literal["confirmed", "failed", "unknown", "raises"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one call comes to. Made by the functions of this module."""

    name: str
    lands: int = 0
    """How many records the call leaves at the upstream."""
    told: Told = "confirmed"
    ref: str = ""
    """The reference of the first record; ``""``: the connector numbers them."""
    response: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    retry_in: float | None = None
    """Seconds until the next attempt that a ``failed`` asks for; ``None``: for good."""
    hidden_for: float = 0.0
    """Seconds for which looks do not see what landed."""
    hang: float = 0.0
    """Seconds of silence before the caller is told anything."""


def confirm(ref: str = "", response: Mapping[str, Any] | None = None) -> Step:
    """It lands, and the answer says so; ``response`` is what `handle.get()` returns."""
    return Step(name="confirm", lands=1, ref=ref, response=response or {})


def fail(reason: str = "refused", *, retry_in: float | None = None) -> Step:
    """It definitely does not land. ``retry_in``: seconds after which it is to be tried again; ``None``: never."""
    _seconds("retry_in", 0.0 if retry_in is None else retry_in)
    return Step(name="fail", told="failed", error={"reason": reason}, retry_in=retry_in)


def fail_then_confirm(times: int = 1, *, retry_in: float = 1.0, reason: str = "busy") -> list[Step]:
    """``times`` a `fail` that asks for another attempt, then a `confirm`."""
    if not isinstance(times, int) or times < 1:
        raise ScriptError(f"times must be 1 or more, not {times!r}")
    return [*[fail(reason, retry_in=retry_in)] * times, confirm()]


def lose_ack(*, ref: str = "", hidden_for: float = 0.0, raises: bool = True) -> Step:
    """It lands and the answer is lost. ``hidden_for``: seconds for which looks say ``absent`` all the same."""
    _seconds("hidden_for", hidden_for)
    return Step(name="lose_ack", lands=1, told=_lost(raises), ref=ref, hidden_for=hidden_for)


def lost_before(*, raises: bool = True) -> Step:
    """It is lost on its way and never lands; the caller cannot tell that from a lost answer."""
    return Step(name="lost_before", told=_lost(raises))


def duplicate(*, raises: bool = True) -> Step:
    """The upstream books it twice and the answer is lost."""
    return Step(name="duplicate", lands=2, told=_lost(raises))


def not_sent() -> Step:
    """Provably nothing was sent: it is tried again and uses no attempt."""
    return Step(name="not_sent", told="unknown", error={"sent": False, "reason": "connection refused"})


def hang(seconds: float, *, lands: bool = True) -> Step:
    """It lands (or not), nothing is heard for ``seconds`` of real time, 60 at most, then the caller's call raises."""
    _seconds("seconds", seconds)
    if seconds > LONGEST_HANG_SECONDS:
        raise ScriptError(f"a script may hang for {LONGEST_HANG_SECONDS:g} seconds at most, not {seconds!r}")
    return Step(name="hang", lands=int(lands), told="raises", hang=seconds)


Scripted = str | Step | list[Step]
"""A step, some steps, or the name of one that needs no arguments."""

_NAMED = {
    "confirm": confirm,
    "fail": fail,
    "fail_then_confirm": fail_then_confirm,
    "lose_ack": lose_ack,
    "lost_before": lost_before,
    "duplicate": duplicate,
    "not_sent": not_sent,
}


def flat(script: tuple[Scripted, ...]) -> list[Step]:
    """``script`` as steps; raises `ScriptError`, which lists the names, for what is none."""
    steps: list[Step] = []
    for item in script:
        if isinstance(item, str) and item in _NAMED:
            made: Step | list[Step] = _NAMED[item]()  # type: ignore[operator]  # none of these needs an argument
        elif isinstance(item, Step) or (isinstance(item, list) and all(isinstance(step, Step) for step in item)):
            made = item
        else:
            raise ScriptError(f"a step is one of {', '.join(sorted(_NAMED))}, or what those return, not {item!r}")
        steps += made if isinstance(made, list) else [made]
    return steps


def _lost(raises: bool) -> Told:
    return "raises" if raises else "unknown"


def _seconds(what: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ScriptError(f"{what} must be 0 or more seconds, not {value!r}")
