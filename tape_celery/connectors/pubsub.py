"""The connector that publishes each effect as one message of a Google Cloud Pub/Sub topic.

The high-level ``PublisherClient.publish`` queues: a message waits for its batch, and behind the one before it with the
same ordering key, and is sent after its caller has given up. Ordering also makes the library retry for ever. So a
client's single RPC is called instead: it is not queued, not repeated and has a deadline, and it pauses no ordering key.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from tape_celery.connectors.backoff import jittered_ms
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.connectors.evidence import readable
from tape_celery.errors import MissingExtra, SettingsError
from tape_celery.records import Effect, Obligation

CONNECT_SECONDS = 5.0
"""The longest wait for a connection, within the time for the publish."""

_REJECTED = frozenset(
    [
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
    ]
)
"""gRPC codes by which Pub/Sub says that it did not take the message. All others leave that open."""
_REJECTED_FOR_NOW = "RESOURCE_EXHAUSTED"


@dataclass
class PubSubConnector:
    """Publishes ``effect.request_json``; an acknowledged message is `confirmed`, with its id as ``external_ref``.

    ``name``: what effects name it by. ``project``, ``topic``: where to. ``ordering_key_from``: from an effect to its
    ordering key; by default ``effect.run_id``. ``publisher``: a ``pubsub_v1.PublisherClient`` to use (without it, each
    process makes its own, so that none is carried over a fork), or another object with the same ``publish``, which
    then has to keep to the timeout that it is given. ``timeout_s``: seconds for one publish.

    Whether a subscriber acted on the message is not known here: `observe` is `absent` and no evidence, unless a
    subclass overrides it. The clients made here go through no proxy of the environment, and to an emulator
    (``PUBSUB_EMULATOR_HOST``) of this machine only; another one, and a proxy, are for a ``publisher`` of yours.

    Raises `MissingExtra` when google-cloud-pubsub is not installed, `SettingsError` for such an emulator, or a
    ``timeout_s`` that cannot work.
    """

    name: str
    project: str
    topic: str
    ordering_key_from: Callable[[Effect], str] | None = None
    publisher: Any = field(default=None, repr=False)
    _: KW_ONLY
    timeout_s: float = 10.0
    client_options: Mapping[str, Any] | None = field(default=None, repr=False)
    """Options of the clients made here, such as ``{"api_endpoint": "europe-west1-pubsub.googleapis.com"}``."""
    settle_seconds: float | None = None
    lease_seconds: float | None = None
    _client: tuple[int, Any] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            import google.cloud.pubsub_v1  # noqa: F401 - the extra may be absent
        except ImportError:
            raise MissingExtra("PubSubConnector", "pubsub") from None
        from tape_celery.connectors.pubsub_client import emulator

        if not 0 < self.timeout_s < math.inf:
            raise SettingsError(f"connector {self.name!r}: timeout_s must be above 0, not {self.timeout_s!r}")
        if self.publisher is None:
            try:
                emulator()
            except SettingsError as error:
                raise SettingsError(f"connector {self.name!r}: {error}") from None

    @property
    def total_seconds(self) -> float:
        """The longest that one publish takes; to find credentials, once in a process, is not counted."""
        return self.timeout_s

    @property
    def can_observe(self) -> bool:
        """Whether a subclass can ask its business system what happened."""
        return type(self).observe is not PubSubConnector.observe

    @property
    def can_compensate(self) -> bool:
        """Whether a subclass has an inverse."""
        return type(self).compensate is not PubSubConnector.compensate

    def dispatch(self, effect: Effect) -> DispatchResult:
        """Publish ``effect``, once."""
        from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
        from google.cloud.pubsub_v1.publisher.exceptions import PublishToPausedOrderingKeyException

        try:
            message_id = self._publish(effect, time.monotonic() + self.timeout_s)
        except (_NotConnected, PublishToPausedOrderingKeyException) as error:
            return DispatchResult("unknown", error={**_told(error), "sent": False})
        except GoogleAPICallError as error:
            return _not_acknowledged(error, effect.attempt)
        except (GoogleAPIError, TimeoutError) as error:
            return DispatchResult("unknown", error=_told(error))
        return DispatchResult("confirmed", message_id, response={"message_id": message_id})

    def observe(self, effect: Effect) -> ObservationResult:
        """`absent`, and no evidence: `can_observe` is false."""
        return ObservationResult("absent")

    def compensate(self, obligation: Obligation) -> CompensationResult:
        """Failed and final: a message cannot be taken back."""
        return CompensationResult("failed", error={"message": "a published message has no inverse", "final": True})

    def _publish(self, effect: Effect, deadline: float) -> str:
        """The id of the acknowledged message. Raises `_NotConnected` only if nothing was sent."""
        from google.pubsub_v1 import PublisherClient

        topic = f"projects/{self.project}/topics/{self.topic}"
        data = effect.request_json.encode()
        ordering_key = effect.run_id if self.ordering_key_from is None else self.ordering_key_from(effect)
        attributes = {
            "effect_key": effect.effect_key,
            "idempotency_key": effect.idempotency_key,
            "run_id": effect.run_id,
            "business_key": effect.business_key,
        }
        publisher = self._publisher()
        if not isinstance(publisher, PublisherClient):
            return _publish_by(publisher, topic, data, ordering_key, attributes, self.timeout_s)
        _connect(publisher, min(CONNECT_SECONDS, deadline - time.monotonic()))
        message = {"data": data, "attributes": attributes, "ordering_key": ordering_key}
        acknowledged = PublisherClient.publish(
            publisher,
            request={"topic": topic, "messages": [message]},
            retry=None,
            timeout=deadline - time.monotonic(),
        )
        return next(iter(acknowledged.message_ids), "")

    def _publisher(self) -> Any:
        """The publisher given, else the client of this process: gRPC's connections do not outlive a fork."""
        from google.auth.exceptions import GoogleAuthError

        from tape_celery.connectors.pubsub_client import make_client

        if self.publisher is not None:
            return self.publisher
        if self._client is None or self._client[0] != os.getpid():
            try:
                client = make_client(self.client_options)
            except GoogleAuthError as error:
                raise _NotConnected(f"no credentials: {error}") from error
            except SettingsError as error:
                raise _NotConnected(str(error)) from error
            self._client = (os.getpid(), client)
        return self._client[1]


