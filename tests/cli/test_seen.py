"""A person decides on the version that they have looked at: they name it, or are shown it on a terminal and asked."""

from __future__ import annotations

import getpass
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import Result

from tape_celery import Tape, cli
from tape_celery.cli import group
from tape_celery.records import RunStatus
from tests.cli.steps import seen, stuck

WHY = ("--reason", "a customer's return", "--actor", "ann")
QUESTION = "[y/N]"


class Terminal:
    """A real one: what is typed at it answers the question of a command, and what it shows is kept."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._master, slave = os.openpty()
        self.stdin = os.fdopen(slave, "r", closefd=False)
        self.stdout = io.TextIOWrapper(os.fdopen(slave, "wb", buffering=0), write_through=True)
        self._said = b""
        self.shown = ""
        """Without its colours."""
        self.answer = "y\n"
        self.before: Callable[[], Any] = lambda: None
        """Done while the question stands."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __call__(self, *words: str) -> int:
        class Context:
            app = self._tape.app

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "200")
            patch.setattr(sys, "stdin", self.stdin)
            patch.setattr(sys, "stdout", self.stdout)
            return int(cli.tape.main([*words], obj=Context(), standalone_mode=False))

    def _read(self) -> None:
        while True:
            try:
                said = os.read(self._master, 4096)
            except OSError:
                return
            self._said += said
            self.shown = re.sub(r"\x1b\[[\d;]*m", "", self._said.decode(errors="replace"))
            if self.shown.rstrip().endswith(f"{QUESTION}:"):
                try:
                    self.before()
                finally:  # or the command waits for ever
                    os.write(self._master, self.answer.encode())

    def close(self) -> None:
        self.stdout.close()
        self._reader.join(30)
        os.close(self._master)


@pytest.fixture
def terminal(tape: Tape) -> Iterator[Terminal]:
    made = Terminal(tape)
    yield made
    made.close()


ONE = [("cancel",), ("observe",), ("resolve", "--as", "failed"), ("release",), ("reissue",), ("owe",)]


@pytest.mark.parametrize("words", [*ONE, ("compensate-run",), ("cancel-run",)], ids=lambda words: words[0])
def test_where_nobody_can_be_asked_the_version_has_to_be_named(
    tape: Tape, run: Callable[..., Result], words: tuple[str, ...]
) -> None:
    """A misuse, which says where it stands; nothing is done. What was named is what is decided on."""
    key = stuck(tape)
    before, of_run = tape.get(key), words[0].endswith("-run")
    refused = run(words[0], key, *words[1:], *WHY)
    assert refused.exit_code == group.MISUSED
    assert "--seen-version is missing" in refused.output
    assert ("`tape run RUN` tells" if of_run else "`tape show KEY` tells") in refused.output
    assert (tape.get(key), tape.run(key).status) == (before, RunStatus.OPEN)
    done = run(words[0], key, *words[1:], *WHY, *seen(tape, key, of_run=of_run))
    assert done.exit_code != group.MISUSED, done.output
    assert "seen-version" not in done.output


def test_on_a_terminal_the_row_is_shown_and_what_was_shown_is_decided(tape: Tape, terminal: Terminal) -> None:
    """Its state, its version, what it is about, and what to check first."""
    key = stuck(tape)
    assert terminal("resolve", key, "--as", "failed", *WHY) == 0
    for words in (f"{key} is", "(version 5,", '{"amount": 1}', "b-1", "resolve-failed", "check first"):
        assert words in terminal.shown
    assert f"resolve-failed {key}, which is STUCK (version 5)? {QUESTION}" in terminal.shown
    last = tape.journal(key)[-1]
    assert (last.actor, last.status, last.evidence["seen_version"]) == ("human:ann", "FAILED", 5)


def test_a_row_that_moves_while_the_question_stands_is_not_decided_on(
    tape: Tape, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    key = stuck(tape)
    terminal.before = lambda: tape.resolve(key, "observe", reason="look", actor="app")
    assert terminal("resolve", key, "--as", "failed", *WHY) == group.REFUSED
    assert "StaleView" in capsys.readouterr().err
    assert tape.handle(key).status == "UNKNOWN"


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "nothing", "end of input"])
def test_whoever_does_not_say_yes_does_nothing(
    tape: Tape, terminal: Terminal, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    """And the exit code says so."""
    key = stuck(tape)
    before = tape.get(key)
    terminal.answer = answer
    assert terminal("cancel-run", key, *WHY) == group.REFUSED
    assert "nothing was done" in capsys.readouterr().err
    assert (tape.get(key), tape.run(key).status) == (before, RunStatus.OPEN)


def test_a_run_is_shown_with_all_that_is_in_it(tape: Tape, terminal: Terminal) -> None:
    key = stuck(tape)
    assert terminal("compensate-run", key, *WHY) == 2
    assert "1 effect: 1 STUCK" in terminal.shown
    assert f"compensate-run {key}, which is OPEN (version 0)? {QUESTION}" in terminal.shown
    record = tape.run(key).record
    assert (record.status, record.actor) == (RunStatus.STUCK, "human:ann")


def test_what_is_not_there_is_asked_about_by_nobody(
    tape: Tape, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("cancel", "owe", "compensate-run"):
        assert terminal(command, "nothing", *WHY) == group.REFUSED
        assert "NoSuch" in capsys.readouterr().err
    assert QUESTION not in terminal.shown


def test_json_is_for_programs_and_a_named_version_asks_nothing(tape: Tape, terminal: Terminal) -> None:
    key = stuck(tape)
    with pytest.raises(group.click.UsageError, match="--seen-version is missing"):
        terminal("observe", key, *WHY, "--json")
    assert terminal("observe", key, *WHY, *seen(tape, key)) == 0
    assert QUESTION not in terminal.shown


def test_whoever_types_is_a_person_in_the_journal(
    tape: Tape, act: Callable[..., Result], run: Callable[..., Result]
) -> None:
    """By the name given, or that of the machine's user, with ``human:`` before it, once; nobody is no name."""
    why = WHY[:2]
    for given, kept in (
        ((), f"human:{getpass.getuser()}"),
        (("--actor", "ann"), "human:ann"),
        (("--actor", "human:ann"), "human:ann"),
        (("--actor", " Human: human:ann "), "human:ann"),
        (("--actor", "a" * 194), f"human:{'a' * 194}"),
    ):
        key = str(tape.effect.delay("scripted", {}, business_key=f"{len(given)}-{kept}"[:200]).id)
        assert act("cancel", key, *why, *given).exit_code == 0
        assert tape.journal(key)[-1].actor == kept
    for given, wrong in (
        ("a" * 195, f"'human:{'a' * 70}... (201 characters)"),
        (" ", "not 'human:'"),
        ("human:", "not 'human:'"),
    ):
        refused = run("pause", "scripted", *why, "--actor", given)
        assert (refused.exit_code, wrong in refused.output) == (group.REFUSED, True), refused.output
    assert tape.pauses() == []
    assert run("pause", "scripted", *why, "--actor", "ann").exit_code == 0  # at once: it takes no version
    assert [one.actor for one in tape.pauses()] == ["human:ann"]
