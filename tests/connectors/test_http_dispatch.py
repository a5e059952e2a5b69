"""What a call comes to: every row of the table in the contract's section 6, over real sockets."""

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tape_celery.connectors.base import DispatchResult
from tape_celery.records import Semantics
from tests.connectors.conftest import Connect, Serve
from tests.connectors.examples import an_effect, an_obligation
from tests.connectors.upstream import Body, Connection, Request, Script, answer

BOTH = ["idempotent", "non_idempotent"]
REF = {"external_ref": "wire-9"}


def answering(code: int, body: Body = b"", **headers: str) -> Script:
    return lambda connection, _: connection.answer(code, body, **headers)


def sending(data: bytes) -> Script:
    """Sends exactly these bytes, and closes."""
    return lambda connection, _: connection.send(data)


def resetting(data: bytes = b"") -> Script:
    def script(connection: Connection, _: Request) -> None:
        if data:
            connection.send(data)
        connection.reset()

    return script


@pytest.fixture
def dispatch(serve: Serve, connect: Connect) -> Callable[..., DispatchResult]:
    def dispatching(script: Script, semantics: str = "non_idempotent", **options: object) -> DispatchResult:
        upstream = serve(script)
        result = connect(upstream, **options).dispatch(an_effect(semantics=Semantics(semantics)))
        assert len(upstream.requests) == 1, "one dispatch is one request, whatever the answer"
        json.dumps(result.response, allow_nan=False)
        assert len(json.dumps(result.error, allow_nan=False)) <= 2048
        return result

    return dispatching


Dispatch = Callable[..., DispatchResult]


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize("code", [200, 201, 202])
def test_a_success_code_with_a_complete_body_confirms(dispatch: Dispatch, code: int, semantics: str) -> None:
    result = dispatch(answering(code, {"external_ref": "wire-9", "amount": 1}), semantics)
    assert result == DispatchResult("confirmed", "wire-9", response={"external_ref": "wire-9", "amount": 1})


