"""Whatever has happened to a row, its explanation says something, and lists the acts that the store would take."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tape_celery.connectors.base import DispatchResult
from tape_celery.errors import NoSuchRun, NotAllowed, RunClosed, TapeError
from tape_celery.records import Effect, Obligation
from tape_celery.store import inspection
from tests.explanation.acting import listed
from tests.state.stage import CONFIRMED, FAILED, LOST, MAY_HAVE, RETRY, UNSENT, Stage, comp, obs

STEPS = 140
CALLS = [CONFIRMED, FAILED, LOST, LOST, RETRY, UNSENT, MAY_HAVE, DispatchResult("confirmed", "ref-2"), ValueError("no")]
LOOKS = [obs("confirmed", "ref-1"), obs("absent"), obs("absent"), obs("failed"), obs("stuck"), RuntimeError("lookup"),
         obs("duplicate", "ref-1", duplicates=["ref-2", ""]), obs("duplicate", "ref-3")]  # fmt: skip
INVERSES = [
    comp("compensated"),
    comp("failed"),
    comp("failed", final=True),
    comp("failed", ambiguous=True),
    OSError("x"),
]


class History:
    """Things that happen to a few effects of one store, at random."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self.stage, self.rng, self.keys = stage, rng, list[str]()

    def step(self) -> str:
        """Let one thing happen; returns the key of the row that it happened to."""
        if len(self.keys) < 3 or self.rng.random() < 0.12:
            return self._recorded()
        key, debts = self.rng.choice(self.keys), self.stage.tape.obligations()
        happening: list[Callable[[str], Any]] = [self._called, self._looked, self._claimed, self._asked, self._time]
        if debts and self.rng.random() < 0.3:
            key, happening = self.rng.choice(debts).obligation_key, [self._undone, self._asked]
        # What a state does not allow is what the lists of acts are about.
        with suppress(NotAllowed, RunClosed, NoSuchRun):
            self.rng.choice(happening)(key)
        return key

    def _recorded(self) -> str:
        options: dict[str, Any] = {"max_attempts": self.rng.choice([1, 2, 5])}
        if self.rng.random() < 0.3:
            options["ordering_key"] = "turn"
        if self.rng.random() < 0.3:
            options["hold_similar"] = {"fields": ["amount"], "within": 600}
        if self.rng.random() < 0.4:
            options["run_id"] = self.rng.choice(["run-1", "run-2"])
        try:
            semantics = self.rng.choice(["non_idempotent", "idempotent", "observe_only"])
            self.keys.append(self.stage.record(semantics, **options))
        except RunClosed:
            self.keys.append(self.stage.record())
        return self.keys[-1]

    def _called(self, key: str) -> None:
        answer = self.rng.choice(CALLS)
        if self.rng.random() < 0.2:
            answer = self.stage.meanwhile(self.rng.choice([self.stage.lapse, lambda: self._asked(key)]), answer)
        self.stage.dispatch(key, answer)

    def _looked(self, key: str) -> None:
        self.stage.connector.can_observe = self.rng.random() < 0.85
        self.stage.observe(key, self.rng.choice(LOOKS))
        self.stage.connector.can_observe = True

    def _claimed(self, key: str) -> None:
        effect = self.stage.get(key)
        if effect.status == "PENDING" and not effect.ordering_key and effect.run_id not in ("run-1", "run-2"):
            self.stage.move_time(61)
            if self.stage.get(key).expires_at_ms is None:
                self.stage.claim(key)

    def _undone(self, key: str) -> None:
        self.stage.compensate(key, self.rng.choice(INVERSES))

    def _asked(self, key: str) -> None:
        tape, why = self.stage.tape, {"reason": "because", "actor": "ann"}
        acts: list[Callable[[], Any]] = [
            *(
                lambda verdict=verdict: tape.resolve(key, verdict, **why)
                for verdict in ("confirmed", "failed", "observe")
            ),
            lambda: tape.cancel(key, **why),
            lambda: tape.release(key, **why),
            lambda: tape.reissue(key, **why),
            lambda: tape.owe(key, **why),
        ]
        if self.rng.random() < 0.1:
            acts = [lambda: tape.compensate_run("run-1", **why), lambda: tape.cancel_run("run-2", **why)]
        # Another effect may have the business key, or an obligation knows no such act.
        with suppress(TapeError):
            self.rng.choice(acts)()

    def _time(self, key: str) -> None:
        self.stage.move_time(self.rng.choice([1, 40, 70, 4_000]))
        self.stage.tape.sweep()


def row_of(stage: Stage, key: str) -> Effect | Obligation:
    row = stage.tape.get(key) or inspection.get_obligation(stage.tape.database, key)
    assert row is not None
    return row


def test_every_row_of_a_random_history_is_explained(stage: Stage, rng: random.Random) -> None:
    """After each step the row that it was about, and at the end all of them."""
    history = History(stage, rng)
    states = set()
    for _ in range(STEPS):
        states.add(explained(stage, history.step()))
    for row in (*stage.tape.effects(limit=1000), *stage.tape.obligations()):
        states.add(explained(stage, row.obligation_key if isinstance(row, Obligation) else row.effect_key))
    assert len(states) >= 6, f"it hardly got anywhere: {states}"


def explained(stage: Stage, key: str) -> str:
    """Check the explanation of one row; returns its state."""
    told, row = stage.tape.explain(key), row_of(stage, key)
    assert told.headline.endswith((".", "?"))
    assert told.why
    assert told.next
    assert told.happened
    assert (told.version, told.status) == (row.version, row.status)
    said = {act.name: "refused" if act.when.startswith("Refused") else "taken" for act in told.acts}
    assert said == listed(stage, key), told
    return f"{told.kind} {told.status}"
