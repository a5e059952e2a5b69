"""What goes over the wire: headers, bodies, connections, and nothing else."""

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tape_celery.connectors import http
from tape_celery.connectors.base import EffectConnector
from tests.connectors.conftest import Connect, Serve
from tests.connectors.examples import an_effect, an_obligation
from tests.connectors.upstream import Connection, Request, answer
from tests.servers.waiting import until


def test_dispatch_posts_the_exact_request_with_its_keys(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connect(upstream, headers={"Authorization": "Bearer abc", "X-Tenant": "7"}).dispatch(
        an_effect(request_json='{"b":1,  "a":"\\u00e9"}')
    )
    (request,) = upstream.requests
    assert (request.method, request.target) == ("POST", "/wires")
    assert request.body == b'{"b":1,  "a":"\\u00e9"}'
    assert request.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer abc",
        "content-length": str(len(request.body)),
        "content-type": "application/json",
        "idempotency-key": "idem-1",
        "user-agent": "tape-celery",
        "x-tape-attempt": "effect-1:7",
        "x-tape-business-key": "A1:100",
        "x-tape-effect-key": "effect-1",
        "x-tape-run-id": "run-1",
        "x-tenant": "7",
    }
    assert len(request.names) == len(request.headers), "no header is sent twice"
    assert {"Idempotency-Key", "X-Tape-Run-Id", "X-Tape-Effect-Key", "X-Tape-Business-Key"} <= set(request.names)


def test_compensate_posts_the_payload_with_the_obligations_own_keys(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connect(upstream).compensate(an_obligation(payload_json='{"amount":1,"external_ref":"wire-1"}'))
    (request,) = upstream.requests
    assert (request.method, request.target) == ("POST", "/reverse")
    assert request.body == b'{"amount":1,"external_ref":"wire-1"}'
    assert request.headers["idempotency-key"] == "compensate:obligation-1"
    assert request.headers["x-tape-run-id"] == "run-1"
    assert request.headers["x-tape-effect-key"] == "effect-1"
    assert request.headers["x-tape-obligation-key"] == "obligation-1"
    assert request.headers["x-tape-attempt"] == "obligation-1:3"


def test_compensate_always_names_the_record_to_undo(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connect(upstream).compensate(an_obligation(payload_json='{"amount":1}', external_ref="wire-1"))
    assert upstream.requests[0].json == {"amount": 1, "external_ref": "wire-1"}


@pytest.mark.parametrize(
    ("endpoint", "query"),
    [
        ("/lookup", {}),
        ("/lookup?", {}),
        ("/lookup?tenant=7&x=%26", {"tenant": ["7"], "x": ["&"]}),
    ],
)
def test_observe_asks_with_both_keys(
    serve: Serve, connect: Connect, endpoint: str, query: dict[str, list[str]]
) -> None:
    upstream = serve()
    connector = connect(upstream, observe_endpoint=upstream.url + endpoint)
    connector.observe(an_effect(idempotency_key="a&b=c#d?%41+", business_key="é / ключ"))
    (request,) = upstream.requests
    assert (request.method, request.body) == ("GET", b"")
    target = urlsplit(request.target)
    assert target.path == "/lookup"
    assert parse_qs(target.query) == {**query, "key": ["a&b=c#d?%41+"], "business_key": ["é / ключ"]}
    assert request.headers["cache-control"] == "no-store"
    assert "idempotency-key" not in request.headers, "a look is no operation under that key"


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("", "/"),
        ("?a=1", "/?a=1"),
        ("/a/../b;c=1//{d}/%7e", "/a/../b;c=1//{d}/%7e"),
        ("//a?b='c'|d", "//a?b='c'|d"),
    ],
)
def test_the_target_is_the_one_that_was_configured(serve: Serve, connect: Connect, endpoint: str, target: str) -> None:
    upstream = serve()
    connect(upstream, compensate_endpoint=upstream.url + endpoint).compensate(an_obligation())
    assert upstream.requests[0].target == target


