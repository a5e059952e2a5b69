"""What the forms on a connector's page do: pauses, limits and breakers, for calls and for looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tape_celery import flow
from tape_celery.errors import InvalidIntent
from tape_celery.flow import Flow
from tape_celery.flower import acts
from tape_celery.flower.acts import Act, Asked, Form
from tape_celery.store import flows
from tape_celery.tape import Tape

_LIMITS = (
    Asked("at_once", "At once, over all workers (empty: any number)"),
    Asked("rate", "Rate, like 10/second or 100/minute (empty: any)"),
)
_WAITING = Asked("waiting", "How many may wait before no more are recorded (empty: any number)")
_BREAKER = (
    Asked("share", "Share in trouble that opens it, in percent (empty: no breaker)"),
    Asked("least", "Of how many at least"),
    Asked("window", "In how many seconds"),
    Asked("open", "For how many seconds it stays open before a probe goes"),
)
_LOOKS = "-looks"

CONNECTOR_ACTS = {
    "pause": Act("Pause it"),
    "resume": Act("Resume it"),
    "limit": Act("Limit it", asks=(*_LIMITS, _WAITING)),
    "breaker": Act("Set its breaker", asks=_BREAKER),
    "pause-looks": Act("Pause its looks"),
    "resume-looks": Act("Resume its looks"),
    "limit-looks": Act("Limit its looks", asks=_LIMITS),
    "breaker-looks": Act("Set the breaker of its looks", asks=_BREAKER),
}
"""On a connector."""

CONNECTOR_WORDS = {
    "pause": (
        "No worker begins a call of it, or an inverse, until it is resumed. What is under way ends, looks go on, and "
        "what waits keeps its place and its attempts."
    ),
    "resume": "When what it was paused for is over: what waits is sent with the next sweeps.",
    "limit": (
        "Calls and inverses count together. What waits uses no attempt and goes in its order. While too many wait, who "
        "asks for another effect is refused."
    ),
    "breaker": (
        "It stops calls once too many are UNKNOWN or failed, and asks the upstream about one that landed before it "
        "lets the others go. Setting it closes it."
    ),
    "pause-looks": "Nobody looks at what is UNKNOWN until they are resumed; calls go on.",
    "resume-looks": "When what they were paused for is over.",
    "limit-looks": "Looks alone; calls have a limit of their own.",
    "breaker-looks": "It stops looks once too many raised or got no answer. Setting it closes it.",
}
"""What the acts on a connector do."""


def of_connector(tape: Tape, connector: str) -> tuple[Flow, Flow]:
    """What was said of its calls, and of its looks."""
    said = {one.verb: one for one in flows.every(tape.database) if one.connector == connector}
    return said.get("call", Flow(connector=connector)), said.get("look", Flow(connector=connector, verb="look"))


def versions(both: tuple[Flow, Flow]) -> dict[str, int]:
    """For each act the version of what it changes, which whoever has the form before them has seen."""
    return {name: both[name.endswith(_LOOKS)].version for name in CONNECTOR_ACTS}


def offered(both: tuple[Flow, Flow]) -> list[str]:
    """The acts that make sense: nobody pauses what is paused."""
    needless = {f"{'pause' if one.paused else 'resume'}{suffix}" for one, suffix in _suffixes(both)}
    return [name for name in CONNECTOR_ACTS if name not in needless]


def filled_in(both: tuple[Flow, Flow]) -> dict[str, dict[str, str]]:
    """What the fields of each form show: what holds now."""
    return {
        name: shown
        for one, suffix in _suffixes(both)
        for name, shown in ((f"limit{suffix}", _limits(one)), (f"breaker{suffix}", _breaker(one)))
    }


def _suffixes(both: tuple[Flow, Flow]) -> list[tuple[Flow, str]]:
    return [(one, "" if one.verb == "call" else _LOOKS) for one in both]


def _limits(one: Flow) -> dict[str, str]:
    shown = {"at_once": str(one.at_once or ""), "rate": flow.shown_rate(one)}
    return shown | ({"waiting": str(one.most_waiting or "")} if one.verb == "call" else {})


def _breaker(one: Flow) -> dict[str, str]:
    return {
        "share": str(one.trouble_percent or ""),
        "least": str(one.least_calls or 10),
        "window": f"{(one.window_ms or 60_000) / 1000:g}",
        "open": f"{(one.open_ms or 30_000) / 1000:g}",
    }


def perform(tape: Tape, connector: str, form: Form) -> str:
    """Do what the form says to a connector; returns what it came to, in words.

    Nothing is done where somebody has said something else of its calls, or of its looks, since the form was shown
    (`StaleView`). Raises what `Tape.pause` and the others raise.
    """
    if form.act not in CONNECTOR_ACTS:
        return acts.perform(tape, connector, form)
    name, looks = form.act.removesuffix(_LOOKS), form.act.endswith(_LOOKS)
    said: dict[str, Any] = {"reason": form.reason, "actor": form.actor, "seen_version": form.seen_version}
    said |= {"looks": looks}
    what = "its looks are" if looks else "it is"
    if name == "pause":
        tape.pause(connector, **said)
        return f"Done: {what} paused."
    if name == "resume":
        return f"Done: {what} resumed, and {tape.resume(connector, **said)} that waited go on."
    given = form.given
    if name == "limit":
        numbers: dict[str, Any] = {
            each: int(_number(given, each, "0")) for each in ("at_once", "waiting") if each in given
        }
        tape.limit(connector, rate=given["rate"].strip(), **numbers, **said)
        return "Done: the limit holds from the next claim on."
    tape.breaker(
        connector,
        share=_number(given, "share", "0") / 100,
        least=int(_number(given, "least", "10")),
        window_seconds=_number(given, "window", "60"),
        open_seconds=_number(given, "open", "30"),
        **said,
    )
    return "Done: the breaker is closed, and counts." if given["share"].strip() else "Done: there is no breaker."


def _number(given: Mapping[str, str], name: str, empty: str) -> float:
    text = given[name].strip().removesuffix("%").strip() or empty
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    whole = name in ("at_once", "waiting", "least", "share")
    if not 0 <= number < 1e9 or (whole and number != int(number)):
        raise InvalidIntent(f"{name} must be a {'whole ' if whole else ''}number, not {text!r}")
    return number
