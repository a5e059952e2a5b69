"""A connector that does what a test says, and remembers everything that was asked of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult, ObservationStatus
from tape_celery.errors import ScriptError
from tape_celery.records import Effect, Obligation
from tape_celery.testing.ledger import Call, Landing, Ledger, Reversal
from tape_celery.testing.steps import Scripted, Step, confirm, flat

LIES: tuple[str, ...] = ("truth", "stuck", "raise", "absent", "failed")
"""What a look may be told to say."""

E = TypeVar("E", Call, Landing, Reversal)


class AnswerLost(Exception):
    """What a scripted call raises when its answer is lost."""


class ScriptedConnector:
    """The adapter of an upstream that is only a ledger.

    ``script``: one step for each call of `dispatch`, in the order of the calls, whatever is called; then every call
    confirms. `on` gives a business key a script of its own. Looks answer from the ledger, truthfully, unless `looks`
    says otherwise; the inverse undoes, unless `inverses` says otherwise.

    ``deduplicates``: the upstream books one idempotency key once. ``ledger``: a file, for tests in which several
    processes call one upstream; without it the ledger is in memory. ``clock``: epoch milliseconds, for `hidden_for` and
    the times of calls; the fixture gives it the store's clock. Other keywords become attributes
    (``total_seconds=5.0``). Thread-safe. Raises `ScriptError` for a step that does not exist.
    """

    def __init__(
        self,
        name: str = "bank.wire",
        script: Sequence[Scripted] = (),
        *,
        can_observe: bool = True,
        can_compensate: bool = True,
        observes_compensation: bool = True,
        deduplicates: bool = False,
        ledger: str | Path | None = None,
        clock: Callable[[], int] | None = None,
        **attributes: Any,
    ) -> None:
        self.name = name
        self.can_observe = can_observe
        self.can_compensate = can_compensate
        self.deduplicates = deduplicates
        self.clock = clock or (lambda: time.time_ns() // 1_000_000)
        if observes_compensation:
            self.observe_compensation = self._observe_compensation
        for attribute, value in attributes.items():
            setattr(self, attribute, value)
        self._steps = flat(tuple(script))
        self._own_steps: dict[str, list[Step]] = {}
        self._looks: list[str] = []
        self._inverses: list[Step] = []
        self._ledger = Ledger(None if ledger is None else Path(ledger))
        self._released = threading.Event()

    def __repr__(self) -> str:
        return f"ScriptedConnector({self.name!r})"

    # --- what a test says beforehand ---

    def script(self, *steps: Scripted) -> ScriptedConnector:
        """Add steps for the next calls of `dispatch`."""
        self._steps += flat(steps)
        return self

    def on(self, business_key: str, *steps: Scripted) -> ScriptedConnector:
        """Add steps for the calls of one business key; they take the place of `script`'s, and use up none of those."""
        self._own_steps.setdefault(business_key, []).extend(flat(steps))
        return self

    def looks(self, *answers: str) -> ScriptedConnector:
        """Say what the next looks answer: ``stuck``, ``raise``, ``absent``, ``failed``, or ``truth``."""
        for said in answers:
            if said not in LIES:
                raise ScriptError(f"a look says one of {', '.join(LIES)}, not {said!r}")
        self._looks += answers
        return self

    def inverses(self, *steps: Scripted) -> ScriptedConnector:
        """Add steps for the next calls of `compensate`; what ``lands`` there is the undoing."""
        self._inverses += flat(steps)
        return self

    def release(self) -> None:
        """End every `hang` at once, the coming ones too."""
        self._released.set()

    # --- what a test asks afterwards ---

    @property
    def calls(self) -> list[Call]:
        """Every call of `dispatch`, oldest first."""
        return [call for call in self._read(Call) if call.verb == "dispatch"]

    @property
    def asked(self) -> list[Call]:
        """Every look, oldest first."""
        return [call for call in self._read(Call) if call.verb == "observe"]

    @property
    def undone(self) -> list[Call]:
        """Every call of `compensate`, oldest first, whatever came of it."""
        return [call for call in self._read(Call) if call.verb == "compensate"]

    @property
    def landings(self) -> list[Landing]:
        """Every record that was ever made, oldest first."""
        return self._read(Landing)

    @property
    def reversals(self) -> list[Reversal]:
        """Every record that was undone, oldest first; one that was undone twice stands here twice."""
        return self._read(Reversal)

    def landed(self, business_key: str) -> list[Landing]:
        """The records of a business key that stand, without those that were undone."""
        gone = {reversal.ref for reversal in self.reversals}
        return [one for one in self.landings if one.business_key == business_key and one.ref not in gone]

    # --- what the engine calls ---

    def dispatch(self, effect: Effect) -> DispatchResult:
        """Play the next step."""
        with self._ledger.locked():
            entries = self._ledger.read()
            step = self._step_for(effect, entries)
            made = self._book(effect, step, [entry for entry in entries if isinstance(entry, Landing)])
            self._ledger.write(self._call("dispatch", effect.effect_key, effect, effect.request, step.name), *made)
        self._tell(step)
        if step.told == "confirmed":
            ref = made[0].ref if made else self._booked(effect, entries)[0].ref
            return DispatchResult("confirmed", ref, dict(step.response))
        if step.told == "unknown":
            return DispatchResult("unknown", error=dict(step.error) or {"reason": "the answer was lost"})
        retry_at_ms = 0 if step.retry_in is None else max(1, time.time_ns() // 1_000_000 + round(step.retry_in * 1000))
        return DispatchResult("failed", error=dict(step.error), retry_at_ms=retry_at_ms)

    def observe(self, effect: Effect) -> ObservationResult:
        """What the ledger knows of the effect's idempotency key, or what the script says instead."""
        with self._ledger.locked():
            entries = self._ledger.read()
            said = _nth(self._looks, _count(entries, "observe"), "truth")
            self._ledger.write(self._call("observe", effect.effect_key, effect, effect.request, said))
        if said == "raise":
            raise AnswerLost(f"{self.name} could not be asked about {effect.effect_key}")
        if said != "truth":
            told: ObservationStatus = said  # type: ignore[assignment]  # the rest of `LIES` are statuses
            return ObservationResult(told)
        gone = {entry.ref for entry in entries if isinstance(entry, Reversal)}
        seen = [one for one in self._booked(effect, entries) if one.visible_at_ms <= self.clock()]
        refs = [one.ref for one in seen if one.ref not in gone]
        if len(refs) < 2:
            return ObservationResult("confirmed", refs[0]) if refs else ObservationResult("absent")
        return ObservationResult("duplicate", refs[0], {"duplicates": refs[1:]})

    def compensate(self, obligation: Obligation) -> CompensationResult:
        """Undo one record, or what the script says instead."""
        with self._ledger.locked():
            entries = self._ledger.read()
            step = _nth(self._inverses, _count(entries, "compensate"), confirm())
            done = [Reversal(ref=obligation.external_ref, key=obligation.obligation_key,
                             idempotency_key=obligation.idempotency_key)] * step.lands  # fmt: skip
            call = self._call("compensate", obligation.obligation_key, obligation, obligation.payload, step.name)
            self._ledger.write(call, *done)
        self._tell(step)
        if step.told == "confirmed":
            return CompensationResult("compensated", dict(step.response))
        error = dict(step.error)
        if step.told == "unknown" and error.get("sent") is not False:
            error["ambiguous"] = True
        if step.told == "failed" and step.retry_in is None:
            error["final"] = True
        elif step.retry_in is not None:
            error["retry_at_ms"] = max(1, time.time_ns() // 1_000_000 + round(step.retry_in * 1000))
        return CompensationResult("failed", error=error)

    def _observe_compensation(self, obligation: Obligation) -> ObservationResult:
        with self._ledger.locked():
            entries = self._ledger.read()
            key, payload = obligation.obligation_key, obligation.payload
            self._ledger.write(self._call("observe_compensation", key, obligation, payload, "truth"))
        done = any(isinstance(entry, Reversal) and entry.ref == obligation.external_ref for entry in entries)
        return ObservationResult("confirmed" if done else "absent", obligation.external_ref)

    # --- the script ---

    def _step_for(self, effect: Effect, entries: Sequence[Any]) -> Step:
        calls = [entry.business_key for entry in entries if isinstance(entry, Call) and entry.verb == "dispatch"]
        own = self._own_steps.get(effect.business_key)
        if own is not None:
            return _nth(own, calls.count(effect.business_key), confirm())
        return _nth(self._steps, sum(key not in self._own_steps for key in calls), confirm())

    def _book(self, effect: Effect, step: Step, landed: Sequence[Landing]) -> list[Landing]:
        if self.deduplicates and self._booked(effect, landed):
            return []
        visible = self.clock() + round(step.hidden_for * 1000) if step.hidden_for else 0
        refs = [step.ref if step.ref and n == 0 else f"{self.name}-{len(landed) + n + 1}" for n in range(step.lands)]
        return [
            Landing(
                ref=ref,
                key=effect.effect_key,
                idempotency_key=effect.idempotency_key,
                business_key=effect.business_key,
                request=effect.request,
                visible_at_ms=visible,
            )
            for ref in refs
        ]

    def _booked(self, effect: Effect, entries: Sequence[Any]) -> list[Landing]:
        wanted = effect.idempotency_key
        return [entry for entry in entries if isinstance(entry, Landing) and entry.idempotency_key == wanted]

    def _call(self, verb: str, key: str, record: Effect | Obligation, request: dict[str, Any], step: str) -> Call:
        return Call(
            verb=verb,
            key=key,
            idempotency_key=record.idempotency_key,
            business_key=getattr(record, "business_key", ""),
            request=request,
            step=step,
            at_ms=self.clock(),
        )

    def _tell(self, step: Step) -> None:
        if step.hang:
            self._released.wait(step.hang)
        if step.told == "raises":
            raise AnswerLost(f"{self.name}: the answer was lost ({step.name})")

    def _read(self, kind: type[E]) -> list[E]:
        with self._ledger.locked():
            return [entry for entry in self._ledger.read() if isinstance(entry, kind)]


T = TypeVar("T")


def _nth(script: Sequence[T], position: int, otherwise: T) -> T:
    return script[position] if position < len(script) else otherwise


def _count(entries: Sequence[Any], verb: str) -> int:
    return sum(isinstance(entry, Call) and entry.verb == verb for entry in entries)
