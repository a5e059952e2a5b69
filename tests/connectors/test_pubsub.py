"""PubSubConnector at a real gRPC server: what a publish comes to, and that none goes on after its time."""

import inspect
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from tape_celery.connectors.base import CompensationResult, DispatchResult, EffectConnector, ObservationResult
from tape_celery.connectors.pubsub import PubSubConnector
from tape_celery.errors import MissingExtra, SettingsError
from tape_celery.records import Effect, Obligation
from tests.connectors.examples import an_effect, an_obligation
from tests.connectors.pubsub_server import PubSubServer, Refused
from tests.servers.waiting import until


@pytest.fixture
def server() -> Iterator[PubSubServer]:
    with PubSubServer() as running:
        yield running


@pytest.fixture
def connector(server: PubSubServer, monkeypatch: pytest.MonkeyPatch) -> PubSubConnector:
    """A connector that makes its own client."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
    return PubSubConnector("events", "shop", "wires", timeout_s=5.0)


def a_client(address: str, **options: Any) -> pubsub_v1.PublisherClient:
    """A client as an app would make it, at the test's server."""
    channel = grpc.insecure_channel(address)
    transport = PublisherGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return pubsub_v1.PublisherClient(transport=transport, **options)


class HighLevel:
    """No client of Google's, but one that has its high-level methods: they go to a real client's."""

    def __init__(self, client: pubsub_v1.PublisherClient) -> None:
        self._client = client
        self.resumed: list[tuple[str, str]] = []

    def publish(self, topic: str, data: bytes, **options: Any) -> Any:
        return self._client.publish(topic, data, **options)

    def resume_publish(self, topic: str, ordering_key: str) -> None:
        self._client.resume_publish(topic, ordering_key)
        self.resumed.append((topic, ordering_key))


def high_level(server: PubSubServer) -> HighLevel:
    ordered = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    return HighLevel(a_client(server.address, publisher_options=ordered))


def assert_nothing_more_arrives(server: PubSubServer, seconds: float = 0.6) -> None:
    """The library's own first retry would come after 0.1 s."""
    assert not server.received.acquire(timeout=seconds)


def test_the_constructor_is_the_references() -> None:
    parameters = inspect.signature(PubSubConnector).parameters.values()
    assert [(one.name, one.default) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == [
        ("name", inspect.Parameter.empty),
        ("project", inspect.Parameter.empty),
        ("topic", inspect.Parameter.empty),
        ("ordering_key_from", None),
        ("publisher", None),
    ]
    others = [one for one in parameters if one.kind is not one.POSITIONAL_OR_KEYWORD]
    assert all(one.kind is one.KEYWORD_ONLY and one.default is not one.empty for one in others)


def test_an_acknowledged_message_is_confirmed_with_its_id(server: PubSubServer, connector: PubSubConnector) -> None:
    result = connector.dispatch(an_effect(request_json='{"b":1, "a":"\\u00e9"}', business_key="Ærø/5"))
    assert result == DispatchResult("confirmed", "message-1", response={"message_id": "message-1"})
    (message,) = server.messages
    assert message.data == b'{"b":1, "a":"\\u00e9"}'
    assert dict(message.attributes) == {
        "effect_key": "effect-1",
        "idempotency_key": "idem-1",
        "run_id": "run-1",
        "business_key": "Ærø/5",
    }
    assert message.ordering_key == "run-1"
    assert server.topics == ["projects/shop/topics/wires"]


def test_the_longest_keys_fit_into_attributes(server: PubSubServer, connector: PubSubConnector) -> None:
    """Pub/Sub takes 1,024 bytes for a value and for an ordering key; 200 characters are at most 800."""
    key = "\N{GRINNING FACE}" * 200
    assert connector.dispatch(an_effect(business_key=key, run_id=key)).status == "confirmed"
    assert len(server.messages[0].ordering_key.encode()) == 800


def test_the_ordering_key_may_be_the_apps(server: PubSubServer, connector: PubSubConnector) -> None:
    connector.ordering_key_from = lambda effect: f"account-{effect.request['account']}"
    connector.dispatch(an_effect(request_json='{"account":"A1"}'))
    connector.ordering_key_from = lambda effect: ""
    connector.dispatch(an_effect())
    assert [message.ordering_key for message in server.messages] == ["account-A1", ""]


REJECTED = [
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
]
OPEN = [
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
]


def refusing(code: grpc.StatusCode) -> Any:
    def script(_: Any) -> None:
        raise Refused(code)

    return script


@pytest.mark.parametrize("code", REJECTED)
def test_a_definite_rejection_is_failed_for_good(
    server: PubSubServer, connector: PubSubConnector, code: grpc.StatusCode
) -> None:
    server.script = refusing(code)
    result = connector.dispatch(an_effect())
    assert (result.status, result.retry_at_ms, result.error["code"]) == ("failed", 0, code.name)
    assert len(json.dumps(result.error)) <= 2048
    assert len(server.messages) == 1


def test_too_much_is_failed_and_tried_again_later(server: PubSubServer, connector: PubSubConnector) -> None:
    server.script = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED)
    before = time.time_ns() // 1_000_000
    result = connector.dispatch(an_effect(attempt=2))
    assert result.status == "failed"
    assert before + 1000 <= result.retry_at_ms <= time.time_ns() // 1_000_000 + 2000
    assert len(server.messages) == 1


