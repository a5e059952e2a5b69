"""An act on all that match: a dry run first, then exactly what was shown, row by row."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tape_celery import Tape
from tape_celery.cli import bulk, group
from tape_celery.errors import StoreUnavailable
from tests.cli.steps import Scripted, stuck

WHY = ("--reason", "the bank's people say so; it's \"gone\"", "--actor", "ann")


def some_stuck(tape: Tape, number: int, **keywords: Any) -> list[str]:
    """As many STUCK effects, oldest first."""
    keys = []
    for index in range(number):
        key = str(tape.effect.delay("scripted", {"n": index}, business_key=f"{index}-{keywords}", **keywords).id)
        tape.dispatch(key)
        Scripted.can_observe = False
        tape.observe(key)
        Scripted.can_observe = True
        keys.append(key)
    return keys


def printed_command(dry: Result) -> list[str]:
    """The words after ``tape`` of the command that a dry run prints."""
    assert dry.exit_code == 0, dry.output
    line = next(line for line in dry.output.splitlines() if line.startswith("celery -A APP tape "))
    return shlex.split(line)[4:]


def states(tape: Tape, keys: list[str]) -> list[str]:
    return [str(tape.handle(key).status) for key in keys]


def test_a_dry_run_does_nothing_and_prints_the_command_that_does_it(tape: Tape, run: Callable[..., Result]) -> None:
    """How many, of which connector and reason, the rows; the command holds whatever the shell makes of its words."""
    keys = some_stuck(tape, 3)
    dry = run("resolve", "--status", "STUCK", "--connector", "scripted", "--as", "failed", *WHY)
    assert "dry run: resolve would be done to 3 effects" in dry.output
    assert "nothing can observe it" in dry.output
    assert all(key in dry.output for key in keys)
    assert states(tape, keys) == ["STUCK"] * 3
    done = run(*printed_command(dry))
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "3 done, 0 refused")
    assert states(tape, keys) == ["FAILED"] * 3
    last = tape.journal(keys[0])[-1]
    assert (last.actor, last.evidence["reason"]) == ("human:ann", WHY[1])
    assert last.evidence["seen_version"] == 5


def test_what_is_recorded_after_the_dry_run_is_not_touched(tape: Tape, run: Callable[..., Result]) -> None:
    """The printed command asks for what was there then, by instants in place of ages."""
    keys = some_stuck(tape, 2)
    tape.database.shift_ms += 3_600_000
    dry = run("observe", "--older-than", "10m", "--newer-than", "2h", *WHY)
    tape.database.shift_ms += 7_200_000
    later = some_stuck(tape, 1, run_id="later")
    assert run(*printed_command(dry)).exit_code == 0
    assert states(tape, keys + later) == ["UNKNOWN", "UNKNOWN", "STUCK"]
    dry = run("resolve", "--status", "STUCK", "--as", "failed", *WHY)
    newest = some_stuck(tape, 1, run_id="newest")
    assert run(*printed_command(dry)).exit_code == 0
    assert states(tape, later + newest) == ["FAILED", "STUCK"]


def test_another_set_than_was_shown_is_refused_as_a_whole(tape: Tape, run: Callable[..., Result]) -> None:
    """One that somebody else has decided meanwhile, or that has moved and come back."""
    keys = some_stuck(tape, 3)
    dry = run("resolve", "--status", "STUCK", "--as", "failed", *WHY)
    tape.resolve(keys[1], "confirmed", reason="found it", actor="bob")
    refused = run(*printed_command(dry))
    assert (refused.exit_code, "nothing was done" in refused.output) == (group.REFUSED, True)
    dry = run("resolve", "--status", "STUCK", "--as", "failed", *WHY)
    tape.resolve(keys[0], "observe", reason="look", actor="bob")
    Scripted.can_observe = False
    tape.observe(keys[0])
    Scripted.can_observe = True
    assert run(*printed_command(dry)).exit_code == group.REFUSED
    assert states(tape, keys) == ["STUCK", "CONFIRMED", "STUCK"]


def test_a_row_that_moves_in_between_is_refused_and_said(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the set was compared: it is held to the version that was read. The others are done."""
    keys = some_stuck(tape, 3)
    words = printed_command(run("resolve", "--status", "STUCK", "--as", "failed", *WHY))
    select = bulk._select

    def then_moved(*args: Any) -> Any:
        chosen = select(*args)
        tape.resolve(keys[1], "observe", reason="look", actor="bob")
        return chosen

    monkeypatch.setattr(bulk, "_select", then_moved)
    told = json.loads((done := run(*words, "--json")).output)
    assert done.exit_code == group.SOME_REFUSED
    assert [one["effect_key"] for one in told["done"]] == [keys[0], keys[2]]
    [refused] = told["refused"]
    assert (refused["effect_key"], refused["why"].partition(":")[0]) == (keys[1], "StaleView")
    assert states(tape, keys) == ["FAILED", "UNKNOWN", "FAILED"]


