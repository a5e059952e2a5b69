"""Connectors to upstreams that can be called and, when they are asked, do not tell the truth or do not answer."""

from tape_celery.connectors import ObservationResult, register
from tape_celery.records import Effect
from tests.celery_wiring.upstream import Bank, Blind, ObservedBank, directory


class Unreachable(Bank):
    """No look gets through while there is an ``outage``."""

    def observe(self, effect: Effect) -> ObservationResult:
        if (directory() / "outage").exists():
            raise ConnectionError("the bank is away")
        return super().observe(effect)


class Slow(Bank):
    """Its list shows nothing that landed until it is ``listed``."""

    def observe(self, effect: Effect) -> ObservationResult:
        return super().observe(effect) if (directory() / "listed").exists() else ObservationResult("absent")


class Many(Bank):
    """It finds ten thousand records under one key."""

    def observe(self, effect: Effect) -> ObservationResult:
        found = [f"ref-{number}" for number in range(10_000)]
        return ObservationResult("duplicate", external_ref=f"ref-{effect.effect_key}", response={"duplicates": found})


class Both(Bank):
    """It books twice what it is asked once, and lists both records."""

    def observe(self, effect: Effect) -> ObservationResult:
        extra = [f"ref-{effect.effect_key}-again"]
        return ObservationResult("duplicate", external_ref=f"ref-{effect.effect_key}", response={"duplicates": extra})


register(Unreachable("unreachable"))
register(Slow("slow list"))
register(Many("many"))
register(Both("both"))
register(Blind("blind"))
register(ObservedBank("bank"))
register(ObservedBank("express", dispatch_queue="express"))
