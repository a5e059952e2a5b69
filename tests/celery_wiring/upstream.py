"""Connectors to an upstream that is a file (`ledger`), told by each request what is to go wrong.

``request["script"]`` lists what the first call of an effect does (or of an inverse: ``request["undo_script"]``), step
by step; every later call just lands. A call that gets through its script is confirmed.
"""

import ctypes
import os
import resource
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import time_machine

from tape_celery.connectors import CompensationResult, DispatchResult, ObservationResult
from tape_celery.records import Effect, Obligation, Semantics
from tests.celery_wiring.ledger import Ledger


def directory() -> Path:
    """Where the ledger lies, and the gates that a test opens."""
    return Path(os.environ["BANK"])


def ledger() -> Ledger:
    return Ledger(directory() / "ledger")


class Blind:
    """An upstream that can only be called."""

    def __init__(self, name: str, **attributes: Any) -> None:
        self.name = name
        for attribute, value in attributes.items():
            setattr(self, attribute, value)

    def dispatch(self, effect: Effect) -> DispatchResult:
        key, token = effect.effect_key, effect.token
        first = not ledger().entries("called", key)
        ledger().write(key=key, token=token, event="called")

        def land() -> None:
            def same(line: dict[str, Any]) -> bool:
                idempotent = effect.semantics is Semantics.IDEMPOTENT
                return idempotent and line["event"] == "landed" and line["key"] == key

            ledger().write_once(same, key=key, token=token, event="landed", ref=f"ref-{key}")

        perform(effect.request.get("script", ["land"]) if first else ["land"], land)
        return DispatchResult("confirmed", external_ref=f"ref-{key}", response={"balance": 7})


class Bank(Blind):
    """An upstream that can be asked, and asked to undo."""

    def observe(self, effect: Effect) -> ObservationResult:
        ledger().write(key=effect.effect_key, token=effect.token, event="observed")
        landed = ledger().entries("landed", effect.effect_key)
        if not landed:
            return ObservationResult("absent")
        if len(landed) > 1:
            return ObservationResult("duplicate", external_ref=landed[-1]["ref"])
        return ObservationResult("confirmed", external_ref=landed[0]["ref"])

    def compensate(self, obligation: Obligation) -> CompensationResult:
        key, token = obligation.obligation_key, obligation.token
        first = not ledger().entries("asked to undo", key)
        ledger().write(key=key, token=token, event="asked to undo")

        def undo() -> None:
            def same(line: dict[str, Any]) -> bool:
                idempotent = getattr(self, "compensation_semantics", "") == "idempotent"
                return idempotent and line["event"] == "undone" and line["key"] == key

            ledger().write_once(same, key=key, token=token, event="undone", ref=obligation.external_ref)

        script = obligation.payload["request"].get("undo_script", ["land"])
        perform(script if first else ["land"], undo)
        return CompensationResult("compensated")


class ObservedBank(Bank):
    """A bank that can also tell whether it undid something."""

    def observe_compensation(self, obligation: Obligation) -> ObservationResult:
        undone = ledger().entries("undone", obligation.obligation_key)
        return ObservationResult("confirmed" if undone else "absent")


def perform(script: Sequence[str], land: Any) -> None:
    """Do the steps of one call."""
    for step in script:
        act, _, argument = step.partition(":")
        match act:
            case "land":
                land()
            case "wait":
                _wait_for_gate(argument)
            case "outlive":
                ctypes.CDLL(None).prctl(1, 0)  # PR_SET_PDEATHSIG: Celery's children die with their parent, on Linux
            case "raise":
                raise RuntimeError("the connection broke")
            case "exit":
                raise SystemExit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "os_exit":
                os._exit(9)
            case "kill9":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segfault":
                ctypes.string_at(0)
            case "memory":
                most = psutil.Process().memory_info().vms + 100_000_000
                resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
                bytearray(1_000_000_000)
            case "thread":
                threading.Timer(0.3, land).start()
            case "clock":
                time_machine.travel(time.time() + float(argument)).start()
            case _:
                raise AssertionError(f"no such step: {step}")


def _wait_for_gate(name: str) -> None:
    """Wait until the test has opened the gate; a minute at most, longer than any test."""
    for _ in range(6000):
        if (directory() / name).exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"the gate {name} was never opened")
