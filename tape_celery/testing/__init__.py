"""For the tests of apps that use tape_celery: a scripted connector, time that a test moves, `drain`, a conformance kit.

The pytest plugin `tape_celery.testing.plugin` brings the fixtures; pytest finds it by its entry point. What is scripted
is the connector. The store, the engine and the sweep are the real ones: there is no fake of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tape_celery.testing.clock import TapeClock
    from tape_celery.testing.conformance import connector_suite
    from tape_celery.testing.conformance.report import Conformance, Row
    from tape_celery.testing.conformance.upstream import Answer, Booking, Request, Upstream
    from tape_celery.testing.draining import Drained, drain
    from tape_celery.testing.enqueued import assert_enqueued, refute_enqueued
    from tape_celery.testing.scripted import ScriptedConnector
    from tape_celery.testing.steps import (
        Step,
        confirm,
        duplicate,
        fail,
        fail_then_confirm,
        hang,
        lose_ack,
        lost_before,
        not_sent,
    )
    from tape_celery.testing.stores import borrowed, kept_registry

__all__ = [
    "Answer",
    "Booking",
    "Conformance",
    "Drained",
    "Request",
    "Row",
    "ScriptedConnector",
    "Step",
    "TapeClock",
    "Upstream",
    "assert_enqueued",
    "borrowed",
    "confirm",
    "connector_suite",
    "drain",
    "duplicate",
    "fail",
    "fail_then_confirm",
    "hang",
    "kept_registry",
    "lose_ack",
    "lost_before",
    "not_sent",
    "refute_enqueued",
]

_HOMES = {
    "clock": ("TapeClock",),
    "conformance": ("connector_suite",),
    "conformance.report": ("Conformance", "Row"),
    "conformance.upstream": ("Answer", "Booking", "Request", "Upstream"),
    "draining": ("Drained", "drain"),
    "enqueued": ("assert_enqueued", "refute_enqueued"),
    "scripted": ("ScriptedConnector",),
    "steps": (
        "Step", "confirm", "duplicate", "fail", "fail_then_confirm", "hang", "lose_ack", "lost_before", "not_sent",
    ),
    "stores": ("borrowed", "kept_registry"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
