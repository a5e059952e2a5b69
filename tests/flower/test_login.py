"""Logging in: hashed passwords, guessing, and the cookies of a session."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from base64 import b64encode

import httpx
import pytest
from tornado.web import create_signed_value

from tape_celery.errors import ConfigurationError
from tape_celery.flower.arriving import BY_A_LINK
from tape_celery.flower.passwords import GOOD_SECONDS, Passwords, hashed
from tape_celery.flower.throttle import PER_ADDRESS, PER_NAME, WINDOW_SECONDS, Throttle, home_of
from tests.flower.forms import act, page_of
from tests.flower.shop import FlowerProcess, Shop
from tests.servers import Processes

CHEAP = (1024, 8, 1)


class Clock:
    """A clock that is set by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_password_may_be_a_hash_that_a_command_makes() -> None:
    """It is asked for, and no part of the output."""
    made = subprocess.run(
        [sys.executable, "-m", "tape_celery.flower.passwords", "ann"],
        input="sécret of:ann\n", text=True, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    entry = made.stdout.strip()
    assert entry.startswith("ann:scrypt:32768:8:3:")
    assert not {",", " "} & set(entry)
    assert "cret" not in entry
    assert Passwords([entry]).is_good("ann", "sécret of:ann")
    passwords = Passwords([f"ann:{hashed('sécret of:ann', CHEAP)}", "bob:plain:one"])
    assert passwords.is_good("ann", "sécret of:ann")
    assert not passwords.is_good("ann", "sécret of:bob")
    assert not passwords.is_good("ann", entry.removeprefix("ann:"))
    assert passwords.is_good("bob", "plain:one")
    assert not passwords.is_good("bob", "plain")
    assert not passwords.is_good("eve", "sécret of:ann")
    assert hashed("x", CHEAP) != hashed("x", CHEAP)


def test_a_good_password_is_remembered_for_some_minutes() -> None:
    """It comes with each request; a wrong one is never taken for it."""
    clock = Clock()
    passwords = Passwords(["ann:secret"], clock=clock)
    assert not passwords.was_good("ann", "secret")
    assert passwords.is_good("ann", "secret")
    assert passwords.was_good("ann", "secret")
    assert not passwords.was_good("ann", "Secret")
    assert not passwords.was_good("bob", "secret")
    assert not passwords.was_good("ann:secret", "")
    clock.now += GOOD_SECONDS
    assert not passwords.was_good("ann", "secret")


@pytest.mark.parametrize(
    "entry",
    ["ann", "ann:", ":secret", "ann:scrypt:", "ann:scrypt:32768:8:1:c2FsdHNhbHRzYWx0c2FsdA==", "ann:scrypt:secret-9"]
    + [f"ann:scrypt:{cost}:{'c2FsdHNhbHQ' * 2}:{'aGFzaGhhc2g' * 4}" for cost in ("3:8:1", "0:8:1", "4194304:8:1")],
)
def test_an_entry_that_cannot_be_right_is_refused_and_not_shown(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="basic_auth") as refused:
        Passwords(["bob:b", entry])
    assert "secret" not in str(refused.value)


def test_who_guesses_waits_and_nobody_else() -> None:
    """Other addresses go on, and the same wrong password again is no guess."""
    assert (PER_ADDRESS, PER_NAME, WINDOW_SECONDS) == (10, 50, 300)
    clock = Clock()
    throttle = Throttle(clock=clock)
    for guess in range(PER_ADDRESS):
        assert throttle.wait_seconds("10.0.0.1", "ann") == 0
        for _ in range(3):
            throttle.trying("10.0.0.1", "ann", b"%d" % guess, there_is=True)
        clock.now += 1
    assert throttle.wait_seconds("10.0.0.1", "ann") == WINDOW_SECONDS - PER_ADDRESS
    assert throttle.wait_seconds("10.0.0.1", "bob") > 0
    assert throttle.wait_seconds("10.0.0.2", "ann") == 0
    assert throttle.was_wrong("10.0.0.1", "ann", b"0")
    assert not throttle.was_wrong("10.0.0.2", "ann", b"0")
    clock.now += WINDOW_SECONDS - PER_ADDRESS
    assert throttle.wait_seconds("10.0.0.1", "ann") == 0


def test_a_name_that_is_guessed_from_everywhere_is_open_to_where_it_came_from_before() -> None:
    """And to nobody else for a while; a good password counts for no guess."""
    throttle = Throttle(clock=Clock())
    throttle.trying("10.0.0.1", "ann", b"good", there_is=True)
    throttle.was_good("10.0.0.1", "ann", b"good")
    for guess in range(PER_NAME):
        assert throttle.wait_seconds(f"10.1.0.{guess}", "ann") == 0
        throttle.trying(f"10.1.0.{guess}", "ann", b"%d" % guess, there_is=True)
    assert throttle.wait_seconds("10.0.0.2", "ann") == WINDOW_SECONDS
    assert throttle.wait_seconds("10.0.0.2", "bob") == 0
    assert throttle.wait_seconds("10.0.0.1", "ann") == 0
    for guess in range(PER_ADDRESS):
        throttle.trying("10.0.0.1", "ann", b"more %d" % guess, there_is=True)
    assert throttle.wait_seconds("10.0.0.1", "ann") > 0


def test_what_is_kept_of_guesses_is_bounded() -> None:
    """Whatever comes from however many addresses, under however many names."""
    throttle = Throttle(clock=Clock(), most=20)
    for number in range(200):
        throttle.trying(f"10.0.0.{number}", f"name-{number}", b"x", there_is=False)
        throttle.was_good(f"10.2.0.{number}", "ann", b"x")
    assert [len(kept) for kept in (throttle._by_address, throttle._by_name, throttle._homes)] == [20, 0, 20]


def test_one_address_is_what_one_subscriber_has() -> None:
    """Of IPv6 a network; none is known behind a unix socket."""
    assert home_of("2001:db8:1:2:aaaa::1") == home_of("2001:db8:1:2:bbbb::2") != home_of("2001:db8:1:3::1")
    assert home_of("::ffff:10.0.0.1") == home_of("10.0.0.1") != home_of("10.0.0.2")
    assert home_of("0.0.0.0") == home_of("") == home_of("unix") == ""


def test_flower_lets_in_whose_password_is_good_and_nobody_guess(shop: Shop, started: Processes) -> None:
    """On its own pages, its API and ours; names beyond ASCII as well; behind a proxy by the address that it tells."""
    key = shop.stuck("login")
    flower = FlowerProcess(
        started, shop, "--xheaders", "--tape-metrics-login", "--tape-allow-actions",
        FLOWER_BASIC_AUTH=f"ann:{hashed('secret', CHEAP)},jörg:p:ä",
    )  # fmt: skip

    def asking(name: str, password: str, address: str, route: str = "/effects") -> httpx.Response:
        shown = b64encode(f"{name}:{password}".encode()).decode()
        headers = {"X-Real-Ip": address, "Authorization": f"Basic {shown}"}
        return httpx.get(flower.url + route, headers=headers, timeout=30)

    for name, password in (("ann", "secret"), ("jörg", "p:ä")):
        for route in ("/effects", "/workers", "/api/task/types", "/metrics"):
            assert asking(name, password, "10.0.0.1", route).status_code == 200, (name, route)
    assert 'id="who">jörg' in asking("jörg", "p:ä", "10.0.0.1").text
    routes = ("/effects", "/workers", "/api/task/types", "/metrics", "/healthcheck")
    wrong = [("ann", "Secret"), ("ann", ""), ("jörg", "p:a"), ("eve", "secret"), ("", "")]
    for number, (name, password) in enumerate([*wrong, *(("ann", f"guess-{n}") for n in range(PER_ADDRESS - 5))]):
        route = routes[number % len(routes)]
        for _ in range(2 if number < 3 else 1):
            status = asking(name, password, "10.0.0.2", route).status_code
            assert status == (200 if route == "/healthcheck" else 401), (name, route)
    for name, password in (("ann", "secret"), ("jörg", "p:ä"), ("eve", "x")):
        for route in routes:
            late = asking(name, password, "10.0.0.2", route)
            assert late.status_code == 429, (name, route)
            assert 1 <= int(late.headers["Retry-After"]) <= WINDOW_SECONDS
    assert asking("ann", "secret", "10.0.0.1").status_code == 200
    assert asking("ann", "secret", "10.0.0.3").status_code == 200
    assert httpx.get(flower.url + "/effects", headers={"X-Real-Ip": "10.0.0.2"}).status_code == 401
    assert not re.search("guess-|Secret", flower.process.text())
    with flower.client(("ann", "secret")) as web:
        assert act(web, page_of("effect", key), "resolve-failed").status_code == 303
    assert shop.tape.journal(key)[-1].actor == "human:ann"


def test_a_session_of_oauth_ends_when_idle_and_its_cookies_go_over_tls_to_this_site(
    shop: Shop, started: Processes
) -> None:
    """The name of the user, the state of the login, the token of forms and what an act came to."""
    secret = "a secret for this test"
    flower = FlowerProcess(
        started, shop, "--auth=.*@example.com", "--auth_provider=flower.views.auth.GoogleAuth2LoginHandler",
        "--oauth2_key=k", "--oauth2_secret=s", "--oauth2_redirect_uri=http://127.0.0.1/login", "--xheaders",
        f"--cookie_secret={secret}", "--tape-idle-minutes=20",
    )  # fmt: skip
    page = page_of("effect", shop.stuck("session"))

    def asking(minutes_ago: float, route: str, **headers: str) -> httpx.Response:
        value = create_signed_value(
            secret, "user", "ann@example.com", clock=lambda: time.time() - 60 * minutes_ago
        ).decode()
        return httpx.get(flower.url + route, headers={"Cookie": f"user={value}", **headers}, timeout=30)

    def cookies(answer: httpx.Response) -> dict[str, str]:
        return {line.partition("=")[0]: line for line in answer.headers.get_list("set-cookie")}

    for route in (page, "/workers", "/api/task/types"):
        assert asking(1, route).status_code == 200
        assert "user" not in cookies(asking(1, route))
        renewed = asking(15, route)
        assert renewed.status_code == 200
        fresh = cookies(renewed)["user"].partition(";")[0]
        assert httpx.get(flower.url + page, headers={"Cookie": fresh}).status_code == 200
        assert asking(21, route).status_code in (302, 401, 403), route
    assert "/login?next=" in asking(21, page).headers["location"]
    over_tls = {"X-Forwarded-Proto": "https"}
    told = cookies(asking(15, page, **over_tls)) | cookies(asking(0, "/login?next=/workers", **over_tls))
    assert {"user", "_xsrf", "oauth_state", "tape_next"} <= set(told)
    for name, line in told.items():
        attributes = {part.strip() for part in line.split(";")[1:]}
        assert {"Secure", f"SameSite={'Strict' if name == 'user' else 'Lax'}"} <= attributes, line
        assert ("HttpOnly" in attributes) == (name != "_xsrf"), line
    assert "Secure" not in cookies(asking(15, page))["user"]
    assert 'user=""' in cookies(asking(15, "/logout"))["user"]

    def by_a_link(route: str, **headers: str) -> httpx.Response:
        return httpx.get(flower.url + route, headers=BY_A_LINK | headers, timeout=30)

    for route in (page, "/workers", "/"):
        goes_on = by_a_link(f"{route}?a=1&b=%22")
        assert goes_on.status_code == 200
        assert f'content="0;url={route}?a=1&amp;b=%22"' in goes_on.text
        assert "default-src 'none'" in goes_on.headers["Content-Security-Policy"]
        assert not cookies(goes_on)
        for other in ({"Referer": flower.url + route}, {"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Site": "none"}):
            assert "/login?next=" in by_a_link(route, **other).headers["location"], other
    assert "tape_next" not in cookies(httpx.get(flower.url + "/login?next=//evil.example"))
    given_up = {"Cookie": "tape_next=what-was-wanted-before"}
    assert 'tape_next=""' in cookies(httpx.get(flower.url + "/login", headers=given_up))["tape_next"]
