"""What of an upstream's answer is kept: references, responses and errors that are small and safe to store."""

import json
from urllib.parse import unquote

import pytest

from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.connectors.http import HTTPConnector
from tests.connectors.conftest import Connect, Serve
from tests.connectors.examples import an_effect, an_obligation
from tests.connectors.upstream import Connection, Request, answer


def storable(kept: dict[str, object]) -> bool:
    """Whether every database takes it: no NaN, no NUL, no lone surrogate, no nesting that breaks a parser."""
    text = json.dumps(kept, allow_nan=False)
    json.dumps(kept, ensure_ascii=False).encode()
    return "\\u0000" not in text


@pytest.mark.parametrize(
    ("body", "ref"),
    [
        ('{"external_ref": "wire-9", "id": "id-9"}', "wire-9"),
        ('{"id": "id-9"}', "id-9"),
        ('{"external_ref": 17}', "17"),
        ('{"external_ref": 0}', "0"),
        ('{"external_ref": " wire-9 "}', "wire-9"),
        ('{"external_ref": null, "id": 5}', "5"),
        ('{"external_ref": "", "id": 5}', "5"),
        ('{"external_ref": true}', ""),
        ('{"external_ref": 1.5}', ""),
        ('{"external_ref": ["wire-9"]}', ""),
        ('{"external_ref": {"id": 1}}', ""),
        ('{"external_ref": "%s"}' % ("x" * 512), "x" * 512),
        ('{"external_ref": "%s"}' % ("x" * 513), ""),
        ('{"external_ref": "a\\nb"}', ""),
        ('{"external_ref": "a\\u0000b"}', ""),
        ('{"external_ref": "a\\u001b[2Jb"}', ""),
        ('{"external_ref": "a\\ud800b"}', ""),
        ('{"external_ref": "Überweisung-9"}', "Überweisung-9"),
        ('{"external_ref": 1%s}' % ("0" * 600), ""),
        ('["wire-9"]', ""),
        ('"wire-9"', ""),
    ],
)
def test_the_reference_is_a_text_or_a_number_that_names_one_record(
    serve: Serve, connect: Connect, body: str, ref: str
) -> None:
    """A reference is taken whole or not at all: half a reference may name another record."""
    result = connect(serve(lambda connection, _: connection.answer(200, body))).dispatch(an_effect())
    assert (result.status, result.external_ref) == ("confirmed", ref)


