"""A connector to a bank over HTTP, at the URL that stands in the shop's directory when the worker starts."""

from tape_celery.connectors import register
from tape_celery.connectors.http import HTTPConnector
from tests.celery_wiring.upstream import directory

url = (directory() / "url").read_text()
register(HTTPConnector("web", f"{url}/wires", observe_endpoint=f"{url}/lookup", timeout_s=5.0))
