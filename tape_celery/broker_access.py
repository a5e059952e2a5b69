"""Whether whoever reaches a broker may write to it."""

from __future__ import annotations

import ipaddress
from typing import Any

from kombu import Connection

KINDS = ("redis", "amqp")
"""The brokers that are servers of their own, and ask for a password in their URL."""
_CERTIFICATES = ("ssl_certfile", "certfile", "ssl_keyfile", "keyfile")


def open_to_all(connection: Connection) -> str:
    """The broker of ``connection``, or of those that it falls back to, that is on another machine and asks for
    nothing: its URL without user and password. Empty where each is on this machine, or wants a password, a client
    certificate or a credential provider.
    """
    if (connection.transport_options or {}).get("credential_provider") or _has_certificate(connection.ssl):
        return ""
    several = [Connection(url) for url in connection.alt or ()]
    for one in several if len(several) > 1 else [connection]:
        kind, host = str(one.transport.driver_type), str(one.hostname or "")
        provided = getattr(one, "credential_provider", None) or "credential_provider=" in str(one.virtual_host)
        if kind in KINDS and not (one.password or provided or is_local(host)):
            return f"{one.transport_cls}://{host}"
    return ""


def is_local(host: str) -> bool:
    """Whether ``host`` is this machine, or a socket on it."""
    if host in ("", "localhost") or host.startswith(("/", "socket:")):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _has_certificate(ssl: Any) -> bool:
    return isinstance(ssl, dict) and any(ssl.get(name) for name in _CERTIFICATES)
