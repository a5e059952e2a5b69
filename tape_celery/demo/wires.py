"""The module that the demo's workers import (``TAPE_CONNECTORS``): one connector, to the bank at ``TAPE_DEMO_BANK``.

The bank deduplicates no wire, so effects through it are non-idempotent. It does deduplicate reversals by their key.
"""

from __future__ import annotations

import os

from tape_celery.connectors import register
from tape_celery.connectors.http import HTTPConnector

CONNECTOR = "bank.wire"
BANK_URL_VARIABLE = "TAPE_DEMO_BANK"
TIMEOUT_SECONDS = 1.0

if bank_url := os.environ.get(BANK_URL_VARIABLE):
    register(
        HTTPConnector(
            name=CONNECTOR,
            endpoint=f"{bank_url}/wires",
            timeout_s=TIMEOUT_SECONDS,
            observe_endpoint=f"{bank_url}/wires/lookup",
            compensate_endpoint=f"{bank_url}/wires/reverse",
            compensation_semantics="idempotent",
        )
    )
