"""PubSubConnector in an environment that names proxies, or an emulator: messages and tokens go where they belong."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme
from google.cloud import pubsub_v1

from tape_celery.connectors.pubsub import PubSubConnector
from tape_celery.errors import SettingsError
from tests.connectors.conftest import Serve
from tests.connectors.examples import an_effect
from tests.connectors.pubsub_server import PubSubServer
from tests.connectors.upstream import Connection, Request, Upstream

PUBLISH = """
    import json, os
    from tape_celery.connectors.pubsub import PubSubConnector
    from tests.connectors.examples import an_effect

    options = json.loads(os.environ["TEST_OPTIONS"])
    connector = PubSubConnector("events", "shop", "wires", timeout_s=30.0, client_options=options)
    result = connector.dispatch(an_effect())
    assert result.status == "confirmed", result
"""


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


@pytest.fixture
def pubsub(authority: trustme.CA) -> Iterator[PubSubServer]:
    """Pub/Sub, by TLS."""
    own = authority.issue_cert("127.0.0.1")
    pair = (own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
    with PubSubServer(grpc.ssl_server_credentials([pair])) as running:
        yield running


def give_tokens(connection: Connection, request: Request) -> None:
    """As Google's service for workload identities does, and as the metadata server of its machines does."""
    token = {"token_type": "Bearer", "expires_in": 3600}
    if request.target == "/sts":
        issued = "urn:ietf:params:oauth:token-type:access_token"
        connection.answer(200, {**token, "access_token": "sts-token", "issued_token_type": issued})
    elif "/token" in request.target:
        connection.answer(200, {**token, "access_token": "metadata-token"}, Content_Type="application/json")
    elif "/service-accounts/" in request.target:
        account = {"email": "default", "scopes": []}
        connection.answer(200, account, Content_Type="application/json", Metadata_Flavor="Google")
    else:
        connection.answer(200, "shop", Content_Type="text/plain", Metadata_Flavor="Google")


def published(pubsub: PubSubServer, proxy: Upstream, folder: Path, credentials: str = "", **environment: str) -> None:
    """Publish from a process of its own, whose environment names ``proxy`` in every way that there is."""
    options = {"api_endpoint": pubsub.address} | ({"credentials_file": credentials} if credentials else {})
    names = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    proxies = {
        **dict.fromkeys(names, proxy.url),
        "GRPC_ADDRESS_HTTP_PROXY": f"127.0.0.1:{proxy.port}",
        "GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES": "127.0.0.0/8",
    }
    unset = ("NO_PROXY", "NO_GRPC_PROXY", "GOOGLE_APPLICATION_CREDENTIALS", "PUBSUB_EMULATOR_HOST")
    others = {name: value for name, value in os.environ.items() if name.upper() not in unset}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PUBLISH)],
        env={
            **others,
            **proxies,
            "TEST_OPTIONS": json.dumps(options),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "ca.pem"),
            "CLOUDSDK_CONFIG": str(folder / "no such folder"),
            **environment,
        },
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert len(pubsub.messages) == 1


@pytest.mark.parametrize("named", ["by the environment", "by an option"])
def test_neither_messages_nor_tokens_of_an_exchange_go_through_a_proxy(
    pubsub: PubSubServer, serve: Serve, tmp_path: Path, named: str
) -> None:
    """Credentials of a workload: a token of somebody else's is exchanged for one of Google's."""
    proxy, google = serve(), serve(give_tokens)
    (tmp_path / "subject").write_text("a subject token")
    (tmp_path / "workload.json").write_text(
        json.dumps(
            {
                "type": "external_account",
                "audience": "//iam.googleapis.com/a-test",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{google.url}/sts",
                "credential_source": {"file": str(tmp_path / "subject")},
            }
        )
    )
    file = str(tmp_path / "workload.json")
    environment, option = (file, "") if named == "by the environment" else ("/none", file)
    published(pubsub, proxy, tmp_path, option, GOOGLE_APPLICATION_CREDENTIALS=environment)
    assert pubsub.authorizations == ["Bearer sts-token"]
    assert proxy.accepted == 0


def test_neither_messages_nor_tokens_of_the_machine_go_through_a_proxy(
    pubsub: PubSubServer, serve: Serve, tmp_path: Path
) -> None:
    """Those come by plain HTTP: a proxy would read them."""
    proxy, google = serve(give_tokens), serve(give_tokens)
    own = f"127.0.0.1:{google.port}"
    published(pubsub, proxy, tmp_path, GCE_METADATA_HOST=own, GCE_METADATA_IP=own)
    assert pubsub.authorizations == ["Bearer metadata-token"]
    assert proxy.accepted == 0


def test_an_emulator_is_reached_without_a_proxy(serve: Serve, tmp_path: Path) -> None:
    proxy = serve()
    with PubSubServer() as emulator:
        published(emulator, proxy, tmp_path, PUBSUB_EMULATOR_HOST=emulator.address)
    assert proxy.accepted == 0


@pytest.mark.parametrize("address", ["localhost:8085", "127.0.0.1:8085", "127.8.0.1:1", "[::1]:8085"])
def test_an_emulator_of_this_machine_is_taken(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
    PubSubConnector("events", "shop", "wires")


@pytest.mark.parametrize(
    "address",
    [
        "emulator:8085", "192.0.2.1:8085", "0.0.0.0:8085", "localhost.example.com:80", "localhost:80@example.com:80",
        "127.0.0.1.example.com:80", "dns:///example.com:80", "ipv4:192.0.2.1:80", "unix:/run/pubsub",
        "::1:8085", "localhost", "localhost:8085\n", " ",
    ],
)  # fmt: skip
def test_any_other_emulator_is_refused_by_name(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
    with pytest.raises(SettingsError, match=r"connector 'events': PUBSUB_EMULATOR_HOST must be localhost:PORT"):
        PubSubConnector("events", "shop", "wires")


def test_an_emulator_that_is_named_later_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the app may change the environment after the connector was made, and before its client is."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    connector = PubSubConnector("events", "shop", "wires")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "emulator:8085")
    result = connector.dispatch(an_effect())
    assert (result.status, result.error["sent"]) == ("unknown", False)
    assert "PUBSUB_EMULATOR_HOST" in result.error["message"]


def test_a_client_of_the_app_may_go_to_any_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes one has chosen where it goes."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "emulator:8085")
    client = pubsub_v1.PublisherClient()
    assert PubSubConnector("events", "shop", "wires", publisher=client).publisher is client
    client.transport.close()
