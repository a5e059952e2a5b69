"""A bank that refuses what it is told to refuse."""

from tape_celery.connectors import DispatchResult, register
from tape_celery.records import Effect
from tests.celery_wiring.upstream import Bank


class PickyBank(Bank):
    """One that says no where the request has ``refused``."""

    def dispatch(self, effect: Effect) -> DispatchResult:
        return DispatchResult("failed") if effect.request.get("refused") else super().dispatch(effect)


register(PickyBank("picky"))
