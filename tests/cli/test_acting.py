"""The commands by which a person decides on one row or one run: what they do, say and answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tape_celery import Tape
from tape_celery.cli import group
from tape_celery.connectors.base import DispatchResult
from tests.cli.steps import Scripted, stuck

WHY = ("--reason", "a customer's return", "--actor", "ann")


@pytest.fixture
def confirmed(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Brings an effect to CONFIRMED."""

    def bring(**keywords: Any) -> str:
        key = str(tape.effect.delay("scripted", {"a": 1}, business_key=f"c-{keywords}", **keywords).id)
        with monkeypatch.context() as patch:
            patch.setattr(Scripted, "answer", DispatchResult("confirmed", "BK-1"))
            tape.dispatch(key)
        return key

    return bring


def test_cancel_stops_what_was_not_sent_and_notes_it_on_what_was(tape: Tape, act: Callable[..., Result]) -> None:
    pending = tape.effect.delay("scripted", {"a": 1}, business_key="p").id
    done = act("cancel", pending, *WHY)
    assert (done.exit_code, done.output.strip()) == (0, f"{pending} is CANCELLED")
    assert [entry.actor for entry in tape.journal(pending)][-1] == "human:ann"
    sent = tape.effect.delay("scripted", {"a": 1}, business_key="s").id
    tape.dispatch(sent)
    noted = act("cancel", sent, *WHY)
    assert (noted.exit_code, noted.output.strip()) == (0, f"{sent} is UNKNOWN; its cancel is noted")
    again = act("cancel", pending, *WHY)
    assert (again.exit_code, "is CANCELLED: cancel is not allowed" in again.output) == (group.REFUSED, True)
    assert act("cancel", pending).exit_code == group.MISUSED


def test_owe_registers_one_obligation(tape: Tape, act: Callable[..., Result], confirmed: Callable[..., str]) -> None:
    key = confirmed()
    done = act("owe", key, *WHY)
    [owed] = tape.obligations(effect_key=key)
    assert (done.exit_code, done.output.strip()) == (0, f"obligation {owed.obligation_key} to undo {key} is PENDING")
    again = act("owe", key, *WHY)
    assert (again.exit_code, owed.obligation_key in again.output) == (group.REFUSED, True)
    other = confirmed(idempotency_key="other")
    assert json.loads(act("owe", other, *WHY, "--json").output)["external_ref"] == "BK-1"


def test_observe_asks_for_another_look(tape: Tape, act: Callable[..., Result]) -> None:
    key = stuck(tape)
    done = act("observe", key, *WHY)
    assert (done.exit_code, done.output.strip()) == (0, f"{key} is UNKNOWN")
    assert json.loads(act("observe", key, *WHY, "--json").output)["looks"] == 0


def test_an_obligation_is_resolved_by_its_key(
    tape: Tape, act: Callable[..., Result], confirmed: Callable[..., str]
) -> None:
    owed = tape.owe(confirmed(), reason="r", actor="ann").obligation_key
    refused = act("resolve", owed, "--as", "confirmed", *WHY)
    assert (refused.exit_code, "is PENDING" in refused.output) == (group.REFUSED, True)


def test_run_says_what_a_run_waits_for(
    tape: Tape, run: Callable[..., Result], act: Callable[..., Result], confirmed: Callable[..., str]
) -> None:
    """Open, then on its way, then over; and one that is STUCK ends with 2."""
    assert run("run", "nothing").exit_code == group.REFUSED
    landed = confirmed(run_id="order")
    lost = tape.effect.delay("scripted", {"a": 2}, business_key="l", run_id="order").id
    tape.dispatch(lost)
    opened = run("run", "order")
    assert (opened.exit_code, "run order is OPEN" in opened.output) == (0, True)
    assert "2 effects: 1 CONFIRMED, 1 UNKNOWN" in opened.output
    assert "UNKNOWN" in act("cancel-run", "order", *WHY).output
    waiting = run("run", "order")
    assert f"It waits for the outcome of what is under way: 1 effect ({lost})" in waiting.output
    assert "closed by human:ann" in waiting.output
    assert run("compensate-run", "order", *WHY, "--seen-version", "0").exit_code == group.REFUSED
    assert act("compensate-run", "order", *WHY).exit_code == 0
    Scripted.can_observe = False
    tape.observe(lost)
    Scripted.can_observe = True
    stopped = run("run", "order")
    assert (stopped.exit_code, f"effect {lost} is STUCK" in stopped.output) == (2, True)
    tape.resolve(lost, "failed", reason="not there", actor="ann")
    [owed] = tape.obligations(effect_key=landed)
    told = json.loads(run("run", "order", "--json").output)
    assert told["waits_for"] == f"It waits for 1 obligation ({owed.obligation_key}) to be done."
    tape.compensate(owed.obligation_key)
    over = run("run", "order")
    assert (over.exit_code, "It is over, since" in over.output) == (0, True)


def test_a_command_line_that_cannot_be_read_has_a_code_of_its_own(run: Callable[..., Result]) -> None:
    """Not click's 2, which says here that something is STUCK."""
    for wrong in (
        ("nonsense",),
        ("list", "--status", "NONE"),
        ("show",),
        ("resolve", "k", "--as", "x"),
        ("list", "-x"),
    ):
        assert run(*wrong).exit_code == group.MISUSED, wrong
    for name in group.tape.commands:
        asked = run(name, "--help")
        assert asked.exit_code == 0
        assert "Usage:" in asked.output


def test_every_command_is_described() -> None:
    """Its purpose and each of its options."""
    for name, command in group.tape.commands.items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, group.click.Option):
                assert parameter.help, (name, parameter.name)


def test_a_reason_that_says_little_is_refused(
    tape: Tape, run: Callable[..., Result], act: Callable[..., Result]
) -> None:
    """Whoever acts by the command line is a person, by whatever name; the row is as it was."""
    key = tape.effect.delay("scripted", {"a": 1}, business_key="little").id
    for command in (("cancel", key), ("pause", "scripted"), ("cancel", "--connector", "scripted")):
        shown = run(*command, "--reason", "just so", "--actor", "ann")
        assert shown.exit_code == group.REFUSED, command
        assert "reason must be 10 characters or more, not 'just so'" in shown.output
    assert tape.get(key).status == "PENDING"
    assert tape.pauses() == []
    assert act("cancel", key, "--reason", "just so it", "--actor", "ann").exit_code == 0
