"""Acts that take two people, as they type them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from tape_celery import Tape
from tape_celery.cli import group
from tape_celery.records import EffectStatus, RunStatus
from tests.cli.steps import stuck

Run = Callable[..., Result]
WHY = ("--reason", "seen at the bank", "--actor", "alice")


@pytest.fixture(autouse=True)
def two_people(tape: Tape) -> None:
    tape._given["second_person_above"] = "scripted:amount=0"


def test_what_nobody_may_do_alone_is_proposed_and_a_second_person_confirms(tape: Tape, run: Run, act: Run) -> None:
    """It says that it was not done, under which key it waits, and how it goes on."""
    key = stuck(tape)
    asked = act("resolve", key, "--as", "failed", *WHY)
    [proposal] = tape.proposals(key)
    assert asked.exit_code == group.PROPOSED == 66
    assert f"proposed as {proposal.proposal_key}; a second person confirms with: confirm" in asked.output
    assert "its amount is above 0" in asked.output
    assert tape.handle(key).status is EffectStatus.STUCK
    listed = run("proposals")
    assert (listed.exit_code, "resolve as failed" in listed.output, "alice" in listed.output) == (0, True, True)
    told = json.loads(run("proposals", key, "--json").output)
    assert [(one["proposal_key"], one["arguments"]["verdict"]) for one in told] == [(proposal.proposal_key, "failed")]

    same = run("confirm", proposal.proposal_key, "--actor", "Alice")
    assert (same.exit_code, "somebody else has to confirm it" in same.output) == (group.REFUSED, True)
    done = run("confirm", proposal.proposal_key, "--actor", "bob")
    assert (done.exit_code, done.output.strip()) == (0, f"{key} is FAILED")
    assert tape.journal(key)[-1].evidence["proposed_by"] == "human:alice"
    assert run("proposals").output.strip() == "nothing waits for a second person"

    again = act("reissue", key, *WHY, "--json")
    proposed = json.loads(again.output)
    assert (again.exit_code, proposed["act"], proposed["status"]) == (66, "reissue", "OPEN")
    back = run("withdraw", proposed["proposal_key"], "--actor", "alice")
    assert (back.exit_code, back.output.strip()) == (0, f"{proposed['proposal_key']} is WITHDRAWN")
    assert run("confirm", proposed["proposal_key"], "--actor", "bob").exit_code == group.REFUSED
    proposed = json.loads(act("reissue", key, *WHY, "--json").output)
    told = json.loads(run("confirm", proposed["proposal_key"], "--actor", "bob", "--json").output)
    assert told == {"effect_key": tape.handle(key).effect.reissued_as}


def test_runs_and_compensations_are_proposed_too(tape: Tape, run: Run, act: Run) -> None:
    key = stuck(tape)
    assert act("resolve", key, "--as", "confirmed", *WHY).exit_code == 66
    [proposal] = tape.proposals()
    assert run("confirm", proposal.proposal_key, "--actor", "bob").exit_code == 0
    assert act("owe", key, *WHY).exit_code == 66
    [proposal] = tape.proposals()
    owed = run("confirm", proposal.proposal_key, "--actor", "bob")
    assert (owed.exit_code, owed.output.strip().endswith("is PENDING")) == (0, True)
    assert act("compensate-run", key, *WHY).exit_code == 66
    [proposal] = tape.proposals()
    closed = run("confirm", proposal.proposal_key, "--actor", "bob")
    assert (closed.exit_code, f"run {key} is" in closed.output) == (0, True)
    assert tape.run(key).status is not RunStatus.OPEN


def test_what_has_moved_is_neither_done_nor_proposed(tape: Tape, run: Run) -> None:
    """``--seen-version`` is what `show` said."""
    key = stuck(tape)
    seen = tape.handle(key).effect.version
    stale = run("resolve", key, "--as", "failed", "--seen-version", str(seen - 1), *WHY)
    assert (stale.exit_code, "StaleView" in stale.output) == (group.REFUSED, True)
    assert tape.proposals() == []
    assert run("resolve", key, "--as", "failed", "--seen-version", str(seen), *WHY).exit_code == 66
    assert tape.proposals()[0].seen_version == seen