@pytest.mark.parametrize("code", OPEN)
def test_any_other_code_is_unknown_and_never_repeated(
    server: PubSubServer, connector: PubSubConnector, code: grpc.StatusCode
) -> None:
    """The library itself would send five of these seven again."""
    server.script = refusing(code)
    result = connector.dispatch(an_effect())
    assert (result.status, result.retry_at_ms, result.error["code"]) == ("unknown", 0, code.name)
    assert "sent" not in result.error
    assert len(server.messages) == 1


def test_the_codes_are_all_decided() -> None:
    decided = {*REJECTED, *OPEN, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OK}
    assert decided == set(grpc.StatusCode)


def test_an_acknowledgement_that_does_not_come_is_unknown_in_time_and_nothing_is_sent_after(
    server: PubSubServer, connector: PubSubConnector
) -> None:
    connector.timeout_s = 0.4
    assert connector.dispatch(an_effect()).status == "confirmed"
    assert server.received.acquire(timeout=1)
    server.script = server.hold
    start = time.monotonic()
    result = connector.dispatch(an_effect(effect_key="effect-2"))
    assert time.monotonic() - start < 2
    assert (result.status, result.error["code"]) == ("unknown", "DEADLINE_EXCEEDED")
    assert "sent" not in result.error
    assert server.received.acquire(timeout=1)
    assert_nothing_more_arrives(server)
    assert [message.attributes["effect_key"] for message in server.messages] == ["effect-1", "effect-2"]


def test_a_message_does_not_wait_behind_one_of_its_ordering_key(
    server: PubSubServer, connector: PubSubConnector
) -> None:
    """What waits in a queue of the library is sent after its caller has given up."""

    def script(message: Any) -> None:
        if message.attributes["effect_key"] == "slow":
            server.hold(message)

    server.script = script
    connector.timeout_s = 1.0
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(connector.dispatch, an_effect(effect_key="slow"))
        assert server.received.acquire(timeout=5)
        assert connector.dispatch(an_effect(effect_key="quick")).status == "confirmed"
        assert slow.result(5).status == "unknown"
    assert len(server.messages) == 2


