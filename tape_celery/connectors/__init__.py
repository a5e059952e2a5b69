"""Connectors: one adapter for each upstream, and the registry that finds them by name."""

from tape_celery.connectors.base import (
    CompensationResult,
    DispatchResult,
    EffectConnector,
    ObservationResult,
    clear,
    get,
    names,
    register,
)

__all__ = [
    "CompensationResult",
    "DispatchResult",
    "EffectConnector",
    "ObservationResult",
    "clear",
    "get",
    "names",
    "register",
]
