"""What people see while the demo runs: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tape_celery.records import EffectStatus, ObligationStatus

COLOURS = {
    EffectStatus.PENDING: "white",
    EffectStatus.DISPATCHING: "cyan",
    EffectStatus.CONFIRMED: "green",
    EffectStatus.FAILED: "magenta",
    EffectStatus.UNKNOWN: "yellow",
    EffectStatus.STUCK: "bold red",
    EffectStatus.CANCELLED: "dim",
    EffectStatus.HELD: "yellow",
}
EVENTS_SHOWN = 10
LINE_SECONDS = 3.0
_BAR = 28


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something that just happened, and to which wire if to one."""

    at_seconds: float
    business_key: str
    text: str
    loud: bool = False
    """Shown where there is only a line every few seconds, too."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The demo at one moment."""

    elapsed_seconds: float
    phase: str
    seed: int
    wires: int
    effects: Counter[EffectStatus] = field(default_factory=Counter)
    obligations: Counter[ObligationStatus] = field(default_factory=Counter)
    in_flight: int = 0
    received: int = 0
    booked: int = 0
    taken_back: int = 0
    happenings: Sequence[Happening] = ()
    """All so far, oldest first."""

    @property
    def recorded(self) -> int:
        """How many wires are in the journal."""
        return self.effects.total()


def draw(frame: Frame) -> RenderableType:
    """The frame for a terminal."""
    states = Table(title="the journal", title_justify="left", box=None, show_header=False, pad_edge=False)
    for status in EffectStatus:
        count = frame.effects[status]
        filled = -(-count * _BAR // frame.wires)
        colour = COLOURS[status]
        states.add_row(Text(status, style=colour), Text(str(count), justify="right"), Text("█" * filled, style=colour))

    bank = Table(title="the bank", title_justify="left", box=None, show_header=False, pad_edge=False)
    for what, count in (
        ("calls received", frame.received),
        ("in flight", frame.in_flight),
        ("booked", frame.booked),
        ("reversed", frame.taken_back),
    ):
        bank.add_row(what, Text(str(count), justify="right"))
    paid = frame.obligations[ObligationStatus.COMPENSATED]
    bank.add_row("reversals owed", Text(str(frame.obligations.total()), justify="right"))
    bank.add_row("  of them paid", Text(str(paid), justify="right"))

    events = Table.grid(padding=(0, 2))
    for _ in range(3):
        events.add_column(no_wrap=True, overflow="ellipsis")
    for happening in frame.happenings[-EVENTS_SHOWN:]:
        events.add_row(
            Text(f"{happening.at_seconds:5.1f} s", style="dim"),
            Text(happening.business_key, style="bold"),
            Text(happening.text, style="bold red" if happening.loud else ""),
        )
    for _ in range(EVENTS_SHOWN - len(frame.happenings)):
        events.add_row("", "", "")

    head = Text(f"{frame.recorded} of {frame.wires} wires submitted   seed {frame.seed}   ")
    head.append(f"{frame.elapsed_seconds:.0f} s   {frame.phase}")
    counts = Table.grid(padding=(0, 4))
    counts.add_row(states, bank)
    now = Text("what just happened", style="italic")
    return Panel(Group(head, Text(), counts, Text(), now, events), title="tape_celery demo")


def line(frame: Frame) -> str:
    """The frame in one line."""
    states = "  ".join(f"{status} {frame.effects[status]}" for status in EffectStatus if frame.effects[status])
    owed, paid = frame.obligations.total(), frame.obligations[ObligationStatus.COMPENSATED]
    return (
        f"{frame.elapsed_seconds:5.1f} s  {frame.recorded}/{frame.wires} submitted  {states or 'nothing yet'}  "
        f"| bank: {frame.booked} booked, {frame.taken_back} reversed  | reversals paid {paid}/{owed}  | {frame.phase}"
    )


class Screen:
    """Shows frames; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._next_line_at = 0.0
        self._told = 0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, frame: Frame) -> None:
        """Show ``frame`` now."""
        if self._live:
            self._live.update(draw(frame), refresh=True)
            return
        for happening in frame.happenings[self._told :]:
            if happening.loud:
                self._say(f"{happening.at_seconds:5.1f} s  {happening.business_key} {happening.text}")
        self._told = len(frame.happenings)
        if time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + LINE_SECONDS
            self._say(line(frame))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
