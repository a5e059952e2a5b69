"""Coming in from another site, in a real browser: from a provider of logins, and by a link in a mail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tape_celery.flower.arriving import BY_A_LINK, by_a_link
from tests.flower.forms import page_of
from tests.flower.shop import FlowerProcess, Shop
from tests.servers import Chromium, Processes
from tests.servers.ports import free_port


class Elsewhere(ThreadingHTTPServer):
    """Another site: it vouches for Ann without asking, as where she is logged in already, and shows her mail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://localhost:{self.server_port}"
        self.asked: list[str] = []
        """The paths that were asked for."""
        self.mail = ""


class Answers(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        self.server.asked.append(path)
        if path == "/v1/authorize":
            back = urlencode({"code": "good", "state": query["state"][0]})
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri'][0]}?{back}")
            self.end_headers()
        elif path == "/mail":
            self._answer("text/html", self.server.mail)
        else:
            self._answer("application/json", json.dumps({"email": "ann@example.com", "email_verified": True}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer("application/json", json.dumps({"access_token": "t"}))

    def _answer(self, kind: str, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("uri", ["//evil.example/effects", "/\\evil.example", "http://evil.example/", ""])
def test_nothing_leads_to_another_site(uri: str) -> None:
    """Whatever the address is that somebody was sent to."""

    def asked(uri: str) -> Any:
        return SimpleNamespace(method="GET", uri=uri, host="flower.example", headers=BY_A_LINK)

    assert by_a_link(asked("/effects?next=//evil.example"))
    assert not by_a_link(asked(uri))


def test_a_strict_session_comes_along_from_the_login_and_from_a_mail(
    shop: Shop, started: Processes, chromium: Chromium, elsewhere: Elsewhere
) -> None:
    """To the very page, and by a mail without another login."""
    first, second = page_of("effect", shop.stuck("first")), page_of("effect", shop.stuck("second"))
    port = free_port()
    flower = FlowerProcess(
        started, shop, f"--port={port}", "--auth=ann@example.com", "--auth_provider=flower.views.auth.OktaLoginHandler",
        "--oauth2_key=k", "--oauth2_secret=s", f"--oauth2_redirect_uri=http://127.0.0.1:{port}/login",
        FLOWER_OAUTH2_OKTA_BASE_URL=elsewhere.url,
    )  # fmt: skip
    page = chromium.page()
    gone: list[tuple[str, str]] = []
    page.on(
        "request",
        lambda request: gone.append(urlsplit(request.url)[1:3]) if request.is_navigation_request() else None,
    )
    here, there = (urlsplit(site.url).netloc for site in (flower, elsewhere))
    page.goto(flower.url + first)
    page.wait_for_url(flower.url + first)
    page.locator("#status").wait_for()
    assert gone == [(here, first), (here, "/login"), (there, "/v1/authorize"), (here, "/login"), (here, first)]
    cookies = {cookie["name"]: cookie["sameSite"] for cookie in page.context.cookies(flower.url)}
    assert cookies == {"user": "Strict", "_xsrf": "Lax"}

    address = f"{flower.url}{second}?a=%26%22&b=%2F%2Fevil.example"
    elsewhere.mail = f'<a href="{escape(address)}">STUCK</a>'
    page.goto(f"{elsewhere.url}/mail")
    gone.clear()
    page.get_by_role("link").click()
    page.locator("#status").wait_for()
    assert page.url == address
    assert gone == [(here, second), (here, second)]
    page.reload()
    page.locator("#status").wait_for()
    assert elsewhere.asked.count("/v1/authorize") == 1
    page.context.close()
