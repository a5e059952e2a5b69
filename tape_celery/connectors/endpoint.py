"""What a connector may be told of its upstream: URL, static headers, CA file. All of it is checked before use.

Every function raises `SettingsError`. Messages show no more of a URL than scheme, host and port, and never the value
of a header. ``what`` says in them which connector and field is meant.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import quote, unquote, unquote_plus, urlsplit

import certifi
import httpx

from tape_celery.connectors.references import HEADER_VALUE, Value, check_reference, is_reference
from tape_celery.errors import SettingsError

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_ALL_BUT_PERCENT = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS = re.compile(
    "accept-encoding|connection|content-length|expect|host|idempotency-key|te|trailer|transfer-encoding|upgrade|x-tape-.*"
)
_SECRET_NAME = re.compile("auth|token|secret|password|cookie|key|credential|signature", re.IGNORECASE)
_SHORTEST_SECRET = 8


def check_url(url: str, what: str) -> None:
    """Refuse ``url`` unless it is https, or http on this machine, without user, password and fragment."""
    try:
        parts = urlsplit(url)
        host, port = httpx.URL(origin(url)).host, parts.port  # the host as it will be understood when it is called
    except (ValueError, httpx.InvalidURL):
        raise SettingsError(f"{what} is no URL") from None
    if not _VISIBLE.fullmatch(url) or "#" in url:
        raise SettingsError(f"{what} must be visible ASCII without a fragment; percent-encode the rest")
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise SettingsError(f"{what} must be an https:// URL with a host, not {origin(url)}")
    if "@" in parts.netloc:
        raise SettingsError(f"{what} must not carry a user or a password ({origin(url)}); use headers")
    if parts.scheme == "http" and not _is_loopback(host):
        raise SettingsError(f"{what} must be https: {origin(url)} is not on this machine")


def origin(url: str) -> str:
    """Scheme, host and port: all that may be shown of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def checked_headers(headers: Mapping[str, Value], what: str) -> tuple[dict[str, str], dict[str, Value]]:
    """``headers`` under lower-case names: those that are texts, and those that say where a text is to be found.

    Refuses what cannot travel in a header, and what is set for each call.
    """
    texts: dict[str, str] = {}
    references: dict[str, Value] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise SettingsError(f"{what}: {name!r} is no header name")
        if _OWN_HEADERS.fullmatch(name.lower()):
            raise SettingsError(f"{what}: the header {name} is set for each call and cannot be a static one")
        if is_reference(value):
            check_reference(value, f"{what}: the value of the header {name}")
            references[name.lower()] = value
        elif isinstance(value, str) and HEADER_VALUE.fullmatch(value):
            texts[name.lower()] = value
        else:
            raise SettingsError(f"{what}: the value of the header {name} must be ASCII without control characters")
    return texts, references


def secrets_of(headers: Mapping[str, str], *urls: str) -> tuple[str, ...]:
    """The parts of checked ``headers`` and of the queries of ``urls`` that must not be stored where an upstream echoes
    them, the longest first.
    """
    parts = [part for name, value in headers.items() if _SECRET_NAME.search(name) for part in value.split()]
    for pair in (pair for url in urls for pair in urlsplit(url).query.split("&")):
        name, _, value = pair.partition("=")
        if _SECRET_NAME.search(unquote(name)):
            parts += [value, unquote_plus(value)]
    return _long_enough(parts)


def with_secrets(known: Iterable[str], values: Iterable[str]) -> tuple[str, ...]:
    """``known`` and the parts of what references led to, the longest first."""
    return _long_enough([*known, *(part for value in values for part in value.split())])


def _long_enough(parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({part for part in parts if len(part) >= _SHORTEST_SECRET}, key=len, reverse=True))


def header_text(value: str) -> str:
    """``value`` as visible ASCII, percent-encoded where it must be; decoding always gives ``value`` back."""
    if _VISIBLE.fullmatch(value) and unquote(value) == value:
        return value
    return quote(value, safe=_ALL_BUT_PERCENT)


def tls_context(ca_bundle: str, what: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, verified against the file ``ca_bundle``, or certifi's where it is empty."""
    try:
        context = ssl.create_default_context(cafile=ca_bundle or certifi.where())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{what}: ca_bundle {ca_bundle!r} cannot be loaded: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
