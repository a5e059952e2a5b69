"""Upstreams and connectors for the connectors' tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tape_celery.connectors.http import HTTPConnector
from tests.connectors.upstream import Script, Upstream

Serve = Callable[..., Upstream]
Connect = Callable[..., HTTPConnector]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an upstream that runs a script for each request."""
    with ExitStack() as running:

        def start(script: Script | None = None, **options: Any) -> Upstream:
            return running.enter_context(Upstream(script, **options))

        yield start


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make a connector to an upstream, with all three endpoints. Its connections are closed after the test."""
    made: list[HTTPConnector] = []

    def connector(upstream: Upstream | str, **options: Any) -> HTTPConnector:
        url = upstream if isinstance(upstream, str) else upstream.url
        endpoints = {"observe_endpoint": f"{url}/lookup", "compensate_endpoint": f"{url}/reverse"}
        made.append(HTTPConnector("bank.wire", f"{url}/wires", **{"timeout_s": 5.0, **endpoints, **options}))
        return made[-1]

    yield connector
    for one in made:
        one.close()
