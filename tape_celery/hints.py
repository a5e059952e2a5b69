"""In which order the hints of one pass go out, and how many keys a message has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """One effect that is to be hinted."""

    key: str
    connector: str
    priority: int


@dataclass(frozen=True)
class Hint:
    """One message."""

    connector: str
    keys: Sequence[str]
    priority: int


def grouped(wanted: Iterable[Wanted], size: int) -> Iterator[Hint]:
    """``wanted`` as messages of one connector and one priority, of at most ``size`` keys: what is urgent first."""
    groups: dict[tuple[int, str], list[str]] = {}
    for one in wanted:
        groups.setdefault((-one.priority, one.connector), []).append(one.key)
    for (negative, connector), keys in sorted(groups.items()):
        for start in range(0, len(keys), size):
            yield Hint(connector, keys[start : start + size], -negative)