@pytest.mark.parametrize("semantics", BOTH)
def test_no_content_confirms_without_a_reference(dispatch: Dispatch, semantics: str) -> None:
    assert dispatch(answering(204), semantics) == DispatchResult(
        "confirmed", "", response={"status_code": 204, "body": ""}
    )


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize(
    "cut_off",
    [
        pytest.param(sending(answer(200, REF)[:-3]), id="closed before Content-Length was reached"),
        pytest.param(resetting(answer(200, REF)[:-3]), id="reset in mid-body"),
        pytest.param(
            sending(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":'), id="chunks without an end"
        ),
        pytest.param(
            sending(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"external_ref": "wi'),
            id="JSON of no declared length that breaks off",
        ),
        pytest.param(
            sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), id="chunks that are none"
        ),
        pytest.param(
            sending(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"abc"XX0\r\n\r\n'),
            id="a chunk that does not end where it says",
        ),
        pytest.param(answering(200, b'"' + b"x" * 70_000 + b'"'), id="larger than max_response_bytes"),
    ],
)
def test_a_success_code_with_a_body_cut_off_is_unknown(dispatch: Dispatch, cut_off: Script, semantics: str) -> None:
    result = dispatch(cut_off, semantics)
    assert (result.status, result.external_ref, result.retry_at_ms) == ("unknown", "", 0)
    assert result.error["status_code"] == 200
    assert "sent" not in result.error


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@pytest.mark.parametrize(
    "ambiguous",
    [
        pytest.param(SHORT + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", id="length and chunks"),
        pytest.param(SHORT + b"Content-Length: 2\r\n\r\n{}", id="two lengths that are the same"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}", id="a length with a sign"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: 1\rContent-Length: 2\r\n\r\n{}", id="a bare CR"),
        pytest.param(SHORT + b"X-Long: a\r\n b\r\n\r\n{}", id="a header on two lines"),
        pytest.param(SHORT + b"X : a\r\n\r\n{}", id="a blank before the colon"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n{}", id="chunks that do not come last"
        ),
        pytest.param(b"HTTP/1.1 101 Other\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}", id="another protocol"),
        pytest.param(CHUNKED + b"\r\n2\r\n{}\r\n0\r\nX: " + b"y" * 200_000, id="trailers without an end"),
        pytest.param(CHUNKED + b"\r\n2;" + b"y" * 200_000, id="an extension without an end"),
    ],
)
def test_an_answer_that_may_be_read_in_two_ways_is_unknown(dispatch: Dispatch, ambiguous: bytes) -> None:
    """RFC 9112 (6.3) allows to take it for one; what it costs is a look."""
    result = dispatch(sending(ambiguous))
    assert (result.status, result.external_ref) == ("unknown", "")
    assert "sent" not in result.error


@pytest.mark.parametrize(
    "unusual",
    [
        pytest.param(answer(200, REF).replace(b"\r\n", b"\n"), id="lines that end in LF alone"),
        pytest.param(b"\r\n" + answer(200, REF), id="an empty line first"),
        pytest.param(answer(200, REF).replace(b"Whatever", b"\xc3\x86"), id="a reason that is no ASCII"),
        pytest.param(
            CHUNKED + b'\r\n1;a="b"\r\n{\r\n019\r\n"external_ref": "wire-9"}\r\n0\r\nX-Note: 7\r\n\r\n',
            id="chunks with extensions and trailers",
        ),
        pytest.param(
            SHORT.replace(b": 2", b":  27  ") + b'\r\n{"external_ref": "wire-9" }', id="blanks around a value"
        ),
    ],
)
def test_an_answer_that_is_unusual_is_understood(dispatch: Dispatch, unusual: bytes) -> None:
    assert dispatch(sending(unusual)).external_ref == "wire-9"


@pytest.mark.parametrize("semantics", BOTH)
def test_a_body_of_no_declared_length_is_complete_when_its_json_is(dispatch: Dispatch, semantics: str) -> None:
    body = b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"external_ref": "wire-9"}'
    assert dispatch(sending(body), semantics).external_ref == "wire-9"


@pytest.mark.parametrize("semantics", BOTH)
def test_a_plain_body_of_no_declared_length_is_complete(dispatch: Dispatch, semantics: str) -> None:
    result = dispatch(sending(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nOK"), semantics)
    assert result == DispatchResult("confirmed", "", response={"status_code": 200, "body": "OK"})


@pytest.mark.parametrize("semantics", BOTH)
def test_the_duplicate_code_with_a_reference_confirms(dispatch: Dispatch, semantics: str) -> None:
    assert dispatch(answering(409, REF), semantics) == DispatchResult("confirmed", "wire-9", response=REF)


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize(
    "body", ["", "conflict", {"error": "conflict"}, {"id": "error-5"}, {"external_ref": None}, "[1]"]
)
def test_the_duplicate_code_without_a_reference_is_unknown(dispatch: Dispatch, body: str, semantics: str) -> None:
    result = dispatch(answering(409, body), semantics)
    assert (result.status, result.external_ref, result.retry_at_ms) == ("unknown", "", 0)


def test_the_duplicate_code_cut_off_is_unknown(dispatch: Dispatch) -> None:
    assert dispatch(sending(answer(409, {**REF, "more": "x"})[:-2])).status == "unknown"


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize("code", [429, 425])
def test_too_many_and_too_early_are_tried_again_when_the_upstream_says(
    dispatch: Dispatch, code: int, semantics: str
) -> None:
    before = time.time_ns() // 1_000_000
    result = dispatch(answering(code, "slow down", Retry_After="7"), semantics)
    after = time.time_ns() // 1_000_000
    assert result.status == "failed"
    assert before + 7000 <= result.retry_at_ms <= after + 7000
    assert "may_have_landed" not in result.error


@pytest.mark.parametrize(("attempt", "least", "most"), [(1, 500, 1000), (3, 2000, 4000), (20, 30_000, 60_000)])
def test_without_retry_after_the_wait_doubles_up_to_a_minute(
    serve: Serve, connect: Connect, attempt: int, least: int, most: int
) -> None:
    before = time.time_ns() // 1_000_000
    result = connect(serve(answering(429))).dispatch(an_effect(attempt=attempt))
    after = time.time_ns() // 1_000_000
    assert before + least <= result.retry_at_ms <= after + most


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize("code", [408, 504])
def test_a_timeout_of_somebody_on_the_way_is_unknown(dispatch: Dispatch, code: int, semantics: str) -> None:
    result = dispatch(answering(code, "timeout", Retry_After="1"), semantics)
    assert (result.status, result.retry_at_ms, result.error["status_code"]) == ("unknown", 0, code)


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize(
    "silence",
    [
        pytest.param(lambda connection, _: None, id="closed without an answer"),
        pytest.param(resetting(), id="reset without an answer"),
        pytest.param(sending(b"HTTP/1.1 20"), id="closed in the status line"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\nContent-Le"), id="closed in the headers"),
        pytest.param(sending(b"SSH-2.0-OpenSSH_9.2\r\n"), id="no HTTP"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), id="no length"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), id="two lengths"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000), id="headers without an end"),
    ],
)
def test_no_answer_after_the_first_byte_is_unknown(dispatch: Dispatch, silence: Script, semantics: str) -> None:
    result = dispatch(silence, semantics)
    assert (result.status, result.retry_at_ms) == ("unknown", 0)
    assert "sent" not in result.error
    assert result.error["type"] in ("RemoteProtocolError", "ReadError")


@pytest.mark.parametrize("semantics", BOTH)
def test_no_answer_in_time_is_unknown(dispatch: Dispatch, semantics: str) -> None:
    result = dispatch(lambda connection, _: connection.hold(), semantics, timeout_s=0.2)
    assert (result.status, result.error["type"]) == ("unknown", "ReadTimeout")
    assert "sent" not in result.error


@pytest.mark.parametrize("semantics", BOTH)
def test_a_backlog_that_is_never_accepted_is_unknown(connect: Connect, semantics: str) -> None:
    """The kernel took the bytes; whoever listens may still read them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connector = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2)
        result = connector.dispatch(an_effect(semantics=Semantics(semantics)))
    assert (result.status, result.error["type"]) == ("unknown", "ReadTimeout")
    assert "sent" not in result.error


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize("code", [501, 505])
def test_an_upstream_that_cannot_do_it_has_not_done_it(dispatch: Dispatch, code: int, semantics: str) -> None:
    result = dispatch(answering(code), semantics)
    assert (result.status, result.retry_at_ms) == ("failed", 0)
    assert "may_have_landed" not in result.error


@pytest.mark.parametrize("code", [500, 502, 503, 507, 599])
def test_a_server_error_may_have_landed_and_is_tried_again_where_that_is_safe(dispatch: Dispatch, code: int) -> None:
    for semantics in ("idempotent", "observe_only"):
        result = dispatch(answering(code, "oops", Retry_After="5"), semantics)
        assert (result.status, result.error["may_have_landed"]) == ("failed", True)
        assert result.retry_at_ms > time.time_ns() // 1_000_000


@pytest.mark.parametrize("code", [500, 502, 503, 507, 599])
def test_a_server_error_is_unknown_where_a_second_call_may_land_twice(dispatch: Dispatch, code: int) -> None:
    result = dispatch(answering(code, "oops", Retry_After="5"), "non_idempotent")
    assert (result.status, result.retry_at_ms) == ("unknown", 0)


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 405, 410, 413, 422, 423, 451, 499])
def test_any_other_client_error_is_failed_for_good(dispatch: Dispatch, code: int, semantics: str) -> None:
    result = dispatch(answering(code, {"error": "no such account"}, X_Request_Id="r-5"), semantics)
    assert (result.status, result.external_ref, result.retry_at_ms) == ("failed", "", 0)
    assert result.error == {
        "status_code": code,
        "message": f"the upstream answered {code}",
        "body": '{"error": "no such account"}',
        "request_id": "r-5",
    }


def test_a_client_error_with_a_body_cut_off_is_failed_all_the_same(dispatch: Dispatch) -> None:
    assert dispatch(sending(answer(400, "x" * 50)[:-9])).status == "failed"


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize("code", [203, 206, 226, 300, 301, 304, 600, 999])
def test_any_unlisted_code_is_unknown(dispatch: Dispatch, code: int, semantics: str) -> None:
    result = dispatch(answering(code, REF), semantics)
    assert (result.status, result.external_ref, result.retry_at_ms) == ("unknown", "", 0)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(serve: Serve, connect: Connect, code: int) -> None:
    elsewhere = serve()
    upstream = serve(answering(code, Location=f"{elsewhere.url}/wires"))
    connector = connect(upstream)
    assert connector.dispatch(an_effect()).status == "unknown"
    assert connector.observe(an_effect()).status == "stuck"
    assert connector.compensate(an_obligation()).error["ambiguous"] is True
    assert (len(upstream.requests), elsewhere.accepted) == (3, 0)


@pytest.mark.parametrize("location", ["https://xn--/", "http://[", "x" * 70_000, "mailto:a@b"])
def test_a_redirect_to_nowhere_is_an_answer_like_any_other(dispatch: Dispatch, location: str) -> None:
    assert dispatch(answering(302, Location=location)).error["status_code"] == 302
    assert dispatch(answering(302, REF, Location=location), success_codes=(302,)).external_ref == "wire-9"


def test_the_codes_are_the_connectors_own(dispatch: Dispatch) -> None:
    """`success_codes` and `duplicate_code` come before every other row."""
    assert dispatch(answering(503), success_codes=(503,)).status == "confirmed"
    assert dispatch(answering(200), success_codes=[201]).status == "unknown"
    assert dispatch(answering(422, REF), duplicate_code=422).status == "confirmed"
    assert dispatch(answering(409, REF), duplicate_code=422).status == "failed"


def test_a_hundred_answers_that_are_only_preliminary_do_not_count(dispatch: Dispatch) -> None:
    def script(connection: Connection, _: Request) -> None:
        connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100 + answer(200, REF))

    assert dispatch(script).external_ref == "wire-9"


def test_an_answer_from_before_the_request_answers_nothing(serve: Serve, connect: Connect) -> None:
    """An upstream that answered twice left an answer on the connection: it is not taken for that of the next call,
    which is made on another connection."""
    asked: list[Connection] = []

    def twice_at_once(connection: Connection, _: Request) -> None:
        asked.append(connection)
        connection.send(answer(200, {"id": len(asked)}) + answer(200, {"id": 7}))
        connection.kept = True

    connector = connect(serve(twice_at_once))
    refs = [connector.dispatch(an_effect(effect_key=f"effect-{number}")).external_ref for number in range(3)]
    assert refs == ["1", "2", "3"]
    assert len(set(map(id, asked))) == 3


def test_an_early_refusal_counts_though_the_request_was_not_wanted(connect: Connect) -> None:
    """An upstream may answer while a large request is still being written."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        connector = connect(f"http://127.0.0.1:{listener.getsockname()[1]}")
        result = pool.submit(connector.dispatch, an_effect(request_json='"' + "x" * 20_000_000 + '"'))
        sock, _ = listener.accept()
        with sock:
            sock.recv(1000)
            sock.sendall(answer(413, "too large"))
            while sock.recv(1_000_000).find(b'"', 1) < 0:
                pass  # the rest of the request
        assert result.result(10).status == "failed"