def test_each_act_is_shown_only_what_it_may_be_done_to(tape: Tape, run: Callable[..., Result]) -> None:
    """What is reissued already is not among those to reissue; a state that an act is never for is a misuse."""
    rule = {"fields": ["n"], "within": 60}
    keys = [str(tape.effect.delay("scripted", {"n": 1}, business_key=b, hold_similar=rule).id) for b in "abc"]
    assert json.loads(run("release", "--connector", "scripted", *WHY, "--json").output)["number"] == 2
    assert json.loads(run("cancel", "--connector", "scripted", *WHY, "--json").output)["number"] == 3
    assert run(*printed_command(run("cancel", "--status", "PENDING", *WHY))).exit_code == 0
    tape.cancel(keys[1], reason="r", actor="ann")
    tape.reissue(keys[1], reason="r", actor="ann")
    told = json.loads(run("reissue", "--connector", "scripted", *WHY, "--json").output)
    assert [row["effect_key"] for row in told["rows"]] == [keys[0]]
    done = run(*shlex.split(told["command"])[4:])
    assert (done.exit_code, "reissued as" in done.output) == (0, True)
    wrong = run("release", "--status", "FAILED", *WHY)
    assert (wrong.exit_code, "release is for what is HELD, not FAILED" in wrong.output) == (group.MISUSED, True)
    assert "nothing matches" in run("resolve", "--connector", "nobody", "--as", "failed", *WHY).output


def test_no_more_than_the_limit_and_the_oldest_first(tape: Tape, run: Callable[..., Result]) -> None:
    keys = some_stuck(tape, 5)
    dry = run("resolve", "--status", "STUCK", "--limit", "2", "--as", "failed", *WHY)
    assert "there are more than --limit 2" in dry.output
    assert run(*printed_command(dry)).output.splitlines()[-1] == "2 done, 0 refused"
    assert states(tape, keys) == ["FAILED", "FAILED", "STUCK", "STUCK", "STUCK"]


