"""A client of Google Cloud Pub/Sub that asks the environment for credentials, and for no way to get there.

gRPC, and requests, by which google-auth fetches tokens, go through the proxy that a variable of the environment names.
On Google's machines tokens come by plain HTTP, so that proxy would read them. And where ``PUBSUB_EMULATOR_HOST`` is
set, Google's library sends everything there in clear.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import google.auth
import grpc
import requests
from google.auth.credentials import AnonymousCredentials, with_scopes_if_required
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from tape_celery.errors import SettingsError

EMULATOR = "PUBSUB_EMULATOR_HOST"
_THIS_MACHINE = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\]):[0-9]{1,5}")
_NO_PROXY = (
    ("grpc.enable_http_proxy", 0),  # http_proxy, https_proxy, grpc_proxy
    ("grpc.address_http_proxy_enabled_addresses", ""),  # GRPC_ADDRESS_HTTP_PROXY, which the option above leaves on
)


def emulator() -> str:
    """The address of the emulator that the environment names, if it does.

    Raises `SettingsError` where that is not on this machine: what is sent there is sent in clear, to whoever answers.
    """
    address = os.environ.get(EMULATOR, "")
    if address and not _THIS_MACHINE.fullmatch(address):
        raise SettingsError(
            f"{EMULATOR} must be localhost:PORT, 127.0.0.1:PORT or [::1]:PORT: messages go there in clear. "
            "For one elsewhere, make a client yourself and give it as publisher="
        )
    return address


def make_client(options: Mapping[str, Any] | None) -> pubsub_v1.PublisherClient:
    """A client with ``options``, at the emulator of this machine where there is to be one.

    Raises `SettingsError` as `emulator` does, and google-auth's `GoogleAuthError` if there are no credentials.
    """
    transport: Any = _DirectTransport
    if address := emulator():
        channel = grpc.insecure_channel(address, options=_NO_PROXY)
        transport = PublisherGrpcTransport(host=address, channel=channel, credentials=AnonymousCredentials())
    ordered = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    return pubsub_v1.PublisherClient(publisher_options=ordered, client_options=options, transport=transport)


class _DirectTransport(PublisherGrpcTransport):  # type: ignore[misc]  # Google's classes have no types here
    """Google's own, but for who is asked for tokens, and how: without a proxy."""

    def __init__(
        self,
        *,
        host: str,
        credentials: Any = None,
        credentials_file: str | None = None,
        scopes: Sequence[str] | None = None,
        quota_project_id: str | None = None,
        api_audience: str | None = None,
        **others: Any,
    ) -> None:
        asked = {
            "scopes": scopes,
            "default_scopes": self.AUTH_SCOPES,
            "quota_project_id": quota_project_id,
            "request": _tokens_request(),
        }
        if credentials_file is not None:
            credentials, _ = google.auth.load_credentials_from_file(credentials_file, **asked)
        elif credentials is None:
            credentials, _ = google.auth.default(**asked)
            if hasattr(credentials, "with_gdch_audience"):
                credentials = credentials.with_gdch_audience(api_audience or host)
        super().__init__(
            host=host,
            credentials=credentials,
            scopes=scopes,
            quota_project_id=quota_project_id,
            api_audience=api_audience,
            **others,
        )

    @classmethod
    def create_channel(
        cls,
        host: str = PublisherGrpcTransport.DEFAULT_HOST,
        credentials: Any = None,
        credentials_file: str | None = None,
        scopes: Sequence[str] | None = None,
        quota_project_id: str | None = None,
        **others: Any,
    ) -> grpc.Channel:
        """TLS, and a token with every call. The credentials are those of the constructor."""
        scoped = with_scopes_if_required(credentials, scopes=scopes, default_scopes=cls.AUTH_SCOPES)
        if quota_project_id and hasattr(scoped, "with_quota_project"):
            scoped = scoped.with_quota_project(quota_project_id)
        tls = others.get("ssl_credentials") or grpc.ssl_channel_credentials()
        return grpc.secure_channel(
            host,
            grpc.composite_channel_credentials(tls, grpc.metadata_call_credentials(_tokens(scoped, cls.DEFAULT_HOST))),
            options=[*others.get("options", ()), *_NO_PROXY],
        )


def _tokens(credentials: Any, host: str) -> AuthMetadataPlugin:
    try:
        return AuthMetadataPlugin(credentials, _tokens_request(), host, suppress_metrics_header=True)
    except TypeError:  # an older google-auth: the header is sent twice
        return AuthMetadataPlugin(credentials, _tokens_request(), host)


def _tokens_request() -> Request:
    session = requests.Session()
    session.trust_env = False
    return Request(session)
