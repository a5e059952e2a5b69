"""What a seed dwells on: most of what is worth seeing needs several rare things at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True)
class Theme:
    """What is likelier in one seed than in others."""

    name: str
    at_least: Mapping[str, float] = field(default_factory=dict)
    """Rates of faults."""
    semantics: tuple[str, ...] = ("non_idempotent",) * 4 + ("idempotent",) * 4 + ("observe_only",)
    max_attempts: tuple[int, ...] = (1, 2, 3, 5)
    observes: float = 0.75
    """How likely a connector is to be able to look."""
    compensates: float = 0.75
    inverse_is_idempotent: float = 0.5
    windows: tuple[float, ...] = (86_400.0, 300.0, 60.0)
    """For how many seconds the upstream may say that it remembers a key."""
    leases: tuple[float, ...] = (3.0, 10.0, 30.0)
    settling: tuple[float, ...] = (0.0, 5.0, 20.0)
    person: tuple[int, ...] = (0, 3, 8)
    """How often a person may come by."""
    every_ms: int = 20_000
    """How long at most until the person comes by again."""
    cancels: float = 0.6
    """How likely a person is to cancel what is not over."""
    owes: float = 1.0
    """How likely a person is to have undone what is CONFIRMED."""
    orders: tuple[int, ...] = (2, 3, 4)
    """How many orders there may be."""
    within_ms: int = 30_000
    """Until when they come."""
    workers: tuple[int, ...] = (2, 2, 3)
    """How many workers there may be."""
    limited: bool = False
    """Whether an operator limits connectors."""
    about: tuple[str, ...] = ("", "", "invoice-1", "invoice-2")
    """Their business keys."""
    ordered: float = 0.0
    """How likely an order is to have an ordering key."""
    linked: float = 0.0
    """How likely it is to have callbacks."""
    in_run: float = 0.0
    """How likely it is to belong to the run that a person may close."""
    closes: float = 0.0
    """How likely a person is to close that run, for each effect that is CONFIRMED by then."""
    reissues: float = 0.0
    """How likely a person is to issue again what ended in vain."""


THEMES = (
    Theme("anything", ordered=0.2, linked=0.2, in_run=0.2, closes=0.2, reissues=0.3),
    Theme(
        "duplicates",
        at_least={"twice": 0.6, "answer_lost": 0.6, "kill": 0.012},
        observes=1.0,
        compensates=1.0,
    ),
    Theme(
        "inverses",
        at_least={"kill": 0.02, "answer_lost": 0.15},
        max_attempts=(2, 3, 5),
        compensates=1.0,
        inverse_is_idempotent=0.3,
        leases=(3.0, 10.0),
        person=(12, 20),
        every_ms=5_000,
        cancels=0.2,
    ),
    Theme(
        "repetitions",
        at_least={"answer_lost": 0.4, "refused": 0.3, "hint_lost": 0.3, "commit_slow": 0.02},
        semantics=("idempotent",),
        max_attempts=(3, 5),
        observes=0.3,
        windows=(40.0, 20.0, 20.0),
        leases=(3.0, 10.0),
        person=(3, 8),
        cancels=0.7,
    ),
    Theme(
        "the stopped",
        at_least={"freeze": 0.012, "answer_lost": 0.3, "delayed": 0.4},
        semantics=("non_idempotent", "idempotent"),
        max_attempts=(2, 3),
        settling=(5.0, 20.0),
        observes=0.9,
    ),
    Theme(
        "the store",
        at_least={
            "commit_not_done": 0.06,
            "commit_done_unheard": 0.06,
            "statement_slow": 0.03,
            "deadlock": 0.02,
            "hint_twice": 0.5,
        },
        leases=(3.0, 10.0),
    ),
)
TOGETHER = (
    Theme(
        "one after another",
        at_least={"answer_lost": 0.3, "kill": 0.005, "commit_done_unheard": 0.03},
        semantics=("non_idempotent", "idempotent"),
        orders=(3, 4),
        about=("", "", "", "invoice-1"),
        ordered=0.9,
        linked=0.3,
        reissues=0.5,
        person=(3, 8),
    ),
    Theme(
        "runs",
        at_least={"kill": 0.01, "commit_done_unheard": 0.03, "hint_lost": 0.2},
        max_attempts=(2, 3, 5),
        compensates=1.0,
        orders=(3, 4),
        about=("", "", "", "invoice-1"),
        in_run=0.9,
        closes=0.3,
        linked=0.4,
        person=(12,),
        every_ms=8_000,
        cancels=0.1,
        owes=0.2,
    ),
)

LIMITS = Theme(
    "limits",
    at_least={"slow": 0.8, "answer_lost": 0.25, "refused": 0.15, "kill": 0.003},
    orders=(5, 6, 8),
    observes=0.9,
    about=("", "", "", "invoice-1"),
    within_ms=4_000,
    workers=(3, 4),
    leases=(3.0, 10.0),
    settling=(0.0, 5.0),
    person=(0, 0, 3),
    owes=0.5,
    limited=True,
)
LIMITED = 0.05
"""In how many seeds."""

_DRAWN = (*THEMES, *THEMES, *TOGETHER)


def drawn_theme(seed: int, rng: Random) -> Theme:
    """Any of them; those of effects that have to do with each other take more time to play, and come half as often.

    Limits take more time still. Whether it is theirs another chance says, so that the other seeds stay what they are.
    """
    drawn = rng.choice(_DRAWN)
    return LIMITS if Random(f"limits of {seed}").random() < LIMITED else drawn


def seeds_about(name: str) -> Iterator[int]:
    """The seeds that dwell on the theme of that name."""
    return (seed for seed in itertools.count() if drawn_theme(seed, Random(seed)).name == name)
