"""The POST that every contestant but tape_celery makes, by the client that tape_celery uses: httpx, kept open."""

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
