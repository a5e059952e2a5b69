"""How much of a connector may go now: a pause, places at once, a rate, a circuit breaker. Pure.

One `Flow` a connector and verb: ``call`` (dispatches and inverses) or ``look``. Instants are epoch milliseconds on the
database's clock.

The rate is a token bucket, kept as the one number of GCRA: the instant at which the bucket will be full. Of ``count``
in a period, a tenth (but at least one) may go at once, and the rest flows in over the period; so no period of that
length, wherever it begins, sees more than ``count``, and the sustained rate is within a tenth of it.

The breaker::

            the share of troubled calls in a window reaches its bound
    CLOSED ──────────────────────────────────────────────────────────▶ OPEN
      ▲                                                                 │ ▲
      │ the probe landed, and the       after open_ms the next claim    │ │ the probe failed, or its
      │ upstream says so when asked     admits one row: the probe       ▼ │ landing is not to be seen
      └───────────────────────────────────────────────────────────── HALF_OPEN ↺ another probe

While the probe is under way or UNKNOWN, nothing else goes: what its looks say decides. When whoever had it died, or it
ended in a way that says nothing of the upstream, another probe goes once ``open_ms`` have passed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

from tape_celery.errors import InvalidIntent

Verb = Literal["call", "look"]
What = Literal["pause", "limit", "breaker"]
"""What people say of a connector's calls or looks."""

MOST_AT_ONCE = 100_000
MOST_COUNT = 1_000_000
MOST_WAITING = 1_000_000
MOST_MS = 31 * 86_400_000
SLOT_MS = 250
"""Hints of a fast rate go together, for so long at the most."""


class Breaker(StrEnum):
    """What a circuit breaker lets pass: everything, nothing, or one probe."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Why(StrEnum):
    """Why something waits."""

    PAUSED = "paused"
    LIMITED = "limited"
    """No place is free, or the rate is used up."""
    BREAKER_OPEN = "breaker_open"


class Trouble(StrEnum):
    """What a call or look says of the upstream's health."""

    NONE = "none"
    UNKNOWN = "unknown"
    FAILED = "failed"


class Probe(StrEnum):
    """What has become of the probe of a half-open breaker."""

    OUT = "out"
    """It is under way, or its answer was lost and it is looked at."""
    SEEN = "seen"
    """It was seen at the upstream by a look."""
    FAILED = "failed"
    GONE = "gone"
    """It says nothing of the upstream: it was cancelled, pruned, given back, or nobody asked."""