@pytest.mark.parametrize(
    ("body", "response"),
    [
        pytest.param(b'{"a": "x\\u0000y\\ud800z"}', {"a": "x\ufffdy\ufffdz"}, id="NUL and lone surrogate"),
        pytest.param(b'{"\\u0000": 1}', {"\ufffd": 1}, id="NUL in a name"),
        pytest.param(b'{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}, id="a surrogate pair"),
        pytest.param(b'{"a": "\xff\xfe"}', {"a": "\ufffd\ufffd"}, id="no UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', {"a": 1}, id="a byte order mark"),
        pytest.param(b"[1, 2]", {"status_code": 200, "body": [1, 2]}, id="a list"),
        pytest.param(b"false", {"status_code": 200, "body": False}, id="a plain value"),
        pytest.param(b"null", {"status_code": 200, "body": "null"}, id="null"),
        pytest.param(b'{"a": NaN}', {"status_code": 200, "body": '{"a": NaN}'}, id="NaN"),
        pytest.param(b"[Infinity]", {"status_code": 200, "body": "[Infinity]"}, id="Infinity"),
        pytest.param(b"[1e999]", {"status_code": 200, "body": "[1e999]"}, id="a number out of range"),
        pytest.param(b"9" * 5000, {"status_code": 200, "body": "9" * 1000}, id="an integer of 5,000 digits"),
        pytest.param(b"[" * 60_000, {"status_code": 200, "body": "[" * 1000}, id="60,000 brackets"),
        pytest.param(b"[" * 65 + b"]" * 65, {"status_code": 200, "body": "[" * 65 + "]" * 65}, id="a depth of 65"),
        pytest.param(b"a\x00b\x1b[2Jc\n", {"status_code": 200, "body": "a\ufffdb\ufffd[2Jc\n"}, id="terminal escapes"),
        pytest.param(b'{"a": 1} {"b": 2}', {"status_code": 200, "body": '{"a": 1} {"b": 2}'}, id="two documents"),
    ],
)
def test_a_hostile_body_is_kept_as_something_harmless(
    serve: Serve, connect: Connect, body: bytes, response: dict[str, object]
) -> None:
    result = connect(serve(lambda connection, _: connection.answer(200, body))).dispatch(an_effect())
    assert result == DispatchResult("confirmed", "", response=response)
    assert storable(result.response)


@pytest.mark.parametrize("body", ["<p>\N{GRINNING FACE}" * 9000, '\\"\n' * 9000, "é" * 9000, "x" * 60_000])
def test_errors_stay_under_two_kibibytes_of_json(serve: Serve, connect: Connect, body: str) -> None:
    upstream = serve(lambda connection, _: connection.answer(400, body, X_Request_Id="r" * 5000))
    connector = connect(upstream)
    for error in (connector.dispatch(an_effect()).error, connector.compensate(an_obligation()).error):
        assert len(json.dumps(error)) <= 2048
        assert error["body"][:1] == body[:1]


def test_secrets_that_the_upstream_echoes_are_not_kept(serve: Serve, connect: Connect) -> None:
    """Neither in a response, nor in an error, nor where the answer is no HTTP at all."""

    def echo(connection: Connection, request: Request) -> None:
        told = json.dumps(dict(request.headers))
        if request.headers["x-tape-effect-key"] == "no-http":
            connection.send(f"{told}\r\n\r\n".encode())
        else:
            code = int(request.headers["x-tape-effect-key"])
            connection.answer(code, told, X_Request_Id=request.headers["authorization"])

    headers = {"Authorization": "Bearer CANARY-1234", "X-Api-Key": "CANARY-5678"}
    connector = connect(serve(echo), headers=headers)
    for key in ("200", "400", "500", "no-http"):
        result = connector.dispatch(an_effect(effect_key=key))
        assert "***" in str(result) or key == "no-http"  # of which nothing is kept
        assert "CANARY" not in str(result)
    assert "CANARY" not in repr(connector)


def test_secrets_of_a_url_that_the_upstream_echoes_are_not_kept(serve: Serve, connect: Connect) -> None:
    """As they are written in it and as the upstream understands them; other parameters are shown."""

    def echo(connection: Connection, request: Request) -> None:
        connection.answer(
            200, json.dumps({"status": "confirmed", "at": request.target, "read": unquote(request.target)})
        )

    upstream = serve(echo)
    query = "?tenant=tenant-seven&api_key=CANARY%2F1234&Access%54oken=CANARY-567"
    connector = connect(upstream, observe_endpoint=f"{upstream.url}/lookup{query}")
    result = connector.observe(an_effect())
    assert result.status == "confirmed"
    assert "tenant-seven" in str(result)
    assert "CANARY" not in str(result)


def test_headers_of_an_answer_are_not_kept(serve: Serve, connect: Connect) -> None:
    upstream = serve(lambda connection, _: connection.answer(400, "no", Set_Cookie="CANARY=1", X_Request_Id="r-1"))
    result = connect(upstream).dispatch(an_effect())
    assert "CANARY" not in str(result)
    assert result.error["request_id"] == "r-1"


def test_no_url_gets_into_an_error(connect: Connect) -> None:
    connector = connect("http://127.0.0.1:1", observe_endpoint="http://127.0.0.1:1/x?token=CANARY")
    assert "CANARY" not in str(connector.observe(an_effect()))
    assert "CANARY" not in repr(connector)


@pytest.mark.parametrize("status", ["confirmed", "absent", "duplicate", "failed", "stuck"])
@pytest.mark.parametrize("code", [200, 202])
def test_the_status_in_the_json_decides_a_look(serve: Serve, connect: Connect, status: str, code: int) -> None:
    body = {"status": status, "external_ref": "wire-9", "amount": 5}
    result = connect(serve(lambda connection, _: connection.answer(code, body))).observe(an_effect())
    assert result == ObservationResult(status, "wire-9", response=body)  # type: ignore[arg-type]


def test_only_a_confirmed_look_takes_the_id_for_the_reference(serve: Serve, connect: Connect) -> None:
    """The reference of a duplicate names a record that will be reversed: it has to be said as such."""
    refs = {}
    for status in ("confirmed", "duplicate"):
        said = answer(200, {"status": status, "id": 5})
        refs[status] = (
            connect(serve(lambda connection, _, said=said: connection.send(said))).observe(an_effect()).external_ref
        )
    assert refs == {"confirmed": "5", "duplicate": ""}


@pytest.mark.parametrize("code", [200, 409])
def test_a_look_lists_the_duplicates_as_texts(serve: Serve, connect: Connect, code: int) -> None:
    """A reference that cannot be used stays in the list, empty: its obligation waits for a person."""
    body = {"status": "duplicate", "external_ref": "a", "duplicates": ["b", 7, None, {"id": 1}, "x" * 600]}
    result = connect(serve(lambda connection, _: connection.answer(code, body))).observe(an_effect())
    assert (result.status, result.external_ref) == ("duplicate", "a")
    assert result.response["duplicates"] == ["b", "7", "", "", ""]


def test_the_duplicate_code_of_a_look_needs_no_body(serve: Serve, connect: Connect) -> None:
    result = connect(serve(lambda connection, _: connection.answer(409, "twice"))).observe(an_effect())
    assert (result.status, result.external_ref) == ("duplicate", "")


@pytest.mark.parametrize(
    "said",
    [
        answer(200, {}),
        answer(200, {"status": "maybe"}),
        answer(200, {"status": None}),
        answer(200, {"status": ["absent"]}),
        answer(200, {"status": "ABSENT"}),
        answer(200, "absent"),
        answer(200, '["absent"]'),
        answer(204),
        answer(200, {"status": "absent"})[:-1],
        answer(409, {"external_ref": "wire-9"})[:-1],
        answer(404, {"status": "absent"}),
        answer(404),
        answer(410, {"status": "absent"}),
        answer(203, {"status": "absent"}),
        answer(302, {"status": "absent"}, Location="/"),
        answer(401),
        answer(429),
        answer(500, {"status": "failed"}),
        answer(503),
        b"",
        b"nonsense\r\n\r\n",
    ],
)
def test_everything_else_that_a_look_brings_is_stuck(serve: Serve, connect: Connect, said: bytes) -> None:
    result = connect(serve(lambda connection, _: connection.send(said))).observe(an_effect())
    assert (result.status, result.external_ref) == ("stuck", "")
    assert storable(result.response)


def test_a_look_at_an_upstream_that_is_gone_is_stuck(connect: Connect) -> None:
    assert connect("http://127.0.0.1:1").observe(an_effect()).status == "stuck"


def test_without_an_endpoint_a_look_is_absent_and_the_connector_says_that_it_cannot_look() -> None:
    connector = HTTPConnector("bank.wire", "https://bank.example/wires")
    assert connector.observe(an_effect()) == ObservationResult("absent")
    assert connector.can_observe is False


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (answer(200, {"id": 1})[:-1], {"ambiguous": True}),
        (answer(409, {"external_ref": "reversal-1"}), {"ambiguous": True}),
        (answer(409), {"ambiguous": True}),
        (answer(408), {"ambiguous": True}),
        (answer(504), {"ambiguous": True}),
        (answer(500), {"ambiguous": True}),
        (answer(503, Retry_After="5"), {"ambiguous": True}),
        (answer(302, Location="/"), {"ambiguous": True}),
        (answer(206), {"ambiguous": True}),
        (b"", {"ambiguous": True}),
        (b"nonsense\r\n\r\n", {"ambiguous": True}),
        (answer(400), {"final": True}),
        (answer(404), {"final": True}),
        (answer(501), {"final": True}),
        (answer(505), {"final": True}),
    ],
)
def test_an_inverse_that_is_not_done_is_final_or_ambiguous(
    serve: Serve, connect: Connect, said: bytes, error: dict[str, bool]
) -> None:
    upstream = serve(lambda connection, _: connection.send(said))
    result = connect(upstream).compensate(an_obligation())
    marks = {name: result.error[name] for name in ("ambiguous", "final", "sent", "retry_at_ms") if name in result.error}
    assert (result.status, marks) == ("failed", error)
    assert len(upstream.requests) == 1
    assert len(json.dumps(result.error)) <= 2048


