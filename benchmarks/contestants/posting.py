"""The POST of the others that are synchronous: by httpx, with a client that is kept open.

tape_celery's HTTPConnector is no part of this: it speaks HTTP/1.1 by httptools itself, which takes less CPU time.
"""

from __future__ import annotations

import os
from functools import cache

import httpx

from benchmarks.contestants import told


def post(number: int) -> str:
    """POST one number; returns the upstream's id of it, raises where it did not take it."""
    answer = _client(os.getpid()).post(told("UPSTREAM"), json={"number": number})
    answer.raise_for_status()
    made: str = answer.json()["id"]
    return made


@cache
def _client(pid: int) -> httpx.Client:
    """One a process."""
    return httpx.Client(timeout=10, trust_env=False)
