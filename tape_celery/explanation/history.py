"""What happened: the journal as sentences. A call or look is one with its end; what repeats itself is summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tape_celery.explanation.wording import at, because, counted, plain, record, short, span, times
from tape_celery.records import JournalEntry

CALL_ENDS = frozenset({"confirmed", "compensated", "unsent", "retry", "unknown", "failed", "withheld", "lapsed"})
LOOK_ENDS = frozenset({"observed", "watched", "unobservable"})


@dataclass
class _Item:
    """One sentence to be: an entry, or a claim with its end."""

    at_ms: int
    sort: str
    """``call``, ``look``, or ``""`` for what stands by itself."""
    said: str
    actor: str = ""
    token: int = 0
    number: int = 0
    """Of a call: which attempt it is."""
    ended: bool = True
    repeats: bool = False
    """It decided nothing, so several in a row are one sentence."""
    last_ms: int = 0


def sentences(entries: Sequence[JournalEntry], *, is_inverse: bool = False) -> tuple[str, ...]:
    """The journal of one row, oldest first; ``is_inverse``: it is an obligation's."""
    return tuple(
        sentence
        for (_, repeats), group in groupby(_items(entries, is_inverse), key=lambda item: (item.sort, item.repeats))
        for sentence in _worded(list(group), repeats)
    )


def arrival(entries: Sequence[JournalEntry]) -> JournalEntry | None:
    """The entry that brought the row into the state in which it is."""
    return next((entry for entry in reversed(entries) if entry.from_status != entry.status), None)


def last_absent_ms(entries: Sequence[JournalEntry]) -> int | None:
    """When the last look said ``absent``, where that was the last that any look said."""
    looks = [entry for entry in entries if entry.evidence.get("event") == "Observed"]
    return looks[-1].at_ms if looks and looks[-1].evidence.get("status") == "absent" else None


def reported_ref(entries: Sequence[JournalEntry]) -> str:
    """The record that the upstream named last, whether the row took it over or not."""
    named = (entry.evidence.get("external_ref") for entry in reversed(entries) if entry.kind != "recorded")
    return next((str(ref) for ref in named if ref), "")


def _items(entries: Iterable[JournalEntry], is_inverse: bool) -> list[_Item]:
    items: list[_Item] = []
    attempts = 0
    for entry in entries:
        if entry.kind in ("claimed", "look"):
            is_call = entry.kind == "claimed"
            attempts += is_call
            items.append(
                _Item(entry.at_ms, "call" if is_call else "look", "no end yet", entry.actor, entry.token, attempts,
                      ended=False, last_ms=entry.at_ms)
            )  # fmt: skip
            continue
        sort = "call" if entry.kind in CALL_ENDS else "look" if entry.kind in LOOK_ENDS else ""
        begun = next((one for one in reversed(items) if one.sort == sort and not one.ended), None) if sort else None
        if begun is None or begun.token != entry.token:
            items.append(_Item(entry.at_ms, "", _alone(entry, is_inverse), entry.actor, last_ms=entry.at_ms))
            continue
        begun.ended, begun.last_ms = True, entry.at_ms
        begun.said = (_end_of_call if sort == "call" else _end_of_look)(entry, is_inverse) + _owes(entry)
        begun.repeats = entry.kind in ("unsent", "retry", "observed", "watched") and _decides_nothing(entry)
        if entry.kind in ("unsent", "withheld"):
            attempts -= 1
    return items


def _decides_nothing(entry: JournalEntry) -> bool:
    if entry.kind in ("unsent", "retry"):
        return entry.status == "PENDING"
    return entry.from_status == entry.status


def _worded(items: list[_Item], repeats: bool) -> Iterable[str]:
    if not repeats or len(items) == 1:
        return [_sentence(item) for item in items]
    first, last = items[0], items[-1]
    said = Counter(item.said for item in items)
    told = "; ".join(text if number == len(items) else f"{text} ({times(number)})" for text, number in said.items())
    between = f"between {at(first.at_ms)} and {at(last.last_ms)}"
    if first.sort == "look":
        return [f"Looked {times(len(items))} {between}; the upstream said: {told}."]
    return [f"Called {times(len(items))} {between}: {told}."]


def _sentence(item: _Item) -> str:
    by = short(item.actor)
    if item.sort == "":
        return f"{at(item.at_ms)}: {item.said}."
    took = f" after {span(item.last_ms - item.at_ms)}" if item.ended and item.last_ms >= item.at_ms + 100 else ""
    if item.sort == "call":
        return f"{at(item.at_ms)}: attempt {item.number}, by {by}:{took} {item.said}."
    return f"{at(item.at_ms)}: look, by {by}: {item.said}."


def _end_of_call(entry: JournalEntry, is_inverse: bool) -> str:
    facts = entry.evidence
    reason, it = because(facts.get("reason", "")), "the inverse" if is_inverse else "it"
    stopped = "; it was to stop, so it is CANCELLED" if entry.status == "CANCELLED" else ""
    match entry.kind:
        case "compensated":
            return "the upstream undid it"
        case "confirmed":
            ref = facts.get("external_ref", "")
            return "the upstream confirmed it" + (f" as {record(ref)}" if ref else "")
        case "unsent":
            return f"nothing was sent{reason}{stopped}"
        case "retry":
            may = f", and {it} may have landed" if facts.get("may_have_landed") else ""
            return f"refused for now{reason}{may}{stopped}"
        case "failed" if is_inverse:
            return f"the inverse failed{reason}"
        case "failed":
            return f"the upstream refused it{reason}"
        case "withheld":
            return f"not sent, because an earlier attempt may have {_done(is_inverse)} and its key may be forgotten"
        case "lapsed":
            again = ", and is sent again under the same key" if entry.status == "PENDING" else ""
            ended = at(facts.get("lease_until_ms") or entry.at_ms)
            lost = f"no answer until its lease ended at {ended} (the worker was killed, paused or lost)"
            return f"{lost}; it may have {_done(is_inverse)}{again}"
    if facts.get("status") == "failed" and not facts.get("may_have_landed"):
        return f"refused{reason}, but an earlier attempt may have {_done(is_inverse)}"
    return f"the answer was lost{reason}, so it may have {_done(is_inverse)}"


