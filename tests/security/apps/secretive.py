"""Connectors with secrets out of the environment: in headers, one by reference, in a URL, and in an exception."""

from __future__ import annotations

import os
from typing import Any

from tape_celery.connectors import register
from tape_celery.connectors.base import DispatchResult, ObservationResult
from tape_celery.connectors.http import HTTPConnector

URL, TOKEN = os.environ["BANK_URL"], os.environ["BANK_TOKEN"]


class Clumsy:
    """Raises what a client library likes to raise."""

    name = "clumsy"

    def dispatch(self, effect: Any) -> DispatchResult:
        raise ConnectionError(f"POST https://user:{TOKEN}@bank.example/wires?token={TOKEN} failed")

    def observe(self, effect: Any) -> ObservationResult:
        return ObservationResult("confirmed", "c-1")


register(Clumsy())
register(
    HTTPConnector(
        "secretive",
        f"{URL}/wires",
        {"Authorization": f"Bearer {TOKEN}", "X-Partner": "Partner env:BANK_PARTNER"},
        observe_endpoint=f"{URL}/lookup?api_token={TOKEN}",
        compensate_endpoint=f"{URL}/reverse?api_token={TOKEN}",
    )
)
