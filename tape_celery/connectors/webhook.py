"""The connector that webhooks are sent by: an upstream of our own, told of what has come into another state."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

from tape_celery.connectors.http import HTTPConnector
from tape_celery.connectors.http_answers import Answer, NoAnswer
from tape_celery.errors import SettingsError

_PREFIX = "whsec_"
_LEAST_BYTES = 24


class WebhookConnector(HTTPConnector):
    """POSTs to ``url``; with a ``secret`` each request is signed as Standard Webhooks says.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. ``secret`` is
    ``whsec_`` and 24 to 64 bytes in base64. Every 2xx confirms. Raises `SettingsError` for what cannot work.
    """

    def __init__(self, name: str, url: str, secret: str = "") -> None:
        self._key = _key(secret) if secret else b""
        super().__init__(name, url, success_codes=tuple(range(200, 300)))

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: str | None = None) -> Answer | NoAnswer:
        told = {"webhook-id": headers["Idempotency-Key"], "webhook-timestamp": str(int(time.time()))}
        if self._key:
            signed = f"{told['webhook-id']}.{told['webhook-timestamp']}.{body}".encode()
            digest = hmac.new(self._key, signed, hashlib.sha256).digest()
            told["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return super()._exchange(method, url, headers | told, body)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(_PREFIX) or len(key) < _LEAST_BYTES:
        raise SettingsError(f"tape_webhook_secret must be {_PREFIX!r} and {_LEAST_BYTES} or more bytes in base64")
    return key
