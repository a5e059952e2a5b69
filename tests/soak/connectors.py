"""What a run's workers import (``TAPE_CONNECTORS``): the ways to the bank at ``SOAK_BANK``.

Those that begin with "blind" can neither look nor undo.
"""

from __future__ import annotations

import os

from tape_celery.connectors import register
from tape_celery.connectors.http import HTTPConnector

BANK_VARIABLE = "SOAK_BANK"
WAYS = {"wire": "wires", "transfer": "transfers", "quote": "quotes"}
SEMANTICS = {"wire": "non_idempotent", "transfer": "idempotent", "quote": "observe_only"}
BLIND = ("blind-wire", "blind-transfer")
NAMES = (*WAYS, *BLIND)
TIMEOUT_SECONDS = {"wire": 1.0, "transfer": 2.5, "quote": 1.0}
"""A transfer may outlast its lease: it is renewed."""


def way_of(name: str) -> str:
    """Which of `WAYS` the connector ``name`` goes."""
    return name.removeprefix("blind-")


def connector(name: str, bank_url: str) -> HTTPConnector:
    """The connector of that name to the bank there."""
    way = way_of(name)
    sees = name not in BLIND
    return HTTPConnector(
        name=name,
        endpoint=f"{bank_url}/{WAYS[way]}",
        timeout_s=TIMEOUT_SECONDS[way],
        observe_endpoint=f"{bank_url}/lookup" if sees else "",
        compensate_endpoint=f"{bank_url}/reversals" if sees else "",
        compensation_semantics="idempotent",
    )


if there := os.environ.get(BANK_VARIABLE):
    for each in NAMES:
        register(connector(each, there))
