"""Where a connector's pause, limits and breaker stand, in words. Nothing is decided by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tape_celery import flow
from tape_celery.explanation.wording import at, plain, short, span
from tape_celery.flow import Admitted, Breaker, Flow, Probe, What
from tape_celery.records import Effect, Obligation


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One flow, and what there is of it at one moment."""

    flow: Flow
    now_ms: int
    """On the database's clock."""
    in_flight: int = 0
    """How many are under way, over all workers."""
    waiting: int = 0
    """How many effects and obligations are due, and wait."""
    more: bool = False
    """More wait than were counted."""
    queued: int = 0
    """How many effects are to be sent, now or later, where that is limited; counted to 1,000 above the limit."""
    probe: Probe = Probe.GONE
    """Of a half-open breaker: what became of it."""

    @property
    def next(self) -> Admitted:
        """Whether one more may go now; if not, why and until when."""
        return flow.admit(self.flow, self.now_ms, self.in_flight, 1, self.probe)

    @property
    def full(self) -> bool:
        """Whether no more effects of it are recorded."""
        return bool(self.flow.most_waiting) and self.queued >= self.flow.most_waiting


def whose(one: Flow) -> str:
    """What it is about."""
    return plain(one.connector) if one.verb == "call" else f"looks of {plain(one.connector)}"


def said(one: Flow, what: What) -> str:
    """Who said it last, when and why."""
    told = one.said(what)
    return f"by {short(told.actor)} at {at(told.at_ms)}: {short(told.reason)}"


def said_of_all(one: Flow) -> str:
    """Who said each thing that holds."""
    held: dict[What, bool] = {
        "pause": one.paused,
        "limit": bool(one.at_once or one.rate_count or one.most_waiting),
        "breaker": bool(one.trouble_percent),
    }
    return "; ".join(f"{what} {said(one, what)}" for what, holds in held.items() if holds)


def waiting(standing: Standing) -> str:
    """How many wait."""
    one = standing.waiting == 1 and not standing.more
    return f"{standing.waiting:,}{'+' if standing.more else ''} {'waits' if one else 'wait'}"


def limits(standing: Standing) -> str:
    """Places, rate and how many may wait, and how many places are in use; empty where there is no limit."""
    one = standing.flow
    found = [f"{one.at_once} at once ({standing.in_flight} in use)"] if one.at_once else []
    found += [flow.shown_rate(one)] if one.rate_count else []
    return ", ".join(found + ([queue(standing)] if one.most_waiting else []))


def queue(standing: Standing) -> str:
    """How many effects wait to be sent, now or later, and how many may."""
    full = ", so no more are recorded" if standing.full else ""
    return f"{standing.queued:,} of at most {standing.flow.most_waiting:,} waiting{full}"


def rule(one: Flow) -> str:
    """When the breaker opens, and for how long."""
    return (
        f"opens at {one.trouble_percent} % of {one.least_calls} or more in {span(one.window_ms)}, for "
        f"{span(one.open_ms)}"
    )


def trouble(one: Flow) -> str:
    """What the breaker has counted, and since when."""
    what = "calls" if one.verb == "call" else "looks"
    troubled = one.unknown_calls + one.failed_calls
    counted = f"{troubled} of {one.calls} {what} in trouble ({one.unknown_calls} UNKNOWN, {one.failed_calls} failed)"
    return f"{counted} in the window from {at(one.window_at_ms)}" if one.window_at_ms else counted


def breaker(standing: Standing) -> str:
    """What the breaker lets pass, and what comes next; empty where there is none."""
    one = standing.flow
    if not one.trouble_percent:
        return ""
    since = f"since {at(one.breaker_at_ms)}"
    if one.breaker is Breaker.CLOSED:
        return f"closed {since}; {trouble(one)}; it {rule(one)}"
    if one.breaker is Breaker.OPEN:
        return f"open {since}: {trouble(one)}; {_probe_goes(standing)}"
    if standing.probe is Probe.OUT:
        return f"half-open {since}: what becomes of its probe {plain(one.probe_key)} decides"
    return f"half-open {since}: its probe {plain(one.probe_key)} told nothing, or is not believed yet; " + (
        _probe_goes(standing).replace("a probe", "another probe")
    )


def of(row: Effect | Obligation, standings: Sequence[Standing]) -> Standing | None:
    """What may hold the next call of ``row``, or the next look where it is not to be called."""
    verb = "call" if row.status == "PENDING" else "look"
    return next((one for one in standings if (one.flow.connector, one.flow.verb) == (row.connector, verb)), None)


def kept(row: Effect | Obligation, standings: Sequence[Standing]) -> list[str]:
    """What keeps the next call or look of ``row`` from being made now, in sentences."""
    if (standing := of(row, standings)) is None:
        return []
    one, found = standing.flow, []
    if one.paused:
        what, nothing = ("is", "nothing is sent until it is") if one.verb == "call" else ("are", "none until they are")
        told = one.said("pause")
        by = f"since {at(told.at_ms)}, by {short(told.actor)}: {short(told.reason)}"
        found.append(f"{whose(one)} {what} paused ({by}): {nothing} resumed.")
    is_due = row.due_at_ms is None or row.due_at_ms <= standing.now_ms
    # Of places and rates nothing can be told before it is due; a breaker may still be open then.
    if (is_due or one.breaker is not Breaker.CLOSED) and (text := obstacle(standing)):
        found.append(text)
    return found


def lines(standing: Standing) -> list[str]:
    """All that holds it, each on a line: its pause, its limits, its breaker."""
    one, found = standing.flow, []
    if one.paused:
        found.append(
            f"{whose(one)} {'is' if one.verb == 'call' else 'are'} paused; {waiting(standing)} ({said(one, 'pause')})"
        )
    if told := limits(standing):
        found.append(f"{whose(one)}: {told}; {waiting(standing)} ({said(one, 'limit')})")
    if told := breaker(standing):
        found.append(f"breaker of {whose(one)}: {told}; {waiting(standing)} ({said(one, 'breaker')})")
    return found


def _probe_goes(standing: Standing) -> str:
    until = standing.flow.breaker_at_ms + standing.flow.open_ms
    return f"a probe goes at {at(until)}" if until > standing.now_ms else "a probe goes with the next claim"


def obstacle(standing: Standing) -> str:
    """Why one more does not go now, as a sentence; of a pause it says nothing. Empty where one may."""
    one = standing.flow
    if one.paused or not one.controlled:
        return ""
    name, what = plain(one.connector), "sent" if one.verb == "call" else "looked at"
    if one.breaker is not Breaker.CLOSED:
        of_looks = "" if one.verb == "call" else "for looks "
        return f"The breaker of {name} {of_looks}is {breaker(standing)}. It waits, and uses no attempt."
    now = standing.next
    if now.number:
        return ""
    if one.at_once and standing.in_flight >= one.at_once:
        places = f"{standing.in_flight} of {one.at_once} places are in use"
        return f"{whose(one)}: {places}, {waiting(standing)} ({said(one, 'limit')}). It is {what} when its turn comes."
    when = "" if now.until_ms is None else f", and the next may go at {at(now.until_ms)}"
    used = f"no more than {flow.shown_rate(one)} may go{when}; {waiting(standing)}"
    return f"{whose(one)}: {used} ({said(one, 'limit')}). It is {what} when its turn comes."
