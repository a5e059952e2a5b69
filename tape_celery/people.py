"""Who is a person in the journal, and who may do what on the pages: roles of people, each for some connectors. Pure.

The roles hold people who come through Flower. Whoever has the store's own password (the command line, an app, a
worker) can do what the store can, and is held by the database's roles alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

HUMAN = "human:"
"""What the actor of a person begins with: of who acts by the command line or in Flower, or for whom an app says so."""


def human(name: str) -> str:
    """The actor that a person of this name is in the journal; one that is named so already stays the same."""
    bare = name.strip()
    while is_human(bare):
        bare = bare[len(HUMAN) :].strip()
    return HUMAN + bare


def is_human(actor: str) -> bool:
    """Whether it is a person's."""
    return actor[: len(HUMAN)].lower() == HUMAN


def is_same_person(one: str, other: str) -> bool:
    """Whether two actors are one person, however the name was typed, and whether as ``human:…`` or not."""
    return _folded(one) == _folded(other)


def _folded(actor: str) -> str:
    return human(" ".join(unicodedata.normalize("NFKC", actor).casefold().split()))


class Role(IntEnum):
    """What somebody may do; each may do what the ones before it may."""

    VIEWER = 1
    """Looks."""
    OPERATOR = 2
    """Acts, proposes what takes a second person, and takes back what he proposed himself."""
    APPROVER = 3
    """Confirms and turns down what others proposed."""


@dataclass(frozen=True)
class Person:
    """The role of somebody, and the connectors that he has it for: names, with ``*`` for any part of one."""

    role: Role
    connectors: tuple[str, ...] = ("*",)

    @property
    def sees_all(self) -> bool:
        """Whether there is no connector, of today or of tomorrow, that he does not see."""
        return "*" in self.connectors

    def sees(self, connector: str) -> bool:
        """Whether the connector, and what is of it, is there for him."""
        return is_within(self.connectors, connector)

    def sees_each(self, connectors: Collection[str]) -> bool:
        """Whether each of them is."""
        return all(map(self.sees, connectors))


People = Mapping[str, Person]
"""By name, as Flower's login knows it; nobody named: whoever has a login may do the same."""

ANYBODY = Person(Role.APPROVER)
NOT_NAMED = "tape_people does not name you, so there is nothing here that you may see or do."


def person(people: People, name: str) -> Person | None:
    """Who ``name`` is, compared exactly; ``None``: nobody, who may do nothing."""
    return people.get(name) if people else ANYBODY


def why_not(who: Person, act: str, *, own: bool = False) -> str:
    """Why he may not do an act of the pages (``own``: to a proposal of his own); ``""``: his role allows it."""
    approves = act == "confirm" or (act == "withdraw" and not own)
    needed = Role.APPROVER if approves else Role.OPERATOR
    if who.role >= needed:
        return ""
    return f"Your role, {who.role.name.lower()}, does not allow that: it takes an {needed.name.lower()}."


def is_within(connectors: Collection[str], name: str) -> bool:
    """Whether the connector ``name`` is one of these, in which ``*`` stands for any part of a name."""
    return "*" in connectors or any(_pattern(one).fullmatch(name) for one in connectors)


@lru_cache(maxsize=1000)
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)
