"""The screen and the report: something readable on a terminal and in a log."""

from __future__ import annotations

from collections import Counter

import pytest
from rich.console import Console

from tape_celery.demo.ledger import BOOKED, Entry
from tape_celery.demo.orders import read_wires
from tape_celery.demo.plan import draw_plan
from tape_celery.demo.report import report
from tape_celery.demo.screen import Frame, Happening, Screen, draw, line
from tape_celery.demo.verdict import judge
from tape_celery.records import EffectStatus, JournalEntry, ObligationStatus

FRAME = Frame(
    elapsed_seconds=12.3,
    phase="submitting",
    seed=42,
    wires=40,
    effects=Counter({EffectStatus.CONFIRMED: 20, EffectStatus.UNKNOWN: 3}),
    obligations=Counter({ObligationStatus.COMPENSATED: 1, ObligationStatus.PENDING: 1}),
    in_flight=2,
    received=25,
    booked=24,
    taken_back=1,
    happenings=(
        Happening(at_seconds=3, business_key="W-1", text="booked; the answer is lost"),
        Happening(at_seconds=4, business_key="", text="the dispatch worker is killed [really]", loud=True),
    ),
)


def test_the_table_shows_counts_and_what_happened() -> None:
    console = Console(width=120, record=True, force_terminal=True)
    console.print(draw(FRAME))
    text = console.export_text()
    for shown in ("23 of 40 wires", "seed 42", "CONFIRMED", "STUCK", "the answer is lost", "killed [really]"):
        assert shown in text


def test_the_line_shows_counts() -> None:
    assert line(FRAME).split("  | ")[:3] == [
        " 12.3 s  23/40 submitted  CONFIRMED 20  UNKNOWN 3",
        "bank: 24 booked, 1 reversed",
        "reversals paid 1/2",
    ]


def test_elsewhere_there_is_a_line_now_and_then_and_what_is_loud() -> None:
    console = Console(width=80, record=True, force_terminal=False)
    with Screen(console) as screen:
        screen.show(FRAME)
        screen.show(FRAME)
    text = console.export_text()
    assert text.count("killed [really]") == 1
    assert text.count("23/40 submitted") == 1
    assert "the answer is lost" not in text


def test_a_terminal_gets_the_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has no live table
    console = Console(width=100, record=True, force_terminal=True)
    with Screen(console) as screen:
        screen.show(FRAME)
    assert "the journal" in console.export_text()


def test_the_report_of_a_verdict_that_does_not_hold_names_the_problems() -> None:
    wires = read_wires(limit=20)
    booked_by_nobody = Entry(
        ref="BK9",
        kind=BOOKED,
        at="",
        idempotency_key="",
        business_key=wires[0].business_key,
        account=wires[0].creditor_account,
        amount=wires[0].amount,
        currency=wires[0].currency,
    )
    console = Console(width=160, record=True)
    report(
        console,
        judge(wires=wires, effects=[], ledger=[booked_by_nobody], obligations=[], violations=[]),
        plan=draw_plan(1, [wire.business_key for wire in wires]),
        obligations=[],
        killed=[wires[0].business_key],
        journal_of=no_journal,
    )
    text = console.export_text()
    assert "does NOT hold; 20 problems" in text
    assert "submitted, but not in the journal" in text
    assert wires[0].creditor in text


def no_journal(effect_key: str) -> list[JournalEntry]:
    raise AssertionError(effect_key)