def test_rows_that_an_act_is_not_for_do_not_hide_those_that_it_is_for(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read past, page by page."""
    monkeypatch.setattr("tape_celery.store.paging.MOST", 2)
    keys = [str(tape.effect.delay("scripted", {"n": n}, business_key=f"n-{n}").id) for n in range(6)]
    for key in keys:
        tape.cancel(key, reason="r", actor="ann")
    for key in keys[:5]:
        tape.reissue(key, reason="r", actor="ann")
    told = json.loads(run("reissue", "--status", "CANCELLED", "--limit", "1", *WHY, "--json").output)
    assert ([row["effect_key"] for row in told["rows"]], told["more"]) == ([keys[5]], False)


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_each_row_is_chosen_once_whatever_the_pages_are(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("tape_celery.store.paging.MOST", 2)
    keys = some_stuck(tape, number)
    told = json.loads(run("observe", "--status", "STUCK", *WHY, "--json").output)
    assert [row["effect_key"] for row in told["rows"]] == keys


def test_ctrl_c_in_the_middle_says_what_was_done(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one under way may be done or not; those after it are not tried."""
    keys = some_stuck(tape, 3)
    words = printed_command(run("observe", "--status", "STUCK", *WHY))
    resolve = tape.resolve

    def interrupted(key: str, *args: Any, **kwargs: Any) -> Any:
        if key == keys[1]:
            raise KeyboardInterrupt
        return resolve(key, *args, **kwargs)

    monkeypatch.setattr(tape, "resolve", interrupted)
    told = json.loads((done := run(*words, "--json")).output)
    assert done.exit_code == group.SOME_REFUSED
    assert [one["effect_key"] for one in told["done"]] == keys[:1]
    assert [one["why"] for one in told["refused"]] == ["not known: interrupted", "not tried: interrupted"]


def test_what_takes_two_people_is_refused_row_by_row(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many are not proposed at once."""
    keys = some_stuck(tape, 1)
    words = printed_command(run("resolve", "--status", "STUCK", "--as", "failed", *WHY))
    limited = dataclasses.replace(tape.settings, second_person_above={"scripted": {}})
    monkeypatch.setattr(tape, "_settings", limited)
    done = run(*words)
    assert (done.exit_code, "NeedsSecondPerson" in done.output) == (group.SOME_REFUSED, True)
    assert (states(tape, keys), tape.proposals()) == (["STUCK"], [])


def test_a_store_that_goes_away_in_the_middle_ends_it(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is said, and what was not tried."""
    keys = some_stuck(tape, 3)
    words = printed_command(run("observe", "--status", "STUCK", *WHY))
    resolve, calls = tape.resolve, []

    def goes_away(key: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(key)
        if len(calls) == 2:
            raise StoreUnavailable("gone")
        return resolve(key, *args, **kwargs)

    monkeypatch.setattr(tape, "resolve", goes_away)
    done = run(*words)
    assert done.exit_code == group.SOME_REFUSED
    assert done.output.splitlines()[-1] == "1 done, 2 refused"
    assert (calls, states(tape, keys)) == (keys[:2], ["UNKNOWN", "STUCK", "STUCK"])


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--yes",),
        ("--status", "STUCK", "--yes"),
        ("--status", "STUCK", "--expect", "1-abc"),
        ("KEY", "--status", "STUCK"),
        ("KEY", "--yes", "--expect", "1-abc"),
        ("--status", "STUCK", "--seen-version", "3"),
        ("--status", "STUCK", "--limit", "501"),
        ("KEY", "--seen-version", "-1"),
    ],
)
def test_a_key_or_filters_and_yes_only_with_what_was_shown(
    tape: Tape, run: Callable[..., Result], words: tuple[str, ...]
) -> None:
    key = stuck(tape)
    asked = [key if word == "KEY" else word for word in words]
    assert run("observe", *asked, *WHY).exit_code == group.MISUSED
    assert states(tape, [key]) == ["STUCK"]


def test_a_reference_is_of_one_record(tape: Tape, run: Callable[..., Result]) -> None:
    """Many are not confirmed under one."""
    some_stuck(tape, 2)
    asked = ("resolve", "--status", "STUCK", "--as", "confirmed", "--external-ref", "BK-1", *WHY)
    assert run(*asked).exit_code == group.MISUSED


def test_one_key_may_be_held_to_the_version_that_was_seen(tape: Tape, run: Callable[..., Result]) -> None:
    """As `explain` tells it."""
    key = stuck(tape)
    version = json.loads(run("explain", key, "--json").output)["version"]
    tape.resolve(key, "observe", reason="look", actor="bob")
    stale = run("resolve", key, "--as", "failed", *WHY, "--seen-version", str(version))
    assert (stale.exit_code, "StaleView" in stale.output) == (group.REFUSED, True)
    assert states(tape, [key]) == ["UNKNOWN"]
    assert run("cancel", key, *WHY, "--seen-version", str(version + 1)).exit_code == 0


def test_hostile_names_dress_up_nothing(tape: Tape, run: Callable[..., Result]) -> None:
    """Neither in the tables nor in the command, which stays what was asked."""
    key = tape.effect.delay("bank[/]", {}, business_key="$(rm -rf x) 'y' [red]").id
    dry = run("cancel", "--business-key", "$(rm -rf x) 'y' [red]", *WHY)
    assert "bank[/]" in dry.output
    assert run(*printed_command(dry)).exit_code == 0
    assert states(tape, [str(key)]) == ["CANCELLED"]
    assert "\x1b" not in run("cancel", "--run", "\x1b[2J", *WHY).output
