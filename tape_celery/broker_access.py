"""Whether whoever reaches a broker, or stands between it and us, may write to it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
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
    for one in _elsewhere(connection):
        provided = getattr(one, "credential_provider", None) or "credential_provider=" in str(one.virtual_host)
        if not (one.password or provided):
            return _shown(one)
    return ""


def unverified(connection: Connection) -> str:
    """The broker of ``connection``, or of those that it falls back to, that is on another machine and used with TLS
    whose certificate nobody checks. ``rediss://`` alone is that: kombu takes any certificate unless it is told.
    """
    return next((_shown(one) for one in _elsewhere(connection) if _takes_any_certificate(one.ssl)), "")


def is_local(host: str) -> bool:
    """Whether ``host`` is this machine, or a socket on it."""
    if host in ("", "localhost") or host.startswith(("/", "socket:")):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _elsewhere(connection: Connection) -> Iterator[Connection]:
    """The brokers on other machines that ``connection`` leads to, or falls back to."""
    several = [Connection(url, ssl=connection.ssl) for url in connection.alt or ()]
    for one in several if len(several) > 1 else [connection]:
        if str(one.transport.driver_type) in KINDS and not is_local(str(one.hostname or "")):
            yield one


def _shown(one: Connection) -> str:
    return f"{one.transport_cls}://{one.hostname}"


def _has_certificate(options: Any) -> bool:
    return isinstance(options, dict) and any(options.get(name) for name in _CERTIFICATES)


def _takes_any_certificate(options: Any) -> bool:
    if not isinstance(options, dict):
        return False  # no TLS, or with RabbitMQ what amqp does by itself, which checks
    reqs = options.get("ssl_cert_reqs", options.get("cert_reqs", ssl.CERT_REQUIRED))
    any_name = options.get("ssl_check_hostname") is False and not options.get("ssl_ca_certs")
    # To a client, optional is required.
    return reqs in (ssl.CERT_NONE, "none", "CERT_NONE") or (reqs is None and "ssl_cert_reqs" in options) or any_name
