"""How the demo looks at itself: the bank's own page, and the journal through the public surface of `Tape`."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from tape_celery.demo.screen import Frame, Happening
from tape_celery.demo.wires import CONNECTOR, TIMEOUT_SECONDS
from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus
from tape_celery.tape import Tape

_QUIET = {
    (EffectStatus.PENDING, EffectStatus.DISPATCHING),
    (EffectStatus.DISPATCHING, EffectStatus.CONFIRMED),
    (EffectStatus.PENDING, EffectStatus.CONFIRMED),
}
"""The changes that are as they should be: too many to tell."""


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """One call that the bank works on."""

    business_key: str
    script: str
    age_seconds: float

    @property
    def awaited(self) -> bool:
        """Whether the caller is still waiting for the answer."""
        return self.age_seconds < TIMEOUT_SECONDS


class Watch:
    """Looks at the bank and the journal, and remembers what changed in between."""

    def __init__(self, tape: Tape, bank_port: int, *, wires: int, seed: int) -> None:
        self._tape = tape
        self._bank_port = bank_port
        self._wires = wires
        self._seed = seed
        self._began = time.monotonic()
        self._bank: dict[str, Any] = {"in_flight": [], "received": 0, "booked": 0, "reversed": 0, "next": 0}
        self._happenings: list[Happening] = []
        self.effects: list[Effect] = []
        self.obligations: list[Obligation] = []

    @property
    def elapsed_seconds(self) -> float:
        """How long the demo has been going on."""
        return time.monotonic() - self._began

    def tell(self, text: str, business_key: str = "", *, loud: bool = False) -> None:
        """Add something that happened."""
        self._happenings.append(
            Happening(at_seconds=self.elapsed_seconds, business_key=business_key, text=text, loud=loud)
        )

    def look_at_bank(self) -> list[InFlight]:
        """Ask the bank what it is doing; returns the calls in flight."""
        connection = HTTPConnection("127.0.0.1", self._bank_port, timeout=5)
        connection.request("GET", f"/status?since={self._bank['next']}")
        self._bank = json.loads(connection.getresponse().read())
        connection.close()
        for event in self._bank["events"]:
            self.tell(f"bank: {event['text']}", event["business_key"])
        return [InFlight(**call) for call in self._bank["in_flight"]]

    def look_at_journal(self) -> None:
        """Read all effects and obligations again, and tell what changed."""
        before = {effect.effect_key: effect.status for effect in self.effects}
        self.effects = self._tape.effects(connector=CONNECTOR, limit=self._wires + 100)
        for effect in self.effects:
            was = before.get(effect.effect_key, EffectStatus.PENDING)
            if was is not effect.status and (was, effect.status) not in _QUIET:
                reason = f" ({effect.reason})" if effect.reason else ""
                self.tell(f"{was} → {effect.status}{reason}", effect.business_key)
        paid = {owed.obligation_key for owed in self.obligations if owed.status is ObligationStatus.COMPENSATED}
        known = {owed.obligation_key for owed in self.obligations}
        wires = {effect.effect_key: effect.business_key for effect in self.effects}
        self.obligations = self._tape.obligations()
        for owed in self.obligations:
            wire = wires.get(owed.effect_key, "")
            if owed.obligation_key not in known:
                self.tell(f"owed: the reversal of {owed.external_ref}", wire)
            if owed.status is ObligationStatus.COMPENSATED and owed.obligation_key not in paid:
                self.tell(f"paid: {owed.external_ref} is reversed", wire)

    def frame(self, phase: str) -> Frame:
        """What was seen last."""
        return Frame(
            elapsed_seconds=self.elapsed_seconds,
            phase=phase,
            seed=self._seed,
            wires=self._wires,
            effects=Counter(effect.status for effect in self.effects),
            obligations=Counter(owed.status for owed in self.obligations),
            in_flight=len(self._bank["in_flight"]),
            received=self._bank["received"],
            booked=self._bank["booked"],
            taken_back=self._bank["reversed"],
            happenings=tuple(self._happenings),
        )

    @property
    def all_over(self) -> bool:
        """Whether every wire is settled or waits for a person, and so is every obligation, and the bank is at rest."""
        return (
            len(self.effects) >= self._wires
            and all(effect.status.settled or effect.status is EffectStatus.STUCK for effect in self.effects)
            and all(owed.status in (ObligationStatus.COMPENSATED, ObligationStatus.STUCK) for owed in self.obligations)
            and not self._bank["in_flight"]
        )
