"""The connections of a publisher to its broker."""

from __future__ import annotations

import logging

import pytest
from celery import Celery

from tape_celery import publisher


def test_a_connection_that_is_given_up_is_closed(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It leaves no socket behind that only Python's garbage collector would close, and no complaint in the log."""
    app = Celery("test_connections", broker=redis_url, set_as_current=False)
    connection = app.connection_for_write()
    connection.default_channel.queue_declare("q")
    client = connection.default_channel.client
    assert client.client_list()
    with caplog.at_level(logging.DEBUG, logger="tape_celery"):
        publisher._discard(connection)
    assert not connection.connected
    assert connection._connection is None
    assert caplog.records == []
