"""Side effects that must not happen twice and must not get lost, on Celery.

The names are imported when they are first asked for: who needs one part, the pytest plugin for one, pays for no other.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tape_celery import connectors
    from tape_celery.authoring import effect, tape_effect
    from tape_celery.records import EffectStatus, Semantics
    from tape_celery.tape import Tape

__all__ = ["EffectStatus", "Semantics", "Tape", "connectors", "effect", "tape_effect"]
__version__ = "0.1.0"

_HOMES = {
    "EffectStatus": "records",
    "Semantics": "records",
    "Tape": "tape",
    "effect": "authoring",
    "tape_effect": "authoring",
}


def __getattr__(name: str) -> Any:
    if name == "connectors":
        return importlib.import_module("tape_celery.connectors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tape_celery.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
