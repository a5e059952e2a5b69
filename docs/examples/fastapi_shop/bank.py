"""The bank, as this shop's workers call it."""

from tape_celery.connectors import register
from tape_celery.connectors.http import HTTPConnector

register(HTTPConnector("bank.wire", "https://bank.example/wires", observe_endpoint="https://bank.example/lookup"))
