"""The connector for an upstream that is called over HTTP."""

from __future__ import annotations

import json
import logging
import math
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from urllib.parse import quote, urlencode, urlsplit

import httpx

from tape_celery.connectors.backoff import jittered_ms
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.connectors.endpoint import (
    check_url,
    checked_headers,
    header_text,
    origin,
    secrets_of,
    tls_context,
    with_secrets,
)
from tape_celery.connectors.http11 import Head, HTTPConnection, Origin, Request
from tape_celery.connectors.http_answers import (
    Answer,
    Codes,
    NoAnswer,
    Waiting,
    compensation_result,
    dispatch_result,
    observation_result,
)
from tape_celery.connectors.pool import ConnectionPool
from tape_celery.connectors.references import SecretUnavailable, Value, resolved
from tape_celery.connectors.trace_context import FIELDS, trace_headers
from tape_celery.errors import SettingsError
from tape_celery.loggers import logger_for
from tape_celery.records import Effect, Obligation, Semantics

logger = logger_for(__name__)

CONNECT_SECONDS = 5.0
"""The longest wait for a connection: secrets by reference, a free place, the name, TCP and TLS together."""
IDLE_SECONDS = 1.0
"""A connection idle for longer is not used again: the upstream may be closing it."""

_DEFAULT_HEADERS = {"accept": "application/json", "content-type": "application/json", "user-agent": "tape-celery"}
_TROUBLE = (httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError)
"""All that a network can cause."""