@dataclass(frozen=True)
class Said:
    """Who has said something, when and why."""

    reason: str
    actor: str
    at_ms: int


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What people have said of one connector's calls or looks at run time, and where its limits stand."""

    connector: str
    verb: Verb = "call"
    paused: bool = False
    at_once: int = 0
    """How many over all workers; 0: as many as there are."""
    rate_count: int = 0
    """How many in each ``rate_ms``; 0: as many as there are."""
    rate_ms: int = 0
    trouble_percent: int = 0
    """The share of troubled calls that opens the breaker; 0: there is none."""
    least_calls: int = 0
    """Of fewer calls in a window nothing is concluded."""
    window_ms: int = 0
    open_ms: int = 0
    full_at_us: int = 0
    """When the bucket will be full, in microseconds."""
    breaker: Breaker = Breaker.CLOSED
    breaker_at_ms: int = 0
    """Since when the breaker is what it is."""
    probe_key: str = ""
    window_at_ms: int = 0
    """When the window began in which is counted."""
    calls: int = 0
    unknown_calls: int = 0
    failed_calls: int = 0
    reason: str = ""
    actor: str = ""
    updated_at_ms: int = 0
    version: int = 0
    most_waiting: int = 0
    """How many effects may wait to be sent, before no more are recorded; 0: any number."""
    said_json: str = ""
    """Who has said each thing of it last, and why; see `said`."""

    def said(self, what: What) -> Said:
        """Who has said ``what`` of it last; where that was not kept apart, who has said anything."""
        told = json.loads(self.said_json)[what] if self.said_json else (self.reason, self.actor, self.updated_at_ms)
        return Said(*told)

    def saying(self, what: What, reason: str, actor: str, now_ms: int) -> Flow:
        """The flow of which somebody has just said ``what``."""
        one_for_all = [self.reason, self.actor, self.updated_at_ms]  # where it was not kept apart
        before = json.loads(self.said_json) if self.said_json else dict.fromkeys(get_args(What), one_for_all)
        told = before | {what: [reason, actor, now_ms]}
        one = dataclasses.replace(self, said_json=json.dumps(told), version=self.version + 1)
        return dataclasses.replace(one, reason=reason, actor=actor, updated_at_ms=now_ms)

    @property
    def said_anything(self) -> bool:
        """Whether anything holds of it."""
        return self.paused or self.controlled or bool(self.most_waiting)

    @property
    def controlled(self) -> bool:
        """Whether any limit or a breaker is set that holds back what waits."""
        return bool(self.at_once or self.rate_count or self.trouble_percent)

    @property
    def burst(self) -> int:
        """How many may go at once after a quiet time."""
        return max(1, self.rate_count // 10)

    @property
    def interval_us(self) -> int:
        """After how long one more may go, in microseconds; rounded up, as too slow breaks no promise."""
        return -(-self.rate_ms * 1000 // (self.rate_count - self.burst + 1))


@dataclass(frozen=True)
class Admitted:
    """How many may go now, and why the others wait."""

    number: int
    why: Why | None = None
    until_ms: int | None = None
    """When that may change by itself; ``None``: when a call ends, or a person wants it."""


def admit(flow: Flow, now_ms: int, in_flight: int, wanted: int, probe: Probe = Probe.GONE) -> Admitted:
    """How many of ``wanted`` may go while ``in_flight`` are under way; it takes nothing, `taken` does."""
    bounds = [Admitted(wanted)]
    if flow.paused:
        bounds.append(Admitted(0, Why.PAUSED))
    if flow.breaker is not Breaker.CLOSED:
        bounds.append(_breaker(flow, now_ms, probe))
    if flow.at_once:
        bounds.append(Admitted(max(0, flow.at_once - in_flight), Why.LIMITED))
    if flow.rate_count:
        number, until = _rate(flow, now_ms)
        bounds.append(Admitted(number, Why.LIMITED, until))
    return min(bounds, key=lambda bound: bound.number)


def _breaker(flow: Flow, now_ms: int, probe: Probe) -> Admitted:
    if flow.breaker is Breaker.HALF_OPEN and probe is Probe.OUT:
        return Admitted(0, Why.BREAKER_OPEN)
    until = flow.breaker_at_ms + flow.open_ms
    # Where the clock was put back, it waits no longer than it would from now on.
    return Admitted(int(now_ms >= until), Why.BREAKER_OPEN, min(until, now_ms + flow.open_ms))


def _rate(flow: Flow, now_ms: int) -> tuple[int, int]:
    """How many may go by the rate, and when one more may."""
    capacity, now_us = flow.burst * flow.interval_us, now_ms * 1000
    number = (now_us + capacity - _full_at(flow, now_us)) // flow.interval_us
    next_us = _full_at(flow, now_us) - capacity + (number + 1) * flow.interval_us
    return number, -(-next_us // 1000)


def _full_at(flow: Flow, now_us: int) -> int:
    """When the bucket will be full: no later than if it were empty now, whatever the clock and the rate were before."""
    return min(max(flow.full_at_us, now_us), now_us + flow.burst * flow.interval_us)


def taken(flow: Flow, now_ms: int, keys: list[str]) -> Flow:
    """The flow after ``keys`` were admitted and are under way."""
    if not keys:
        return flow
    if flow.rate_count:
        full_at = _full_at(flow, now_ms * 1000) + len(keys) * flow.interval_us
        flow = dataclasses.replace(flow, full_at_us=full_at)
    if flow.breaker is not Breaker.CLOSED:
        flow = dataclasses.replace(flow, breaker=Breaker.HALF_OPEN, breaker_at_ms=now_ms, probe_key=keys[0])
    return flow


def turned(flow: Flow, now_ms: int, probe: Probe) -> Flow:
    """The flow as the end of its probe, if that was seen, leaves it."""
    if flow.breaker is Breaker.HALF_OPEN and probe is Probe.SEEN:
        return closed(flow, now_ms)
    if flow.breaker is Breaker.HALF_OPEN and probe is Probe.FAILED:
        return opened(flow, now_ms)
    return flow


def closed(flow: Flow, now_ms: int) -> Flow:
    """The breaker lets everything pass, and begins to count anew."""
    fresh = dataclasses.replace(flow, window_at_ms=now_ms, calls=0, unknown_calls=0, failed_calls=0)
    return _set(fresh, Breaker.CLOSED, now_ms)


def opened(flow: Flow, now_ms: int) -> Flow:
    """The breaker lets nothing pass; what was counted stays, to be shown."""
    return _set(flow, Breaker.OPEN, now_ms)


def _set(flow: Flow, breaker: Breaker, now_ms: int) -> Flow:
    return dataclasses.replace(flow, breaker=breaker, breaker_at_ms=now_ms, probe_key="")


def after(flow: Flow, results: Iterable[tuple[str, Trouble]], now_ms: int) -> Flow:
    """The flow after calls, by key, ended so; a probe without trouble is not yet believed: who asks closes it."""
    if not flow.trouble_percent:
        return flow
    if flow.breaker is Breaker.HALF_OPEN:
        failed = any(key == flow.probe_key and trouble is Trouble.FAILED for key, trouble in results)
        return opened(flow, now_ms) if failed else flow
    if flow.breaker is Breaker.OPEN:
        return flow  # they began before it opened
    if not 0 <= now_ms - flow.window_at_ms < flow.window_ms:
        flow = closed(flow, now_ms)
    troubles = [trouble for _, trouble in results]
    flow = dataclasses.replace(
        flow,
        calls=flow.calls + len(troubles),
        unknown_calls=flow.unknown_calls + troubles.count(Trouble.UNKNOWN),
        failed_calls=flow.failed_calls + troubles.count(Trouble.FAILED),
    )
    enough = flow.calls >= flow.least_calls
    return opened(flow, now_ms) if enough and share(flow) >= flow.trouble_percent else flow


def share(flow: Flow) -> float:
    """How many of a hundred calls of this window were in trouble."""
    return 100 * (flow.unknown_calls + flow.failed_calls) / flow.calls if flow.calls else 0.0


def schedule(
    flow: Flow, now_ms: int, in_flight: int, *, span_ms: int, most: int, probe: Probe = Probe.GONE
) -> list[int]:
    """In how many milliseconds each of the next rows may go, as far as that can be told for the next ``span_ms``.

    Where only places are limited, those that are free now: each call that ends makes room for the next one.
    """
    if flow.paused or (flow.at_once and in_flight >= flow.at_once):
        return []
    if flow.breaker is not Breaker.CLOSED:
        until = _breaker(flow, now_ms, probe).until_ms
        return [max(0, until - now_ms)][:most] if until is not None and until < now_ms + span_ms else []
    if not flow.rate_count:
        return [0] * (min(most, flow.at_once - in_flight) if flow.at_once else most)
    slot_ms = min(flow.interval_us * max(1, flow.burst // 2) // 1000, SLOT_MS)
    waits: list[int] = []
    at = now_ms
    while at < now_ms + span_ms and len(waits) < most:
        number, until = _rate(flow, at)
        keys = [""] * min(number, most - len(waits))
        waits += [at - now_ms] * len(keys)
        flow = taken(flow, at, keys)
        at = max(_rate(flow, at)[1], at + slot_ms)
    return waits


_PERIODS = {"second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_RATE = re.compile(r"\s*([0-9]{1,7})\s*(?:/|\bper\b)\s*([0-9]{0,5})\s*([a-z]+)\s*", re.ASCII)


def parse_rate(text: str) -> tuple[int, int]:
    """Count and period in milliseconds of a rate like ``"10/second"``, ``"100/minute"``, ``"5/2 hours"``, ``"10/s"``.

    ``""`` is no rate. Raises `InvalidIntent`.
    """
    if text == "":
        return 0, 0
    if isinstance(text, str) and (found := _RATE.fullmatch(text.lower())) is not None:
        count, multiple, unit = int(found[1]), int(found[2] or 1), found[3].removesuffix("s") or "s"
        period = next((ms for name, ms in _PERIODS.items() if unit in (name, name[0], name[:3])), 0) * multiple
        if 1 <= count <= MOST_COUNT and 1 <= period <= MOST_MS:
            return count, period
    raise InvalidIntent(
        f"rate must read like '10/second' or '100/minute' (second, minute, hour, day; up to {MOST_COUNT} in up to 31 "
        f"days), not {text!r}"
    )


def shown_rate(flow: Flow) -> str:
    """The rate as a person writes it."""
    if not flow.rate_count:
        return ""
    name, unit = next((name, ms) for name, ms in reversed(_PERIODS.items()) if flow.rate_ms % ms == 0)
    multiple = flow.rate_ms // unit
    return f"{flow.rate_count}/{name}" if multiple == 1 else f"{flow.rate_count}/{multiple} {name}s"
