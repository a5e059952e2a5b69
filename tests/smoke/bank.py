"""The bank that the shop pays through: every landing is a record of its own, with its own reference."""

from typing import Any

from tape_celery.connectors import DispatchResult, ObservationResult, register
from tape_celery.records import Effect
from tests.celery_wiring.upstream import ObservedBank, ledger, perform


class Bank(ObservedBank):
    """An upstream that can be asked, and asked to undo; what landed twice it lists as duplicates."""

    def dispatch(self, effect: Effect) -> DispatchResult:
        key = effect.effect_key
        first = not ledger().entries("called", key)
        ledger().write(key=key, token=effect.token, event="called")
        refs: list[str] = []

        def land() -> None:
            refs.append(f"{key}.{effect.token}.{len(refs)}")
            ledger().write(key=key, token=effect.token, event="landed", ref=refs[-1])

        perform(effect.request.get("script", ["land"]) if first else ["land"], land)
        return DispatchResult("confirmed", external_ref=refs[0])

    def observe(self, effect: Effect) -> ObservationResult:
        ledger().write(key=effect.effect_key, token=effect.token, event="observed")
        landed = ledger().entries("landed", effect.effect_key)
        if not landed:
            return ObservationResult("absent")
        first, *more = [line["ref"] for line in landed]
        extra: dict[str, Any] = {"response": {"duplicates": more}} if more else {}
        return ObservationResult("duplicate" if more else "confirmed", external_ref=first, **extra)


def open_bank() -> None:
    """Register the connectors, also in a process that has forgotten them."""
    register(Bank("bank"))
    register(Bank("patient", total_seconds=60.0))  # its calls outlast a lease, and are renewed
    register(Bank("express", total_seconds=60.0, dispatch_queue="express"))


open_bank()
