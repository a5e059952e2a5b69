"""A bank that refuses what it is told to refuse, and never says what became of what it is told to lose."""

from tape_celery.connectors import DispatchResult, ObservationResult, register
from tape_celery.records import Effect
from tests.celery_wiring.upstream import Bank


class PickyBank(Bank):
    """One that looks at ``answer`` in the request: ``refused``, ``lost``, or nothing."""

    def dispatch(self, effect: Effect) -> DispatchResult:
        answers = {"refused": DispatchResult("failed"), "lost": DispatchResult("unknown")}
        return answers.get(effect.request.get("answer", "")) or super().dispatch(effect)

    def observe(self, effect: Effect) -> ObservationResult:
        return ObservationResult("stuck") if effect.request.get("answer") == "lost" else super().observe(effect)


register(PickyBank("picky"))
