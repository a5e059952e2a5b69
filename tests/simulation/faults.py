"""How often what goes wrong, drawn from the seed: each seed has some kinds of faults and not others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random

from tape_celery.settings import Settings
from tests.simulation.themes import Theme

_MOST = {
    "kill": 0.015,
    "freeze": 0.03,
    "statement_lost": 0.01,
    "statement_slow": 0.05,
    "deadlock": 0.02,
    "commit_done_unheard": 0.06,
    "commit_not_done": 0.06,
    "commit_slow": 0.04,
    "store_away": 0.01,
    "hint_lost": 0.3,
    "hint_twice": 0.3,
    "hint_late": 0.3,
    "clock_jump": 0.3,
    "answer_lost": 0.7,
    "not_landed": 0.4,
    "refused": 0.5,
    "rubbish": 0.2,
    "twice": 0.5,
    "delayed": 0.5,
    "slow": 0.3,
    "look_useless": 0.3,
}
"""The highest rate of each kind: a share of the points, statements, hints or calls at which it may happen."""


@dataclass
class Faults:
    """The rate of each kind of fault in one seed."""

    kill: float
    freeze: float
    statement_lost: float
    statement_slow: float
    deadlock: float
    commit_done_unheard: float
    commit_not_done: float
    commit_slow: float
    store_away: float
    hint_lost: float
    hint_twice: float
    hint_late: float
    clock_jump: float
    answer_lost: float
    not_landed: float
    refused: float
    rubbish: float
    twice: float
    delayed: float
    slow: float
    look_useless: float

    @classmethod
    def drawn(cls, rng: Random, theme: Theme) -> Faults:
        """Half of the kinds, each at a rate of its own, and what the theme wants."""
        rates = {f.name: rng.random() * _MOST[f.name] if rng.random() < 0.5 else 0.0 for f in fields(cls)}
        return cls(**{name: max(rate, theme.at_least.get(name, 0.0)) for name, rate in rates.items()})

    @classmethod
    def none(cls) -> Faults:
        """Nothing goes wrong."""
        return cls(**{f.name: 0.0 for f in fields(cls)})

    def freeze_ms(self, rng: Random, settings: Settings) -> int:
        """Long enough for a lease to end, now and then for hours; never longer than an absence is watched."""
        usual = 1000 * (settings.lease_seconds + settings.settle_seconds)
        longest = rng.choice((2 * usual, 4 * usual, 8 * usual, 8 * usual, 3_000_000, 40_000_000))
        return int(longest * (0.2 + 0.8 * rng.random()))


def drawn_settings(rng: Random, theme: Theme) -> Settings:
    """Settings under which little time is much."""
    return Settings(
        lease_seconds=rng.choice(theme.leases),
        settle_seconds=rng.choice(theme.settling),
        sweep_seconds=5.0,
        relay_seconds=rng.choice((5.0, 30.0)),
        max_attempts=rng.choice(theme.max_attempts),
        observe_attempts=rng.choice((1, 3, 6)),
        backoff_base_seconds=rng.choice((0.1, 1.0)),
        chunk_size=rng.choice((1, 2, 20)),
    )