def test_nothing_of_an_effect_chooses_where_a_call_goes(serve: Serve, connect: Connect) -> None:
    """13: a request and keys that look like addresses change neither host, path nor header; they arrive as they are."""
    upstream, other = serve(), serve()
    connector = connect(upstream)
    strange = f"{other.url}/../../?x=1#y"
    body = json.dumps(dict.fromkeys(("endpoint", "url", "host", "Location", "headers", "path", ".."), strange))
    effect = an_effect(request_json=body, idempotency_key=strange, business_key=strange, run_id=strange)
    connector.dispatch(effect)
    connector.observe(effect)
    connector.compensate(an_obligation(payload_json=body, external_ref=strange))
    assert other.requests == []
    assert [urlsplit(request.target).path for request in upstream.requests] == ["/wires", "/lookup", "/reverse"]
    assert {request.headers["host"] for request in upstream.requests} == {f"127.0.0.1:{upstream.port}"}
    sent, asked, undone = upstream.requests
    assert sent.body.decode() == body
    assert parse_qs(urlsplit(asked.target).query) == {"key": [strange], "business_key": [strange]}
    assert undone.json == {**json.loads(body), "external_ref": strange}


def test_no_log_shows_more_of_a_url_than_its_origin(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """httpx would log the URL of each request for everybody who logs at INFO; ours may hold a token."""
    caplog.set_level(logging.DEBUG)
    upstream = serve()
    connector = connect(upstream, observe_endpoint=f"{upstream.url}/CANARY?token=CANARY")
    connector.observe(an_effect(business_key="CANARY"))
    assert "CANARY" in upstream.requests[0].target
    assert str(upstream.port) in caplog.text
    assert "CANARY" not in caplog.text


def test_observe_without_a_business_key_asks_with_the_other(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connect(upstream).observe(an_effect(business_key=""))
    assert upstream.requests[0].target == "/lookup?key=idem-1"


@pytest.mark.parametrize("key", ["A1:100:2026-11-23", "Ærø 5", "100%", "%41", "a b", "é%41", "日本", "a\u00a0b"])
def test_keys_that_are_no_visible_ascii_are_percent_encoded(serve: Serve, connect: Connect, key: str) -> None:
    upstream = serve()
    connect(upstream).dispatch(an_effect(business_key=key, run_id=key))
    for name in ("x-tape-business-key", "x-tape-run-id"):
        sent = upstream.requests[0].headers[name]
        assert unquote(sent) == key
        assert sent.isascii()
        assert " " not in sent


def test_an_effect_without_a_business_key_sends_none(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connect(upstream).dispatch(an_effect(business_key=""))
    assert upstream.requests[0].headers.get("x-tape-business-key", "") == ""


def test_static_headers_may_replace_what_is_only_a_default(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connect(upstream, headers={"Content-Type": "application/vnd.bank+json", "User-Agent": "shop"}).dispatch(an_effect())
    (request,) = upstream.requests
    assert request.headers["content-type"] == "application/vnd.bank+json"
    assert request.headers["user-agent"] == "shop"
    assert len(request.names) == len(request.headers)


def test_proxies_of_the_environment_are_ignored(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, upstream = serve(), serve()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.lower(), proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert connect(upstream).dispatch(an_effect()).status == "confirmed"
    assert (proxy.accepted, len(upstream.requests)) == (0, 1)


def test_cookies_are_not_kept(serve: Serve, connect: Connect) -> None:
    upstream = serve(lambda connection, _: connection.answer(200, {}, Set_Cookie="session=1; Path=/"))
    connector = connect(upstream)
    connector.dispatch(an_effect())
    connector.dispatch(an_effect(effect_key="effect-2"))
    assert "cookie" not in upstream.requests[1].headers


def test_a_connection_is_used_again_at_once(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connector = connect(upstream)
    for number in range(5):
        assert connector.dispatch(an_effect(effect_key=f"effect-{number}")).status == "confirmed"
    assert (upstream.accepted, len(upstream.requests)) == (1, 5)


def test_a_connection_idle_for_over_a_second_is_not_used_again(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.IDLE_SECONDS == 1.0
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.05)
    upstream = serve()
    connector = connect(upstream)
    connector.dispatch(an_effect())
    time.sleep(0.1)  # being idle is the condition
    assert connector.dispatch(an_effect(effect_key="effect-2")).status == "confirmed"
    assert upstream.accepted == 2


def test_a_connection_that_the_upstream_closed_is_not_used_again(serve: Serve, connect: Connect) -> None:
    upstream = serve(lambda connection, _: connection.send(answer(200, {})))
    connector = connect(upstream)
    assert connector.dispatch(an_effect()).status == "confirmed"
    _, pool = connector._pool
    until(lambda: all(connection.is_readable() for connection in pool._idle), what="the upstream's FIN")
    assert connector.dispatch(an_effect(effect_key="effect-2")).status == "confirmed"
    assert upstream.accepted == 2


def test_a_connection_closed_under_the_request_is_unknown_and_nothing_is_sent_again(
    serve: Serve, connect: Connect
) -> None:
    def script(connection: Connection, _: Request) -> None:
        if len(upstream.requests) == 1:
            connection.answer(200, {})

    upstream = serve(script)
    connector = connect(upstream)
    assert connector.dispatch(an_effect()).status == "confirmed"
    assert connector.dispatch(an_effect(effect_key="effect-2")).status == "unknown"
    assert (upstream.accepted, len(upstream.requests)) == (1, 2)


def test_a_forked_child_has_connections_of_its_own(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connector = connect(upstream)
    connector.dispatch(an_effect())
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if connector.dispatch(an_effect(effect_key="effect-2")).status == "confirmed" else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert connector.dispatch(an_effect(effect_key="effect-3")).status == "confirmed"
    assert (upstream.accepted, len(upstream.requests)) == (2, 3)


def test_a_closed_connector_connects_again(serve: Serve, connect: Connect) -> None:
    upstream = serve()
    connector = connect(upstream)
    connector.dispatch(an_effect())
    connector.close()
    assert connector.dispatch(an_effect(effect_key="effect-2")).status == "confirmed"
    assert upstream.accepted == 2


def test_calls_of_many_threads_do_not_mix(serve: Serve, connect: Connect) -> None:
    upstream = serve(lambda connection, request: connection.answer(200, {"id": request.json["n"]}))
    connector = connect(upstream)

    def call(n: int) -> str:
        return connector.dispatch(an_effect(request_json=json.dumps({"n": n}))).external_ref

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(200))) == [str(n) for n in range(200)]
    assert upstream.accepted <= 16


def test_no_thread_closes_the_connection_of_another(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However soon an idle connection is too old to be used again: who has it keeps it to the end of its exchange."""
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.0003)
    upstream = serve(lambda connection, _: connection.answer(200, {"id": "w"}))
    connector = connect(upstream, max_connections=8)
    with ThreadPoolExecutor(24) as pool:
        results = list(pool.map(lambda n: connector.dispatch(an_effect(effect_key=f"effect-{n}")), range(1000)))
    assert [result.error for result in results if result.status != "confirmed"] == []
    assert upstream.accepted > 8


def test_it_is_a_connector(connect: Connect) -> None:
    assert isinstance(connect("http://127.0.0.1:1"), EffectConnector)


@pytest.mark.parametrize("key", ["idem\r\nX-Evil: 1", "idem\n", "idem\0", "idém"])
def test_a_key_that_could_end_its_header_is_not_sent(serve: Serve, connect: Connect, key: str) -> None:
    """22: whoever wrote it into the row by hand."""
    upstream = serve()
    result = connect(upstream).dispatch(an_effect(idempotency_key=key))
    assert (result.status, result.error["type"]) == ("unknown", "LocalProtocolError")
    assert upstream.requests == []
