"""The connector of tape_celery's contestants: `tape_connectors` names this module."""

from __future__ import annotations

from benchmarks.contestants import told
from tape_celery import connectors
from tape_celery.connectors.http import HTTPConnector

connector = HTTPConnector("wire", told("UPSTREAM"))
connectors.register(connector)