class _NotConnected(Exception):
    """There was no connection, so nothing was sent."""


def _connect(client: Any, seconds: float) -> None:
    """Wait until ``client`` is connected: before an RPC is started, and only then, is it sure that nothing was sent."""
    import grpc

    ready = grpc.channel_ready_future(client.transport.grpc_channel)
    try:
        ready.result(timeout=max(seconds, 0))
    except grpc.FutureTimeoutError:
        raise _NotConnected(f"no connection to {client.api_endpoint} in time") from None
    finally:
        ready.cancel()


def _publish_by(
    publisher: Any, topic: str, data: bytes, ordering_key: str, attributes: Mapping[str, str], seconds: float
) -> str:
    """Publish through an object that is no client of Google's but has the high-level ``publish`` of one."""
    try:
        future = publisher.publish(topic, data, ordering_key=ordering_key, retry=None, timeout=seconds, **attributes)
        return str(future.result(timeout=seconds))
    except Exception:
        # A key that failed refuses every later message until it is resumed; one that did not cannot be.
        with suppress(RuntimeError, ValueError):
            publisher.resume_publish(topic, ordering_key)
        raise


def _not_acknowledged(error: Any, attempt: int) -> DispatchResult:
    code = error.grpc_status_code.name if error.grpc_status_code is not None else ""
    told = {**_told(error), "code": code}
    if code in _REJECTED:
        return DispatchResult("failed", error=told)
    if code == _REJECTED_FOR_NOW:
        return DispatchResult("failed", error=told, retry_at_ms=time.time_ns() // 1_000_000 + jittered_ms(attempt))
    return DispatchResult("unknown", error=told)


def _told(error: Exception) -> dict[str, Any]:
    return {"type": type(error).__name__.lstrip("_"), "message": readable(str(error))}