def _done(is_inverse: bool) -> str:
    return "undone it" if is_inverse else "landed"


def _end_of_look(entry: JournalEntry, is_inverse: bool) -> str:
    if entry.kind == "unobservable":
        return "nothing can ask this upstream" + _then(entry)
    facts = entry.evidence
    said = facts.get("status", "")
    if said == "absent" and entry.from_status == entry.status and entry.kind == "observed":
        return "absent, not settled yet"
    return _look_word(facts, said, is_inverse) + _then(entry)


def _look_word(facts: dict[str, Any], said: str, is_inverse: bool) -> str:
    ref = facts.get("external_ref", "")
    match said:
        case "confirmed" if is_inverse:
            return "it is undone"
        case "confirmed":
            return "it landed" + (f" as {record(ref)}" if ref else "")
        case "duplicate":
            extras = facts.get("duplicates")
            more = f", with {counted(len(extras), 'extra record')}" if extras else ""
            return "it landed more than once" + more
        case "failed":
            return "the inverse failed" if is_inverse else "it failed"
        case "absent":
            return "absent"
    return "no answer that helps"


def _then(entry: JournalEntry) -> str:
    return "" if entry.from_status == entry.status else f", so it is {entry.status}"


def _owes(entry: JournalEntry) -> str:
    refs = entry.evidence.get("owed") or []
    if not refs:
        return ""
    shown = ", ".join(record(ref) for ref in refs[:5]) + (f" and {len(refs) - 5} more" if len(refs) > 5 else "")
    return f"; owed from then on: the undoing of {shown}"


def _alone(entry: JournalEntry, is_inverse: bool) -> str:
    facts, by = entry.evidence, short(entry.actor)
    if facts.get("proposed_by"):
        by += f", confirming what {short(facts['proposed_by'])} had proposed,"
    reason = f": {short(facts['reason'])}" if facts.get("reason") else ""
    match entry.kind:
        case "recorded" if is_inverse:
            return f"owed ({facts.get('kind', '')}): the undoing of {record(facts.get('external_ref', ''))}{reason}"
        case "recorded":
            return f"recorded by {by}{_recorded(entry)}"
        case "resolved" if facts.get("verdict") == "observe":
            return f"{by} asked for another look{reason}"
        case "resolved":
            ref = f" as {record(facts['external_ref'])}" if facts.get("external_ref") else ""
            return f"{by} resolved it as {facts.get('verdict')}{ref}{reason}{_then(entry)}" + _owes(entry)
        case "cancelled" | "expired":
            what = f"{by} cancelled it{reason}" if entry.kind == "cancelled" else "its expiry passed"
            return what + (
                "; an earlier attempt may have landed, so it is UNKNOWN" if entry.status == "UNKNOWN" else ""
            )
        case "cancel requested":
            return f"{by} asked for it to be cancelled while it was under way{reason}"
        case "owed":
            return f"{by} asked for it to be undone{reason}"
        case "released":
            return f"{by} released it{reason}" + _then(entry)
        case "reissued":
            return f"{by} issued it again as effect {plain(facts.get('successor', ''))}{reason}"
        case "shared":
            return f"it was handed to run {plain(facts.get('run_id', ''))} too, by deduplication"
        case "late":
            return _late(entry, is_inverse)
    if entry.kind in CALL_ENDS:
        return _end_of_call(entry, is_inverse) + _owes(entry)
    if entry.kind in LOOK_ENDS:
        return f"a look by {by}: {_end_of_look(entry, is_inverse)}" + _owes(entry)
    return f"{short(entry.kind)}, by {by}{reason}{_then(entry)}"


def _recorded(entry: JournalEntry) -> str:
    facts = entry.evidence
    parts = [str(facts["semantics"])] if facts.get("semantics") else []
    if (due := facts.get("due_at_ms")) and due > entry.at_ms:
        parts.append(f"to be sent from {at(due)} on")
    if expires := facts.get("expires_at_ms"):
        parts.append(f"not after {at(expires)}")
    if earlier := facts.get("reissue_of"):
        parts.append(f"issued again for effect {plain(earlier)}")
    told = f" ({', '.join(parts)})" if parts else ""
    return told + (f"; held, because it {short(facts['reason'])}" if facts.get("similar_to") else "")


def _late(entry: JournalEntry, is_inverse: bool) -> str:
    facts = entry.evidence
    if facts.get("event") == "Observed":
        told = f"a look that came late said: {_look_word(facts, facts.get('status', ''), is_inverse)}"
    elif facts.get("event") == "Answered":
        word = "nothing was sent" if facts.get("sent") is False else facts.get("status", "")
        ref = f" as {record(facts['external_ref'])}" if facts.get("external_ref") else ""
        told = f"an answer that came late said: {word}{ref}{because(facts.get('reason', ''))}"
    else:
        told = f"{short(entry.actor)} came late with what its claim had ended in"
    return told + (_then(entry) or "; its state stays") + _owes(entry)
