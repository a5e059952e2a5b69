"""Signals of what effects, obligations and runs have come to, as Celery's own are.

    from tape_celery.signals import effect_stuck

    @effect_stuck.connect(sender="bank.wire")
    def page(sender, effect, before, **kwargs): ...

The sender is the connector's name (of a run: ``None``); ``before`` is the state that it was in. A signal is sent in the
process, and thread, that committed the change, right after the commit: mostly a worker's. What a receiver raises is
logged. At most once: a process that dies in between does not send it. What must not get lost is a webhook
(``tape_webhook_url``), or a callback of the effect (``link``, ``on_unknown``, ``on_stuck``).
"""

from celery.utils.dispatch import Signal

_OF_EFFECTS = {"effect", "before"}
_OF_OBLIGATIONS = {"obligation", "before"}
_OF_RUNS = {"run", "before"}

effect_confirmed = Signal(name="effect_confirmed", providing_args=_OF_EFFECTS)
effect_failed = Signal(name="effect_failed", providing_args=_OF_EFFECTS)
effect_cancelled = Signal(name="effect_cancelled", providing_args=_OF_EFFECTS)
effect_unknown = Signal(name="effect_unknown", providing_args=_OF_EFFECTS)
effect_stuck = Signal(name="effect_stuck", providing_args=_OF_EFFECTS)
effect_held = Signal(name="effect_held", providing_args=_OF_EFFECTS)
obligation_compensated = Signal(name="obligation_compensated", providing_args=_OF_OBLIGATIONS)
obligation_unknown = Signal(name="obligation_unknown", providing_args=_OF_OBLIGATIONS)
obligation_stuck = Signal(name="obligation_stuck", providing_args=_OF_OBLIGATIONS)
run_compensated = Signal(name="run_compensated", providing_args=_OF_RUNS)
run_cancelled = Signal(name="run_cancelled", providing_args=_OF_RUNS)
run_stuck = Signal(name="run_stuck", providing_args=_OF_RUNS)

BY_TYPE: dict[str, Signal] = {
    signal.name.replace("_", ".", 1): signal
    for signal in (
        effect_confirmed,
        effect_failed,
        effect_cancelled,
        effect_unknown,
        effect_stuck,
        effect_held,
        obligation_compensated,
        obligation_unknown,
        obligation_stuck,
        run_compensated,
        run_cancelled,
        run_stuck,
    )
}
"""As webhooks name what each tells of: ``effect.stuck``."""