@pytest.mark.parametrize(
    ("code", "body", "response"),
    [
        (200, '{"id": "reversal-1"}', {"id": "reversal-1"}),
        (201, "", {"status_code": 201, "body": ""}),
        (202, "queued", {"status_code": 202, "body": "queued"}),
        (204, "", {"status_code": 204, "body": ""}),
    ],
)
def test_an_inverse_with_a_success_code_is_done(
    serve: Serve, connect: Connect, code: int, body: str, response: dict[str, object]
) -> None:
    result = connect(serve(lambda connection, _: connection.answer(code, body))).compensate(an_obligation())
    assert result == CompensationResult("compensated", response=response)


@pytest.mark.parametrize("code", [429, 425])
def test_an_inverse_that_is_to_wait_says_until_when(serve: Serve, connect: Connect, code: int) -> None:
    result = connect(serve(lambda connection, _: connection.answer(code))).compensate(an_obligation())
    assert result.status == "failed"
    assert result.error["retry_at_ms"] > 1_700_000_000_000
    assert {"final", "ambiguous"}.isdisjoint(result.error)


def test_without_an_endpoint_an_inverse_is_failed_for_good() -> None:
    connector = HTTPConnector("bank.wire", "https://bank.example/wires")
    assert connector.compensate(an_obligation()) == CompensationResult(
        "failed", error={"message": "no compensate_endpoint is set", "final": True}
    )
    assert connector.can_compensate is False
