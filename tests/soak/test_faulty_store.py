"""A call of the store that fails, or that is done and not answered, neither loses nor doubles an effect."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from tape_celery import Tape, connectors
from tape_celery.connectors import CompensationResult, DispatchResult, ObservationResult
from tape_celery.errors import IntentUncertain, NotAllowed
from tape_celery.records import Effect, Obligation, Semantics
from tests.soak import faulty_store
from tests.soak.faulty_store import Faults, again_after_ours
from tests.soak.verdict import Asked, Book, judge

EFFECTS = 250
MOST_ROUNDS = 60
CHUNK = 3
"""Few keys a hint, so that there are many calls of the store."""
SCRIPTS = ("lands", "lands", "lands", "loses the answer", "never comes", "lands twice", "is refused", "is busy")


class ScriptedBank:
    """An upstream in this process that does at an effect's first call what the request says, and keeps a ledger."""

    name = "scripted"
    compensation_semantics = "idempotent"

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def dispatch(self, effect: Effect) -> DispatchResult:
        key = effect.effect_key
        script = "lands" if self.of("called", key) else effect.request["script"]
        self.lines.append({"event": "called", "key": key, "token": effect.token})
        if script == "is refused":
            return DispatchResult("failed", error={"message": "refused"})
        if script == "is busy":
            return DispatchResult("failed", retry_at_ms=1)
        if script == "never comes":
            raise ConnectionError("it never came")
        refs = [self._book(effect) for _ in range(2 if script == "lands twice" else 1)]
        if script in ("loses the answer", "lands twice"):
            raise ConnectionError("the answer was lost")
        return DispatchResult("confirmed", external_ref=refs[0])

    def observe(self, effect: Effect) -> ObservationResult:
        refs = self.of("booked", effect.effect_key)
        if not refs:
            return ObservationResult("absent")
        if len(refs) == 1:
            return ObservationResult("confirmed", external_ref=refs[0])
        return ObservationResult("duplicate", external_ref=refs[0], response={"duplicates": refs[1:]})

    def compensate(self, obligation: Obligation) -> CompensationResult:
        ref, key = obligation.external_ref, obligation.obligation_key
        if not self.of("reversed", key):
            self.lines.append({"event": "reversed", "key": key, "ref": ref})
        return CompensationResult("compensated")

    def of(self, event: str, key: str) -> list[str]:
        return [line.get("ref", "") for line in self.lines if line["event"] == event and line["key"] == key]

    def _book(self, effect: Effect) -> str:
        booked = self.of("booked", effect.effect_key)
        if booked and effect.semantics is Semantics.IDEMPOTENT:
            return booked[0]
        ref = f"ref-{effect.effect_key}-{len(booked)}"
        self.lines.append({"event": "booked", "key": effect.effect_key, "ref": ref})
        return ref


@pytest.fixture
def bank() -> Iterator[ScriptedBank]:
    """The scripted bank, registered for this test."""
    before = {name: connectors.get(name) for name in connectors.names()}
    connectors.clear()
    yield connectors.register(ScriptedBank())
    connectors.clear()
    for name, connector in before.items():
        connectors.register(connector, name)


@pytest.mark.parametrize("chance", [0.01, 0.05])
def test_effects_settle_and_the_ledger_is_exact_while_the_store_fails(
    store_url: str, bank: ScriptedBank, rng: random.Random, chance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a hundred calls of the store fails before it is executed, and one in a hundred after; then one in 20."""
    monkeypatch.setattr("tape_celery.engine.time.sleep", lambda seconds: None)  # between two tries of a seal
    app = Celery("faulty", broker="memory://", set_as_current=False)
    tape = Tape(app, store_url=store_url, chunk_size=CHUNK, settle_seconds=2.0, absence_watch=(5.0,), max_attempts=8)
    tape.migrate()
    with faulty_store.installed(Faults(rng.getrandbits(64), chance=chance)) as faults:
        accepted = {_submit(tape, number, rng) for number in range(EFFECTS)}
        for key in rng.sample(sorted(accepted), EFFECTS // 10):
            _act(lambda key=key: tape.cancel(key, reason="changed my mind", actor="test"))
        _settle(tape)
        for effect in rng.sample(again_after_ours(lambda: tape.effects(status="CONFIRMED", limit=1000)), EFFECTS // 10):
            _act(lambda effect=effect: tape.owe(effect.effect_key, reason="taken back", actor="test"))
        _settle(tape)

    verdict = judge(Asked(frozenset(accepted)), tape.effects(limit=10_000), tape.obligations(), Book(bank.lines))
    tape_audit = tape.audit()
    tape.database.close()
    print(faults.counts, verdict.effects, verdict.obligations)
    assert (verdict.errors, verdict.stuck, tape_audit) == ([], [], [])
    assert min(faults.counts["before"], faults.counts["after"]) >= 3, "too few faults to show anything"


def _submit(tape: Tape, number: int, rng: random.Random) -> str:
    request = {"number": number, "script": rng.choice(SCRIPTS)}
    semantics = rng.choice(["non_idempotent", "idempotent"])
    key = f"effect-{number:04d}"

    def submit() -> str:
        handle = tape.effect.apply_async(
            ("scripted", request), {"semantics": semantics, "idempotency_key": key}, task_id=key
        )
        return str(handle.id)

    while True:
        try:
            return str(again_after_ours(submit))
        except IntentUncertain:
            continue  # submitting again under its key is safe


def _act(act: Callable[[], Any]) -> None:
    # It is over; or it was done, the answer was lost, and it is not allowed twice.
    with contextlib.suppress(NotAllowed):
        again_after_ours(act)


def _settle(tape: Tape) -> None:
    """Run every verb over all that is not settled, and move the clock on, until nothing is."""
    for _ in range(MOST_ROUNDS):
        again_after_ours(tape.sweep)
        effects = again_after_ours(lambda: tape.effects(limit=10_000))
        moving = [effect.effect_key for effect in effects if effect.sweep_at_ms is not None]
        for start in range(0, len(moving), CHUNK):
            for verb in (tape.dispatch, tape.observe):
                again_after_ours(lambda keys=moving[start : start + CHUNK], verb=verb: verb(*keys))
        owed = [o.obligation_key for o in again_after_ours(tape.obligations) if o.sweep_at_ms is not None]
        for start in range(0, len(owed), CHUNK):
            again_after_ours(lambda keys=owed[start : start + CHUNK]: tape.compensate(*keys))
        if not moving and not owed:
            return
        tape.database.shift_ms += 15_000
    raise AssertionError(f"not settled after {MOST_ROUNDS} rounds: {moving[:5]} {owed[:5]}")
