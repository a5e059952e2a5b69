"""What callers ask for, drawn from the seed: effects of all kinds, and people who cancel, undo, and hint at random."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tape_celery import Tape
from tape_celery.errors import IntentUncertain, NotAllowed, StoreUnavailable
from tape_celery.intent import new_key
from tape_celery.records import EffectStatus
from tests.soak.bank import CALL_SCRIPTS, LOOK_SCRIPTS, UNDO_SCRIPTS
from tests.soak.connectors import BLIND, SEMANTICS, way_of
from tests.soak.verdict import Asked

CALLERS = 4
PATIENCE_SECONDS = 120.0
_CONNECTORS = [*["wire"] * 8, *["transfer"] * 6, *["quote"] * 2, *BLIND]
_RECENT = 200


@dataclass(frozen=True, kw_only=True)
class Request:
    """One effect that a caller wants."""

    key: str
    connector: str
    body: dict[str, Any]
    options: dict[str, Any]
    keywords: dict[str, Any]
    gives_up: bool
    """Whether an error that says that nothing was recorded is the end of it."""
    asks_twice: bool


class Load:
    """Callers and people, each in a thread of its own."""

    def __init__(self, tape: Tape, seed: int, *, rate: float, faults_on: Callable[[], bool]) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._tape = tape
        self._seed = seed
        self._rate = rate
        self._faults_on = faults_on
        self._accepted: set[str] = set()
        self._refused: set[str] = set()
        self._recent: deque[str] = deque(maxlen=_RECENT)

    @property
    def asked(self) -> Asked:
        """What callers were told."""
        return Asked(frozenset(self._accepted), frozenset(self._refused))

    def call(self, number: int, stop: threading.Event) -> None:
        """One caller, at its share of the rate, with pauses of random length."""
        rng = random.Random(f"{self._seed}:caller:{number}")
        while not stop.wait(rng.expovariate(self._rate / CALLERS)):
            self.ask(draw(rng, spoiled=self._faults_on()))

    def meddle(self, stop: threading.Event) -> None:
        """People cancel effects and want them undone; hints come that nobody needs."""
        rng = random.Random(f"{self._seed}:people")
        while not stop.wait(rng.expovariate(self._rate / 8)):
            keys = list(self._recent)
            if not keys:
                continue
            # It is over, or not yet: not allowed; or the store is away: whatever was done, the row tells.
            with contextlib.suppress(NotAllowed, StoreUnavailable):
                self._meddle_with(rng, keys)

    def _meddle_with(self, rng: random.Random, keys: list[str]) -> None:
        key = rng.choice(keys[-4:])
        match rng.choice(["cancel", "owe", "stray hints"]):
            case "cancel":
                self._tape.cancel(key, reason="changed my mind", actor="people")
                self.counts["cancelled by people"] += 1
            case "owe":
                effect = self._tape.get(rng.choice(keys))
                if effect and effect.status is EffectStatus.CONFIRMED and effect.connector in ("wire", "transfer"):
                    self._tape.owe(effect.effect_key, reason="taken back", actor="people")
                    self.counts["taken back by people"] += 1
            case "stray hints":
                self._tape.hint(rng.choice(["dispatch", "observe", "compensate"]), "", rng.sample(keys, len(keys) // 2))
                self.counts["stray hints"] += 1

    def ask(self, request: Request) -> None:
        """Ask for it until the answer is known, as the errors tell callers to do."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        uncertain = False
        while True:
            try:
                key = self._submit(request, request.key)
                break
            except IntentUncertain:
                self.counts["IntentUncertain"] += 1
                uncertain = True
            except StoreUnavailable:
                self.counts["StoreUnavailable"] += 1
                if request.gives_up and not uncertain:
                    self._refused.add(request.key)
                    self.counts["gave up"] += 1
                    return
            time.sleep(0.1)
            if time.monotonic() > give_up:
                self.errors.append(f"{request.key}: no answer within {PATIENCE_SECONDS:g} s")
                return
        if key != request.key:
            self.errors.append(f"{request.key}: asked for, and {key} came")
        self._accepted.add(key)
        self._recent.append(key)
        self.counts["asked for"] += 1
        if request.asks_twice:
            self._ask_again(request)

    def _ask_again(self, request: Request) -> None:
        """The same keys and request once more: the same effect comes back, or nobody knows, and it is not recorded."""
        with contextlib.suppress(IntentUncertain, StoreUnavailable):
            key = self._submit(request, new_key())
            self.counts["asked for twice"] += 1
            if key != request.key:
                self.errors.append(f"{request.key}: asked for again, and {key} came")

    def _submit(self, request: Request, task_id: str) -> str:
        arguments = (request.connector, request.body)
        handle = self._tape.effect.apply_async(arguments, request.keywords, task_id=task_id, **request.options)
        return str(handle.id)


def draw(rng: random.Random, *, spoiled: bool, plain: bool = False) -> Request:
    """One request.

    ``spoiled``: the bank may be told to misbehave. ``plain``: it changes something, can be looked at, starts at once,
    and whoever wants it never gives up.
    """
    connector = rng.choice(("wire", "transfer") if plain else _CONNECTORS)
    number = rng.getrandbits(64)
    options: dict[str, Any] = {}
    if not plain and rng.random() < 0.1:
        options["countdown"] = rng.uniform(0, 3)
    if not plain and rng.random() < 0.1:
        options["expires"] = rng.uniform(0.5, 8)
    return Request(
        key=new_key(),
        connector=connector,
        body={
            "amount": rng.randint(1, 10_000),
            "takes_seconds": round(rng.uniform(0, 0.3), 3),
            "script": _spoil(rng, CALL_SCRIPTS, spoiled),
            "look": _spoil(rng, LOOK_SCRIPTS, spoiled),
            "undo": _spoil(rng, UNDO_SCRIPTS, spoiled),
        },
        options=options,
        keywords={
            "semantics": SEMANTICS[way_of(connector)],
            "business_key": f"b-{number:016x}",
            "idempotency_key": f"i-{number:016x}",
            "run_id": f"run-{number % 1000}",
        },
        gives_up=not plain and rng.random() < 0.3,
        asks_twice=rng.random() < 0.05,
    )


def _spoil(rng: random.Random, scripts: tuple[str, ...], spoiled: bool) -> str:
    script = rng.choice(scripts)
    return script if spoiled and rng.random() < 0.4 else "well"
