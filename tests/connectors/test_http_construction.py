"""What an HTTPConnector is made of, and what it refuses before anything can be sent."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from tape_celery.connectors.http import HTTPConnector
from tape_celery.errors import SettingsError

URL = "https://bank.example/wires"


def test_the_constructor_is_the_references() -> None:
    parameters = inspect.signature(HTTPConnector).parameters.values()
    assert [(one.name, one.default) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == [
        ("name", inspect.Parameter.empty),
        ("endpoint", inspect.Parameter.empty),
        ("headers", None),
        ("timeout_s", 10.0),
        ("observe_endpoint", ""),
        ("compensate_endpoint", ""),
        ("success_codes", (200, 201, 202, 204)),
        ("duplicate_code", 409),
    ]
    others = [one for one in parameters if one.kind is not one.POSITIONAL_OR_KEYWORD]
    assert all(one.kind is one.KEYWORD_ONLY and one.default is not one.empty for one in others)


def test_what_the_engine_reads() -> None:
    plain = HTTPConnector("bank.wire", URL, timeout_s=3)
    assert (plain.total_seconds, plain.can_observe, plain.can_compensate) == (3, False, False)
    assert (plain.settle_seconds, plain.lease_seconds) == (None, None)
    assert (plain.idempotency_window_seconds, plain.compensation_semantics) == (86_400.0, "non_idempotent")
    both = HTTPConnector("bank.wire", URL, observe_endpoint=URL, compensate_endpoint=URL, settle_seconds=0)
    assert (both.can_observe, both.can_compensate, both.settle_seconds) == (True, True, 0)


@pytest.mark.parametrize(
    "url",
    [
        "https://bank.example",
        "https://bank.example:8443/wires?tenant=7",
        "https://10.0.0.5/wires",
        "https://[2001:db8::1]/wires",
        "http://localhost:8000/wires",
        "http://127.0.0.1/",
        "http://127.8.9.10:80/",
        "http://[::1]:8000/",
    ],
)
def test_https_is_taken_and_http_on_this_machine(url: str) -> None:
    HTTPConnector("bank.wire", url, observe_endpoint=url, compensate_endpoint=url)


@pytest.mark.parametrize(
    "url",
    [
        "bank.example/wires",
        "//bank.example/wires",
        "ftp://bank.example/CANARY",
        "file:///CANARY",
        "https://",
        "https:///CANARY",
        "https://:443/CANARY",
        "https://bank.example:0/CANARY",
        "https://bank.example:99999/CANARY",
        "https://[bank/CANARY",
        "https://300.1.1.1/CANARY",
        "https://xn--/CANARY",
        "https://user:CANARY@bank.example/",
        "https://CANARY@bank.example/",
        "https://bank.example/a b?CANARY",
        "https://bank.example/\r\nX: CANARY",
        "https://bank.example/\0CANARY",
        "https://bank.example/#CANARY",
        "https://bänk.example/CANARY",
        "http://bank.example/?token=CANARY",
        "http://localhost.bank.example/CANARY",
        "http://127.0.0.1.bank.example/CANARY",
        "http://127.1/CANARY",
        "http://0.0.0.0/CANARY",
        "http://169.254.169.254/CANARY",
        "http://10.0.0.1/CANARY",
        "http://[fe80::1]/CANARY",
    ],
)
@pytest.mark.parametrize("field", ["endpoint", "observe_endpoint", "compensate_endpoint"])
def test_any_other_url_is_refused_and_not_shown(url: str, field: str) -> None:
    urls: dict[str, Any] = {"endpoint": URL, field: url}
    with pytest.raises(SettingsError) as refused:
        HTTPConnector("bank.wire", **urls)
    assert field in str(refused.value)
    assert "'bank.wire'" in str(refused.value)
    assert "CANARY" not in str(refused.value)


HOSTILE = [
    # Another machine, or this network's own, under another spelling of a loopback address.
    "http://2130706433/CANARY",
    "http://0x7f000001/CANARY",
    "http://0177.0.0.1/CANARY",
    "http://127.0.1/CANARY",
    "http://127.0.0.1./CANARY",
    "http://127\N{IDEOGRAPHIC FULL STOP}0.0.1/CANARY",
    "http://\N{CIRCLED DIGIT ONE}\N{CIRCLED DIGIT TWO}\N{CIRCLED DIGIT SEVEN}.0.0.1/CANARY",
    "http://[::]/CANARY",
    "http://[::ffff:127.0.0.1]/CANARY",
    "http://[::ffff:169.254.169.254]/CANARY",
    "http://[::169.254.169.254]/CANARY",
    "http://[fd00:ec2::254]/CANARY",
    "http://metadata.google.internal/CANARY",
    "http://169.254.169.254.nip.io/CANARY",
    "http://224.0.0.1/CANARY",
    "http://192.168.0.1/CANARY",
    # A host that is read in two ways.
    "http://localhost@169.254.169.254/CANARY",
    "http://localhost:80@evil.example/CANARY",
    "http://localhost\\@evil.example/CANARY",
    "http://localhost:80\\evil.example/CANARY",
    "https://bank.example\\@evil.example/CANARY",
    "https://bank.example%40evil.example:CANARY/",
    "http://localhost%2eevil.example/CANARY",
    "http://localhost%00.evil.example/CANARY",
    "http://localhost\t.evil.example/CANARY",
    "http://localhost .evil.example/CANARY",
    "http://localhost./CANARY",
    "http://evil.example?@localhost/CANARY",
    "http://evil.example;@localhost/CANARY",
    "http://evil.example#@localhost/CANARY",
    "http://[::1]evil.example/CANARY",
    "http://[::1]@evil.example/CANARY",
    "http://[0:0:0:0:0:0:0:1].evil.example/CANARY",
    "http://127.0.0.1:80:80/CANARY",
    "http://127.0.0.1:+80/CANARY",
    "http:/evil.example/CANARY",
    "http:///evil.example/CANARY",
    "HTTP://evil.example/CANARY",
    # What is no HTTP.
    "gopher://127.0.0.1:6379/_CANARY",
    "dict://127.0.0.1:11211/CANARY",
    "unix:///var/run/CANARY.sock",
    "jar:https://bank.example/CANARY",
    "data:text/plain,CANARY",
    "javascript:CANARY",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_is_refused_and_not_shown(url: str) -> None:
    """13, 14: before anything is looked up or connected to."""
    with pytest.raises(SettingsError) as refused:
        HTTPConnector("bank.wire", url)
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        "CANARY\r\nX-Other: 1",
        "CANARY\n",
        "CANARY\r",
        "CANARY\0",
        "CANARY\x7f",
        " CANARY",
        "CANARY ",
        "CANARYé",
        b"CANARY",
    ],
)
def test_a_header_value_that_could_break_out_is_refused_by_name(value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        HTTPConnector("bank.wire", URL, {"X-Secret": value})
    assert "X-Secret" in str(refused.value)
    assert "CANARY" not in str(refused.value)


def test_there_must_be_an_endpoint() -> None:
    with pytest.raises(SettingsError, match="endpoint"):
        HTTPConnector("bank.wire", "")


@pytest.mark.parametrize("name", ["", "X Y", "X:Y", "X\r\nY", "Ä", "X\0"])
def test_a_header_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        HTTPConnector("bank.wire", URL, {name: "1"})


@pytest.mark.parametrize(
    "name",
    [
        "Idempotency-Key",
        "idempotency-key",
        "X-Tape-Run-Id",
        "x-tape-anything",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Accept-Encoding",
        "Expect",
    ],
)
def test_a_header_that_belongs_to_each_call_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        HTTPConnector("bank.wire", URL, {name: "1"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"timeout_s": float("inf")},
        {"timeout_s": float("nan")},
        {"max_response_bytes": 0},
        {"max_connections": 0},
        {"compensation_semantics": "sometimes"},
        {"compensation_semantics": "observe_only"},
    ],
)
def test_a_value_that_cannot_work_is_refused_and_shown(wrong: dict[str, object]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(SettingsError) as refused:
        HTTPConnector("bank.wire", URL, **wrong)  # type: ignore[arg-type]
    assert name in str(refused.value)
    assert repr(value) in str(refused.value)


def test_a_ca_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    for path in (str(tmp_path / "missing.pem"), str(empty)):
        with pytest.raises(SettingsError, match="ca_bundle"):
            HTTPConnector("bank.wire", URL, ca_bundle=path)


def test_there_is_no_way_to_turn_verification_off() -> None:
    assert not {"verify", "insecure", "trust_env"} & set(inspect.signature(HTTPConnector).parameters)


def test_headers_are_taken_as_they_were_when_they_were_checked() -> None:
    headers = {"X-Tenant": "7"}
    connector = HTTPConnector("bank.wire", URL, headers)
    headers["X-Tenant"] = "8\r\nX: 1"
    assert connector._headers["x-tenant"] == "7"