def test_a_connection_cut_in_mid_call_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that takes the connection, speaks HTTP/2 so far as to be connected to, and then closes."""
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{listener.getsockname()[1]}")
        connector = PubSubConnector("events", "shop", "wires", timeout_s=5.0)

        def cut() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(settings)
                received = b""
                while b"effect_key" not in received:
                    received += sock.recv(65536)

        thread = threading.Thread(target=cut)
        thread.start()
        result = connector.dispatch(an_effect())
        thread.join(5)
    assert (result.status, result.error["code"]) == ("unknown", "UNAVAILABLE")
    assert "sent" not in result.error


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "accepted and silent"])
def test_without_a_connection_nothing_was_sent(monkeypatch: pytest.MonkeyPatch, silent: bool) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if silent:
            bound.listen()
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{bound.getsockname()[1]}")
        connector = PubSubConnector("events", "shop", "wires", timeout_s=0.3)
        start = time.monotonic()
        result = connector.dispatch(an_effect())
    assert time.monotonic() - start < 2
    assert (result.status, result.error["sent"], result.error["type"]) == ("unknown", False, "NotConnected")


def test_without_credentials_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/CANARY.json")
    result = PubSubConnector("events", "shop", "wires").dispatch(an_effect())
    assert (result.status, result.error["sent"]) == ("unknown", False)
    assert "credentials" in result.error["message"]


def test_a_publisher_of_the_app_is_used(server: PubSubServer) -> None:
    """Its own batching and retries are not: a batch of a thousand, or ten minutes, is nothing that we wait for."""
    lazy = pubsub_v1.types.BatchSettings(max_messages=1000, max_latency=600)
    client = a_client(server.address, batch_settings=lazy)
    connector = PubSubConnector("events", "shop", "wires", None, client, timeout_s=2.0)
    assert connector.dispatch(an_effect()).external_ref == "message-1"
    server.script = refusing(grpc.StatusCode.UNAVAILABLE)
    assert connector.dispatch(an_effect()).status == "unknown"
    assert len(server.messages) == 2


@pytest.mark.parametrize("through", ["own client", "the app's client", "high-level methods"])
def test_after_a_failure_its_ordering_key_is_published_again(
    server: PubSubServer, connector: PubSubConnector, through: str
) -> None:
    if through == "the app's client":
        connector.publisher = a_client(server.address)
    elif through == "high-level methods":
        connector.publisher = high_level(server)
    for failing in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE):
        server.script = refusing(failing)
        assert connector.dispatch(an_effect()).status in ("failed", "unknown")
        server.script = lambda message: None
        assert connector.dispatch(an_effect()).status == "confirmed"
    assert len(server.messages) == 4
    if through == "high-level methods":
        assert connector.publisher.resumed == [("projects/shop/topics/wires", "run-1")] * 2


def test_high_level_methods_get_everything_and_the_timeout(server: PubSubServer, connector: PubSubConnector) -> None:
    connector.publisher = high_level(server)
    assert connector.dispatch(an_effect()) == DispatchResult(
        "confirmed", "message-1", response={"message_id": "message-1"}
    )
    assert server.messages[0].attributes["idempotency_key"] == "idem-1"
    assert server.messages[0].ordering_key == "run-1"
    assert server.received.acquire(timeout=1)
    server.script = server.hold
    connector.timeout_s = 0.4
    assert connector.dispatch(an_effect()).status == "unknown"
    assert server.received.acquire(timeout=1)
    assert_nothing_more_arrives(server)


def test_a_key_that_somebody_else_left_paused_was_not_sent_and_is_resumed(server: PubSubServer) -> None:
    publisher = high_level(server)
    server.script = refusing(grpc.StatusCode.NOT_FOUND)
    topic = "projects/shop/topics/wires"
    failed = publisher.publish(topic, b"the app's own", ordering_key="run-1", retry=None, timeout=5)
    until(failed.done)
    server.script = lambda message: None
    connector = PubSubConnector("events", "shop", "wires", publisher=publisher, timeout_s=5.0)
    first = connector.dispatch(an_effect())
    assert (first.status, first.error["sent"]) == ("unknown", False)
    assert connector.dispatch(an_effect()).status == "confirmed"


def test_one_connection_serves_the_threads_of_a_process(server: PubSubServer, connector: PubSubConnector) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: connector.dispatch(an_effect(effect_key=f"effect-{n}")), range(50)))
    assert {result.status for result in results} == {"confirmed"}
    assert len({result.external_ref for result in results}) == 50
    assert len(server.peers) == 1


def test_forked_workers_publish_each_through_a_client_of_its_own(server: PubSubServer) -> None:
    """As under Celery's prefork pool: made in the parent, used in the children. In a process without gRPC threads."""
    program = """
        import os, sys
        from tape_celery.connectors.pubsub import PubSubConnector
        from tests.connectors.examples import an_effect

        connector = PubSubConnector("events", "shop", "wires", timeout_s=5.0)
        children = []
        for number in range(3):
            child = os.fork()
            if child == 0:
                os._exit(connector.dispatch(an_effect(effect_key=f"child-{number}")).status != "confirmed")
            children.append(child)
        assert not any(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert connector.dispatch(an_effect(effect_key="parent")).status == "confirmed"
    """
    environment = {**os.environ, "PUBSUB_EMULATOR_HOST": server.address}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    published = sorted(message.attributes["effect_key"] for message in server.messages)
    assert published == ["child-0", "child-1", "child-2", "parent"]
    assert len(server.peers) == 4, "one connection a process"


def test_a_client_of_another_process_is_not_used(server: PubSubServer, connector: PubSubConnector) -> None:
    connector._client = (os.getppid(), "the parent's client, after a fork")
    assert connector.dispatch(an_effect()).status == "confirmed"


def test_a_look_is_absent_and_no_evidence(connector: PubSubConnector) -> None:
    assert connector.observe(an_effect()) == ObservationResult("absent")
    assert connector.can_observe is False


def test_a_message_has_no_inverse(connector: PubSubConnector) -> None:
    result = connector.compensate(an_obligation())
    assert (result.status, result.error["final"]) == ("failed", True)
    assert connector.can_compensate is False


def test_a_subclass_that_can_look_or_undo_is_asked() -> None:
    class Ledger(PubSubConnector):
        def observe(self, effect: Effect) -> ObservationResult:
            return ObservationResult("confirmed")

        def compensate(self, obligation: Obligation) -> CompensationResult:
            return CompensationResult("compensated")

    ledger = Ledger("events", "shop", "wires")
    assert (ledger.can_observe, ledger.can_compensate) == (True, True)


def test_what_the_engine_reads() -> None:
    connector = PubSubConnector("events", "shop", "wires")
    assert isinstance(connector, EffectConnector)
    assert (connector.total_seconds, connector.settle_seconds, connector.lease_seconds) == (10.0, None, None)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_cannot_work_is_refused(timeout: float) -> None:
    with pytest.raises(SettingsError, match="timeout_s"):
        PubSubConnector("events", "shop", "wires", timeout_s=timeout)


def test_without_the_extra_the_constructor_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.pubsub_v1", None)
    with pytest.raises(MissingExtra, match=r"tape-celery\[pubsub\]"):
        PubSubConnector("events", "shop", "wires")


def test_the_module_is_imported_without_the_extra() -> None:
    """The library is imported late: by the constructor, not by the module."""
    program = """
        import sys
        sys.modules["google"] = sys.modules["grpc"] = None
        import tape_celery.connectors.pubsub
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=30)
