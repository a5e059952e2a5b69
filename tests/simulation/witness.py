"""What flow control let pass, judged by what had been said of the connectors, and not by the code that decides."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence

from tests.simulation.upstream import Call


def probes(seen: Iterable[sqlite3.Row]) -> set[str]:
    """The keys that ever were a breaker's probe."""
    return {row["probe_key"] for row in seen if row["probe_key"]}


def let_pass_wrongly(
    seen: Sequence[sqlite3.Row], calls: Sequence[Call], decided: Callable[[str], bool], *, jumped: bool
) -> Iterator[str]:
    """Whatever passed that was not to pass.

    ``decided``: what tells of a key whether a person said what became of it, or nobody could look. ``jumped``: the
    database's clock did, so that nothing is concluded from instants.
    """
    lines: dict[tuple[str, str], list[sqlite3.Row]] = {}
    for row in seen:
        lines.setdefault((row["connector"], row["verb"]), []).append(row)
    for (connector, verb), line in lines.items():
        looks = lines.get((connector, "look"), [])
        for what in _of_one(line, [] if jumped else calls, looks, decided, jumped):
            yield f"{connector}, {verb}s: {what}"


def _of_one(
    line: Sequence[sqlite3.Row],
    calls: Sequence[Call],
    looks: Sequence[sqlite3.Row],
    decided: Callable[[str], bool],
    jumped: bool,
) -> Iterator[str]:
    flow: sqlite3.Row | None = None
    begun: list[int] = []
    """When the claims were made since the rate was said."""
    for place, row in enumerate(line):
        if row["what"] == "flow":
            if flow is None or (flow["rate_count"], flow["rate_ms"]) != (row["rate_count"], row["rate_ms"]):
                begun = []
            yield from _overheated(row)
            closes = flow is not None and flow["breaker"] == "HALF_OPEN" and row["breaker"] == "CLOSED"
            if closes and flow is not None and flow["version"] == row["version"] and not jumped:
                yield from _closed_unseen(flow, row, calls, looks, decided)
            flow = row
        elif flow is None:
            continue
        elif row["what"] == "recorded":
            if 0 < flow["most_waiting"] < row["number"]:
                yield f"{row['row_key']} was recorded as the {row['number']}. of {flow['most_waiting']} that may wait"
        else:
            begun.append(row["at_ms"])
            yield from _claimed(flow, row)
            if not jumped:
                yield from _too_fast(flow, row, begun)
            if flow["breaker"] != "CLOSED":
                yield from _past_the_breaker(flow, row, line[place + 1 :], jumped)


def _claimed(flow: sqlite3.Row, claim: sqlite3.Row) -> Iterator[str]:
    if flow["paused"]:
        yield f"{claim['row_key']} was claimed while they were paused"
    if 0 < flow["at_once"] < claim["number"]:
        yield f"{claim['row_key']} was claimed as the {claim['number']}. of {flow['at_once']} at once"


def _too_fast(flow: sqlite3.Row, claim: sqlite3.Row, begun: Sequence[int]) -> Iterator[str]:
    if not flow["rate_count"]:
        return
    now_ms, most, period_ms = claim["at_ms"], flow["rate_count"], flow["rate_ms"]
    number = sum(at_ms > now_ms - period_ms for at_ms in begun)
    if number > most:
        yield f"{claim['row_key']} was claimed as the {number}. in {period_ms} ms, of {most}"
    number = sum(at_ms == now_ms for at_ms in begun)
    if number > max(1, most // 10):
        yield f"{claim['row_key']} was claimed as the {number}. of one instant, at {most} in {period_ms} ms"


def _past_the_breaker(
    flow: sqlite3.Row, claim: sqlite3.Row, later: Sequence[sqlite3.Row], jumped: bool
) -> Iterator[str]:
    """A claim in spite of the breaker is its one probe's; unless the same unit of work found the last probe seen."""
    turned = next((row for row in later if row["what"] == "flow"), None)
    if turned is not None and flow["breaker"] == "HALF_OPEN" and turned["breaker"] == "CLOSED":
        return
    key, state = claim["row_key"], flow["breaker"]
    if turned is None or (turned["breaker"], turned["probe_key"]) != ("HALF_OPEN", key):
        yield f"{key} was claimed while the breaker was {state}, and is not its probe"
    elif later[0] is not turned:
        yield f"{key} was claimed while the breaker was {state}, and it was not the only one"
    elif state == "HALF_OPEN" and claim["probe"] == "out" and flow["probe_key"] != key:
        yield f"{key} was claimed as a probe beside {flow['probe_key']}"
    elif not jumped and claim["at_ms"] < flow["breaker_at_ms"] + flow["open_ms"]:
        yield f"{key} was claimed as a probe too soon"


def _overheated(flow: sqlite3.Row) -> Iterator[str]:
    """A breaker that is CLOSED has not seen as much trouble as opens it."""
    troubled = 100 * (flow["unknown_calls"] + flow["failed_calls"]) >= flow["trouble_percent"] * flow["calls"]
    if (
        flow["breaker"] == "CLOSED"
        and flow["trouble_percent"]
        and 0 < flow["least_calls"] <= flow["calls"]
        and troubled
    ):
        yield f"the breaker is CLOSED after trouble with {flow['unknown_calls']} + {flow['failed_calls']} calls"


def _closed_unseen(
    flow: sqlite3.Row,
    turned: sqlite3.Row,
    calls: Sequence[Call],
    looks: Sequence[sqlite3.Row],
    decided: Callable[[str], bool],
) -> Iterator[str]:
    """A breaker closes when the upstream, asked about its probe, knew of it; or where nobody could or might ask."""
    key, since_ms = flow["probe_key"], flow["breaker_at_ms"]
    answers = {
        call.answer
        for call in calls
        if call.key == key and call.verb.startswith("observe") and since_ms <= call.at_ms <= turned["at_ms"]
    }
    good = {"confirmed", "duplicate"} if flow["verb"] == "call" else {"confirmed", "duplicate", "absent", "failed"}
    if answers & good or (flow["verb"] == "call" and (decided(key) or _held_since(looks, since_ms, turned["at_ms"]))):
        return
    yield f"the breaker closed, and its probe {key} was not seen ({', '.join(sorted(answers)) or 'nobody looked'})"


def _held_since(looks: Sequence[sqlite3.Row], since_ms: int, until_ms: int) -> bool:
    """Whether looks were held back at any time of that span."""
    states = [row for row in looks if row["what"] == "flow" and row["at_ms"] <= until_ms]
    before = [row for row in states if row["at_ms"] < since_ms][-1:]
    return any(
        row["paused"] or row["at_once"] or row["rate_count"] or row["trouble_percent"]
        for row in (*before, *(row for row in states if row["at_ms"] >= since_ms))
    )