@dataclass
class HTTPConnector:
    """Calls one upstream over HTTP; `tape_celery.connectors.http_answers` says what its answers mean.

    ``name``: what effects name it by. ``endpoint``: POSTed to. ``headers``: sent with every request; a value may be a
    reference (``env:NAME``, ``file:/path``, a function) that is looked up for each call, and where it leads nowhere
    nothing is sent. ``timeout_s``: seconds for one whole exchange, from the name lookup to the last byte of the body.
    ``observe_endpoint``: asked with GET what happened. ``compensate_endpoint``: POSTed to for the inverse.
    ``success_codes`` confirm; ``duplicate_code`` says that the operation exists already.

    No redirect is followed, nothing is sent twice, no cookie is kept, and no proxy is taken from the environment.
    Raises `SettingsError` for a URL, a header or a number that cannot work.
    """

    name: str
    endpoint: str
    headers: Mapping[str, Value] | None = None
    timeout_s: float = 10.0
    observe_endpoint: str = ""
    compensate_endpoint: str = ""
    success_codes: tuple[int, ...] = (200, 201, 202, 204)
    duplicate_code: int = 409
    _: KW_ONLY
    ca_bundle: str = ""
    """A file of CA certificates to trust instead of certifi's. Verification cannot be turned off."""
    max_response_bytes: int = 65_536
    """A larger body counts as cut off."""
    max_connections: int = 500
    """How many connections one process may have to this upstream. A call that gets none within 5 s is not sent."""
    dispatch_queue: str = ""
    """The queue of its hints; by default the one of all connectors."""
    settle_seconds: float | None = None
    lease_seconds: float | None = None
    idempotency_window_seconds: float = 86_400.0
    compensation_semantics: str = "non_idempotent"
    mask_fields: Sequence[str] | None = None
    """The ends of names of fields whose values are masked before an answer is stored, in the place of
    `tape_celery.masking.SECRET_FIELDS`; ``()``: none."""
    send_traceparent: bool = True
    """Whether an upstream is told the span of a call, look or inverse that is traced, by W3C's ``traceparent`` and
    ``tracestate``. Where ``headers`` has one of the two, that is sent instead."""
    _headers: dict[str, str] = field(init=False, repr=False, compare=False)
    _references: dict[str, Value] = field(init=False, repr=False, compare=False)
    _secrets: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _tls: ssl.SSLContext = field(init=False, repr=False, compare=False)
    _pool: tuple[int, ConnectionPool] = field(init=False, repr=False, compare=False)
    """With the id of the process that it belongs to."""

    def __post_init__(self) -> None:
        me = f"connector {self.name!r}"
        check_url(self.endpoint, f"{me}: endpoint")
        for what in ("observe_endpoint", "compensate_endpoint"):
            if url := getattr(self, what):
                check_url(url, f"{me}: {what}")
        for what in ("timeout_s", "max_response_bytes", "max_connections"):
            if not 0 < getattr(self, what) < math.inf:
                raise SettingsError(f"{me}: {what} must be above 0, not {getattr(self, what)!r}")
        if self.compensation_semantics not in (Semantics.IDEMPOTENT, Semantics.NON_IDEMPOTENT):
            wanted = "'idempotent' or 'non_idempotent'"
            raise SettingsError(f"{me}: compensation_semantics must be {wanted}, not {self.compensation_semantics!r}")
        texts, self._references = checked_headers(self.headers or {}, me)
        self._headers = _DEFAULT_HEADERS | texts | {"accept-encoding": "identity"}
        urls = (self.endpoint, self.observe_endpoint, self.compensate_endpoint)
        self._secrets = secrets_of(texts, *urls)
        self._tls = tls_context(self.ca_bundle, me)
        self._pool = self._new_pool()

    def __repr__(self) -> str:
        return f"HTTPConnector({self.name!r}, {origin(self.endpoint)!r})"

    @property
    def total_seconds(self) -> float:
        """The longest that one call takes."""
        return self.timeout_s

    @property
    def can_observe(self) -> bool:
        """Whether there is an endpoint to ask what happened."""
        return bool(self.observe_endpoint)

    @property
    def can_compensate(self) -> bool:
        """Whether there is an endpoint for the inverse."""
        return bool(self.compensate_endpoint)

    def dispatch(self, effect: Effect) -> DispatchResult:
        """POST ``effect.request_json``, once."""
        headers = {
            "Idempotency-Key": effect.idempotency_key,
            "X-Tape-Run-Id": header_text(effect.run_id),
            "X-Tape-Effect-Key": header_text(effect.effect_key),
            "X-Tape-Business-Key": header_text(effect.business_key),
            "X-Tape-Attempt": f"{header_text(effect.effect_key)}:{getattr(effect, 'token', 0)}",
        }
        outcome = self._exchange("POST", self.endpoint, headers, effect.request_json)
        idempotent = effect.semantics in (Semantics.IDEMPOTENT, Semantics.OBSERVE_ONLY)
        return dispatch_result(outcome, self._codes(), _waiting(effect.attempt), idempotent=idempotent)

    def observe(self, effect: Effect) -> ObservationResult:
        """GET what the upstream knows of the keys; `absent` where there is no endpoint to ask."""
        if not self.observe_endpoint:
            return ObservationResult("absent")
        keys = {"key": effect.idempotency_key, "business_key": effect.business_key}
        asked = urlencode({name: key for name, key in keys.items() if key}, quote_via=quote, safe="")
        url = urlsplit(self.observe_endpoint)
        url = url._replace(query=f"{url.query}&{asked}" if url.query else asked)
        headers = {"Cache-Control": "no-store"}  # an "absent" out of some cache is no evidence
        return observation_result(self._exchange("GET", url.geturl(), headers), self._codes())

    def compensate(self, obligation: Obligation) -> CompensationResult:
        """POST the payload with the ``external_ref`` to undo, once; failed and final where there is no endpoint."""
        if not self.compensate_endpoint:
            return CompensationResult("failed", error={"message": "no compensate_endpoint is set", "final": True})
        headers = {
            "Idempotency-Key": obligation.idempotency_key,
            "X-Tape-Run-Id": header_text(obligation.run_id),
            "X-Tape-Effect-Key": header_text(obligation.effect_key),
            "X-Tape-Obligation-Key": header_text(obligation.obligation_key),
            "X-Tape-Attempt": f"{header_text(obligation.obligation_key)}:{getattr(obligation, 'token', 0)}",
        }
        body = obligation.payload_json
        if "external_ref" not in obligation.payload:
            body = json.dumps({**obligation.payload, "external_ref": obligation.external_ref})
        outcome = self._exchange("POST", self.compensate_endpoint, headers, body)
        return compensation_result(outcome, self._codes(), _waiting(obligation.attempt))

    def close(self) -> None:
        """Close this process's connections. The connector stays usable."""
        process, pool = self._pool
        if process == os.getpid():
            self._pool = self._new_pool()
            pool.close()

    def _codes(self) -> Codes:
        return Codes(tuple(self.success_codes), self.duplicate_code)

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: str | None = None) -> Answer | NoAnswer:
        """One request and what came of it, within ``timeout_s``; raises nothing that a network can cause."""
        began = time.monotonic()
        connect_seconds = min(CONNECT_SECONDS, self.timeout_s)
        try:
            looked_up = resolved(self._references, connect_seconds)
        except SecretUnavailable as error:
            return NoAnswer(type(error).__name__, str(error), sent=False)
        secrets = with_secrets(self._secrets, looked_up.values()) if looked_up else self._secrets
        place, host, target = _address(url)
        headers = {"Host": host, **self._headers, **looked_up, **headers}
        if self.send_traceparent and (traced := trace_headers()) and not FIELDS & headers.keys():
            headers |= traced
        request = Request(method, target, headers, None if body is None else body.encode())
        sent, until = False, began + self.timeout_s
        try:
            with self._this_process_pool().connection(place, connect_seconds, began + connect_seconds) as connection:
                sent = True
                connection.send(request, until)
                outcome = self._read(connection, connection.head(until), until, secrets)
        except _TROUBLE as error:
            outcome = NoAnswer(type(error).__name__, _redacted(str(error), secrets), sent)
        if logger.isEnabledFor(logging.DEBUG):
            what = outcome.code if isinstance(outcome, Answer) else outcome.type
            logger.debug("%s to %s: %s", method, origin(url), what)
        return outcome

    def _read(
        self, connection: HTTPConnection, head: Head, until: float, secrets: tuple[str, ...]
    ) -> Answer | NoAnswer:
        """The answer as far as it came; what is too long or breaks off is cut."""
        if head.http_version not in ("1.0", "1.1"):
            text = f"the answer is in 'HTTP/{head.http_version}', which was not asked for"
            return NoAnswer("RemoteProtocolError", text)
        body, cut = bytearray(), ""
        try:
            for chunk in connection.body(until):  # as it came: not unpacked
                body += chunk
                if len(body) > self.max_response_bytes:
                    cut = f"the body is larger than max_response_bytes ({self.max_response_bytes})"
                    break
        except _TROUBLE as error:
            cut = f"{type(error).__name__}: {error}"
        return Answer(
            head.status_code,
            {
                name.decode("latin-1"): _redacted(value.decode(errors="replace"), secrets)
                for name, value in head.headers
            },
            _redacted(body[: self.max_response_bytes].decode("latin-1"), secrets).encode("latin-1"),
            _redacted(cut, secrets),
        )

    def _this_process_pool(self) -> ConnectionPool:
        """On the connections of its parent, two processes would talk at once."""
        if self._pool[0] != os.getpid():
            self._pool = self._new_pool()
        return self._pool[1]

    def _new_pool(self) -> tuple[int, ConnectionPool]:
        return os.getpid(), ConnectionPool(self._tls, self.max_connections, IDLE_SECONDS)


@lru_cache(maxsize=128)
def _address(url: str) -> tuple[Origin, str, str]:
    """Where ``url`` leads, its ``Host`` header, and its path and query as they were given: httpx normalizes paths."""
    parts, place = urlsplit(url), httpx.URL(origin(url))
    port = place.port or (443 if place.scheme == "https" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(place.scheme, place.raw_host.decode(), port), place.netloc.decode(), target


def _redacted(text: str, secrets: tuple[str, ...]) -> str:
    """``text`` without the secrets of our headers and URLs: upstreams like to show what they were sent."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _waiting(attempt: int) -> Waiting:
    return Waiting(now_ms=time.time_ns() // 1_000_000, backoff_ms=jittered_ms(attempt))
