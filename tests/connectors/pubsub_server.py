"""A real gRPC server with the Publish method of Google Cloud Pub/Sub, which does as a test says."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from google.pubsub_v1 import PublishRequest, PublishResponse

Script = Callable[[Any], None]
"""Gets the message that came; may wait, or raise `Refused`."""


class Refused(Exception):
    """The server answers with this gRPC code; whether it kept the message is the test's own idea."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code)
        self.code = code


class PubSubServer:
    """Keeps every message that comes, and then acknowledges it unless ``script`` says otherwise."""

    def __init__(self, tls: grpc.ServerCredentials | None = None) -> None:
        self.script: Script = lambda message: None
        self.messages: list[Any] = []
        self.topics: list[str] = []
        self.peers: set[str] = set()
        self.authorizations: list[str] = []
        self.received = threading.Semaphore(0)
        """Released once for each message."""
        self.over = threading.Event()
        """Set when the test is over."""
        publish = grpc.unary_unary_rpc_method_handler(
            self._publish,
            request_deserializer=PublishRequest.deserialize,
            response_serializer=PublishResponse.serialize,
        )
        handlers = grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": publish})
        self._numbers = itertools.count(1)
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((handlers,))
        listen = "127.0.0.1:0"
        port = self._server.add_secure_port(listen, tls) if tls else self._server.add_insecure_port(listen)
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.stop()

    def stop(self) -> None:
        """Drop every call that is under way, and stop to listen."""
        self._server.stop(None).wait(10)

    def hold(self, message: Any) -> None:
        """A script: stay silent until the test is over. The message is kept."""
        self.over.wait(30)

    def _publish(self, request: Any, context: grpc.ServicerContext) -> Any:
        (message,) = request.messages
        self.messages.append(message)
        self.topics.append(request.topic)
        self.peers.add(context.peer())
        self.authorizations += [str(value) for name, value in context.invocation_metadata() if name == "authorization"]
        number = next(self._numbers)
        self.received.release()
        try:
            self.script(message)
        except Refused as refused:
            context.abort(refused.code, "as the test says")
        return PublishResponse(message_ids=[f"message-{number}"])
