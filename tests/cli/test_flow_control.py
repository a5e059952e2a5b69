"""The commands that pause, limit and break; and what status says of them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from tape_celery import Tape

WHO = ("--reason", "what they allow", "--actor", "ann")


def test_limits_and_breakers_are_set_shown_and_taken_away(tape: Tape, run: Callable[..., Result]) -> None:
    """A second command leaves what it does not name; status tells calls and looks apart."""
    for number in range(2):
        tape.effect.delay("scripted", {"a": number}, business_key=f"p-{number}")
    assert run("limit", "scripted", "--at-once", "5", *WHO).exit_code == 0
    told = run("limit", "scripted", "--rate", "100/m", *WHO).output
    assert "scripted: 5 at once (0 in use), 100/minute; 2 wait" in told
    shown = json.loads(run("breaker", "scripted", "--share", "25%", "--open", "5", "--looks", "--json", *WHO).output)
    assert (shown["verb"], shown["trouble_percent"], shown["least_calls"], shown["open_ms"]) == ("look", 25, 10, 5000)
    status = run("status").output
    assert "5 at once (0 in use), 100/minute; 2 wait (by human:ann at" in status
    assert "breaker of looks of scripted: closed since" in status
    found = json.loads(run("status", "--json").output)
    assert found["paused"] == []
    assert [(one["verb"], one["at_once"], one["rate"], one["waiting"]) for one in found["flows"]] == [
        ("call", 5, "100/minute", 2),
        ("look", 0, "", 0),
    ]
    tape.limit("scripted", rate="1/hour", reason="slow", actor="ann")
    tape.dispatch(*(effect.effect_key for effect in tape.effects()))
    waits = next(effect.effect_key for effect in tape.effects(status="PENDING"))
    assert "no more than 1/hour may go" in run("show", waits).output
    assert "scripted: neither limit nor breaker" in run("limit", "scripted", "--off", *WHO).output
    assert run("breaker", "scripted", "--off", "--looks", *WHO).exit_code == 0
    assert json.loads(run("status", "--json").output)["flows"] == []


def test_a_pause_of_looks_is_none_of_calls(tape: Tape, run: Callable[..., Result]) -> None:
    assert run("pause", "scripted", "--looks", *WHO).exit_code == 0
    assert [(one.connector, one.looks) for one in tape.pauses()] == [("scripted", True)]
    assert "looks of scripted are paused; 0 wait" in run("status").output
    assert run("resume", "scripted", *WHO).exit_code == 0
    assert len(tape.pauses()) == 1
    assert run("resume", "scripted", "--looks", *WHO).exit_code == 0
    assert tape.pauses() == []


def test_a_queue_that_is_full_is_told(tape: Tape, run: Callable[..., Result]) -> None:
    """What may wait, what does, and that no more is recorded; each thing with who said it."""
    tape.effect.delay("scripted", {}, business_key="p-1")
    assert "scripted: 1 of at most 2 waiting; 1 waits" in run("limit", "scripted", "--waiting", "2", *WHO).output
    tape.pause("scripted", reason="maintenance", actor="bob")
    told = run("limit", "scripted", "--waiting", "1", *WHO).output
    assert "1 of at most 1 waiting, so no more are recorded; 1 waits (by human:ann at" in told
    assert "scripted is paused; 1 waits (by bob at" in told
    [found] = json.loads(run("status", "--json").output)["flows"]
    assert (found["most_waiting"], found["queued"], found["waiting"]) == (1, 1, 1)
    assert (found["said"]["pause"]["actor"], found["said"]["limit"]["reason"]) == ("bob", "what they allow")
    assert run("limit", "scripted", "--off", *WHO).exit_code == 0
    assert [one.most_waiting for one in tape.flows()] == [0]


def test_what_was_decided_on_another_version_is_refused(tape: Tape, run: Callable[..., Result]) -> None:
    """Status tells the version; nothing is said where it has moved."""
    assert run("limit", "scripted", "--at-once", "5", "--seen-version", "0", *WHO).exit_code == 0
    [found] = json.loads(run("status", "--json").output)["flows"]
    assert found["version"] == 1
    for words in (("limit", "--off"), ("breaker",), ("pause",), ("resume",)):
        refused = run(words[0], "scripted", *words[1:], "--seen-version", "0", *WHO)
        assert (refused.exit_code, "changed by human:ann" in refused.output) == (65, True)
    assert [(one.at_once, one.version) for one in tape.flows()] == [(5, 1)]


@pytest.mark.parametrize(
    "words",
    [
        ("limit", "scripted"),
        ("limit", "scripted", "--off", "--at-once", "5"),
        ("limit", "scripted", "--rate", "fast"),
        ("limit", "scripted", "--at-once", "-1"),
        ("limit", "scripted", "--waiting", "5", "--looks"),
        ("breaker", "scripted", "--share", "150%"),
        ("breaker", "scripted", "--share", "half"),
        ("breaker", "scripted", "--off", "--share", "0.5"),
    ],
)
def test_what_cannot_be_meant_is_misuse(tape: Tape, run: Callable[..., Result], words: tuple[str, ...]) -> None:
    assert run(*words, *WHO).exit_code == 64
    assert tape.flows() == []
