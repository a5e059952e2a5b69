"""Decorated effects over upstreams that can only be called: what looks and undoes is the effects' own."""

from typing import Any

from tape_celery import effect
from tape_celery.connectors import CompensationResult, ObservationResult, register
from tape_celery.records import Effect, Obligation
from tests.celery_wiring.upstream import Blind, ledger

register(Blind("wires"))


def look(record: Effect) -> ObservationResult:
    """The statement of the account, which this app can read where the connector cannot."""
    ledger().write(key=record.effect_key, token=record.token, event="looked")
    landed = ledger().entries("landed", record.effect_key)
    return ObservationResult("confirmed", landed[0]["ref"]) if landed else ObservationResult("absent")


def undo(obligation: Obligation) -> CompensationResult:
    """Book it back."""
    ledger().write(key=obligation.obligation_key, token=obligation.token, event="undone")
    return CompensationResult("compensated")


@effect(connector="wires", status_check=look, compensate=undo)
def wire(script: list[str]) -> dict[str, Any]:
    """Send money, as the script has it."""
    return {"script": script}
