"""Acts on the pages: who may, what protects them, and what they come to; asked of a real Flower without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import httpx
import pytest
from tornado.web import create_signed_value

from tape_celery.records import EffectStatus, ObligationStatus, RunStatus
from tape_celery.testing import fail
from tests.flower.forms import act, filled, page_of
from tests.flower.shop import FlowerProcess, Shop
from tests.servers import Processes

ANN, BOB = ("ann", "secret-of-ann"), ("bob", "secret:of-bob")
LOGIN = f"--basic_auth={':'.join(ANN)},{':'.join(BOB)}"
ROUTES = ("/effects", "/effects/effect/{key}", "/effects/run/{key}", "/effects/connector/bank.wire")


@pytest.fixture(scope="module")
def flower(shop: Shop, started: Processes) -> FlowerProcess:
    """A Flower that knows two people."""
    return FlowerProcess(started, shop, LOGIN, "--tape-allow-actions")


@pytest.fixture(scope="module")
def ann(flower: FlowerProcess) -> Iterator[httpx.Client]:
    """One of them."""
    with flower.client(ANN) as client:
        yield client


def last(shop: Shop, key: str) -> tuple[str, str, Any]:
    """What the journal says last: kind, who, why."""
    entry = shop.tape.journal(key)[-1]
    return entry.kind, entry.actor, entry.evidence.get("reason")


# --- what they come to ---

EFFECT_ACTS: list[tuple[str, Callable[[Shop, str], str], EffectStatus]] = [
    ("resolve-confirmed", Shop.stuck, EffectStatus.CONFIRMED),
    ("resolve-failed", Shop.stuck, EffectStatus.FAILED),
    ("observe", Shop.stuck, EffectStatus.UNKNOWN),
    ("cancel", Shop.effect, EffectStatus.CANCELLED),
    ("release", Shop.held, EffectStatus.PENDING),
]


@pytest.mark.parametrize(("name", "make", "then"), EFFECT_ACTS, ids=[name for name, *_ in EFFECT_ACTS])
def test_an_act_is_done_and_journaled_with_who_and_why(
    ann: httpx.Client, shop: Shop, name: str, make: Callable[[Shop, str], str], then: EffectStatus
) -> None:
    """And the page that follows says what it came to, once."""
    key = make(shop, f"act-{name}")
    page = page_of("effect", key)
    answer = act(ann, page, name, reason="the bank said so")
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    assert shop.tape.get(key).status is then
    assert last(shop, key)[1:] == ("human:ann", "the bank said so")
    assert f"Done: it is {then} now." in ann.get(page).text
    assert "Done:" not in ann.get(page).text


def test_a_landing_is_told_with_its_reference(ann: httpx.Client, shop: Shop) -> None:
    """As the upstream knows it."""
    key = shop.stuck("with-ref")
    act(ann, page_of("effect", key), "resolve-confirmed", external_ref="bank-77")
    assert shop.tape.get(key).external_ref == "bank-77"


def test_an_effect_is_issued_again_and_compensated(ann: httpx.Client, shop: Shop) -> None:
    """The page names the effect, or the obligation, that came of it; an obligation takes acts of its own."""
    failed, landed = shop.failed("again"), shop.confirmed("undo")
    assert act(ann, page_of("effect", failed), "reissue").status_code == 303
    assert f"issued again as {shop.tape.get(failed).reissued_as}" in ann.get(page_of("effect", failed)).text
    assert act(ann, page_of("effect", landed), "owe").status_code == 303
    [owed] = shop.tape.obligations(effect_key=landed)
    assert f"obligation {owed.obligation_key}" in ann.get(page_of("effect", landed)).text
    shop.bank.inverses(fail())
    shop.tape.compensate(owed.obligation_key)
    assert shop.tape.obligations(effect_key=landed)[0].status is ObligationStatus.STUCK
    assert act(ann, page_of("effect", owed.obligation_key), "resolve-confirmed").status_code == 303
    assert shop.tape.obligations(effect_key=landed)[0].status is ObligationStatus.COMPENSATED
    assert last(shop, owed.obligation_key)[1] == "human:ann"


@pytest.mark.parametrize(
    ("name", "then"), [("compensate-run", RunStatus.COMPENSATING), ("cancel-run", RunStatus.CANCELLED)]
)
def test_a_run_is_closed(ann: httpx.Client, shop: Shop, name: str, then: RunStatus) -> None:
    """With who and why."""
    shop.confirmed(f"{name}-1", run_id=name)
    waits = shop.effect(f"{name}-2", run_id=name)
    assert act(ann, page_of("run", name), name, reason="a wrong order").status_code == 303
    run = shop.tape.run(name).record
    assert (run.status, run.actor, run.closing_reason) == (then, "human:ann", "a wrong order")
    assert shop.tape.get(waits).status is EffectStatus.CANCELLED
    assert f"it is {then} now" in ann.get(page_of("run", name)).text


def test_a_connector_is_paused_and_resumed(ann: httpx.Client, shop: Shop) -> None:
    """With who and why; only the one that makes sense is offered."""
    page = page_of("connector", "mail")
    assert act(ann, page, "pause", reason="their <b>maintenance</b>").status_code == 303
    [pause] = shop.tape.pauses()
    assert (pause.connector, pause.actor, pause.reason) == ("mail", "human:ann", "their <b>maintenance</b>")
    text = ann.get(page).text
    assert "by human:ann" in text.partition('id="paused"')[2]
    assert "their &lt;b&gt;maintenance" in text
    assert 'data-act="pause"' not in text
    assert ">paused</span>" in ann.get("/effects").text
    assert act(ann, page, "resume", reason="it is over").status_code == 303
    assert ">paused</span>" not in ann.get("/effects").text
    assert shop.tape.pauses() == []
    assert 'data-act="resume"' not in ann.get(page).text


def test_a_connector_is_limited_and_gets_a_breaker(ann: httpx.Client, shop: Shop) -> None:
    """Forms show what holds; an empty field takes it away; looks apart; nothing is done over what another has said."""
    page = page_of("connector", "mail")
    limits = {"at_once": "5", "rate": "100/m", "waiting": "50"}
    assert act(ann, page, "limit", **limits, reason="their <i>contract</i>").status_code == 303
    assert act(ann, page, "breaker-looks", share="50", window="30").status_code == 303
    call, look = shop.tape.flows()
    assert (call.at_once, call.rate_count, call.rate_ms, call.actor) == (5, 100, 60_000, "human:ann")
    assert call.most_waiting == 50
    assert (look.trouble_percent, look.least_calls, look.window_ms, look.open_ms) == (50, 10, 30_000, 30_000)
    text = ann.get(page).text
    table = text.partition('id="flows"')[2].partition("</table>")[0]
    assert "5 at once (0 in use), 100/minute, 0 of at most 50 waiting" in table
    assert "their &lt;i&gt;contract" in table
    assert "closed since" in table
    assert 'name="rate" maxlength="50" value="100/minute"' in text
    assert act(ann, page, "breaker", share="0.5").status_code == 400
    wrong = act(ann, page, "limit", at_once="many", rate="100/m")
    assert wrong.status_code == 400
    assert 'value="many"' in wrong.text
    stale = filled(ann, page, "limit-looks", at_once="", rate="")
    calls = filled(ann, page, "limit", at_once="6", rate="100/m")
    assert act(ann, page, "pause-looks", reason="they mend it").status_code == 303
    assert ann.post(page, data=calls).status_code == 303, "of its calls nobody has said anything since"
    answer = ann.post(page, data=stale)
    assert (answer.status_code, "changed by human:ann (they mend it)" in unescape(answer.text)) == (409, True)
    listed = ann.get("/effects").text
    assert ">looks paused</span>" in listed
    assert ">paused</span>" not in listed
    for name in ("resume-looks", "limit", "breaker-looks"):
        assert act(ann, page, name, at_once="", rate="", waiting="", share="").status_code == 303
    assert shop.tape.flows() == []
    assert 'id="flows"' not in ann.get(page).text


def test_what_is_not_there_takes_no_act(ann: httpx.Client, shop: Shop) -> None:
    """It is answered as its page is."""
    form = filled(ann, page_of("effect", shop.stuck("there")), "resolve-failed", seen_version="0")
    for kind, name in (("effect", "resolve-failed"), ("run", "cancel-run"), ("connector", "pause")):
        answer = ann.post(page_of(kind, "no-such"), data=form | {"act": name})
        assert answer.status_code == 404, kind
        assert "Not there" in answer.text


def test_an_act_that_the_state_does_not_allow_is_refused_and_the_row_is_shown(ann: httpx.Client, shop: Shop) -> None:
    """Somebody else was faster: the page says so, and keeps what was written."""
    key = shop.stuck("faster")
    form = filled(ann, page_of("effect", key), "resolve-failed", reason="I asked <them>")
    shop.tape.resolve(key, "confirmed", reason="seen", actor="bob", external_ref="x-1")
    answer = ann.post(page_of("effect", key), data=form)
    assert answer.status_code == 409
    assert 'id="trouble"' in answer.text
    assert shop.tape.get(key).status is EffectStatus.CONFIRMED
    assert '<span id="status" class="tape-state tape-CONFIRMED">' in answer.text


def test_nothing_is_done_to_a_row_that_has_moved_since_it_was_looked_at(ann: httpx.Client, shop: Shop) -> None:
    """Although its state allows it still: the page shows the row as it is, and keeps what was written."""
    key = shop.unknown("stale")
    form = filled(ann, page_of("effect", key), "resolve-failed", reason="I asked <them>")
    shop.bank.looks(*["truth"] * len(shop.bank.asked), "stuck")
    shop.tape.observe(key)
    before = shop.tape.get(key)
    assert before.status is EffectStatus.UNKNOWN
    answer = ann.post(page_of("effect", key), data=form)
    assert answer.status_code == 409
    assert "look again" in answer.text
    assert "I asked &lt;them&gt;</textarea>" in answer.text
    assert shop.tape.get(key) == before
    form["seen_version"] = str(before.version)
    assert ann.post(page_of("effect", key), data=form).status_code == 303


def test_what_one_person_may_not_do_alone_waits_for_another(
    ann: httpx.Client, flower: FlowerProcess, shop: Shop
) -> None:
    """It is proposed, and done when somebody else has confirmed it; whoever proposed it cannot."""
    key = shop.unknown("large", request={"amount": 5_000})
    page = page_of("effect", key)
    assert act(ann, page, "resolve-confirmed", external_ref="bank-5", reason="on their list").status_code == 303
    assert "somebody else has to confirm it" in ann.get(page).text
    assert shop.tape.get(key).status is EffectStatus.UNKNOWN
    [proposal] = shop.tape.proposals(key)
    assert (proposal.actor, proposal.reason) == ("human:ann", "on their list")
    assert f'href="{page}">It landed, by human:ann</a>' in ann.get("/effects").text
    decision = {"proposal": proposal.proposal_key, "seen_version": "1", "sure": "yes", "act": "confirm"}
    own = ann.get(page).text.partition('id="proposals"')[2]
    assert 'value="confirm"' not in own
    assert ann.post(page, data=decision | {"_xsrf": ann.cookies["_xsrf"]}).status_code == 409
    with flower.client(BOB) as bob:
        assert 'value="confirm"' in bob.get(page).text
        decision["_xsrf"] = bob.cookies["_xsrf"]
        assert bob.post(page, data=decision | {"proposal": "no-such"}).status_code == 409
        other = shop.unknown("small")
        assert bob.post(page_of("effect", other), data=decision).status_code == 409
        assert bob.post(page, data=decision | {"sure": ""}).status_code == 400
        assert shop.tape.get(key).status is EffectStatus.UNKNOWN
        assert bob.post(page, data=decision).status_code == 303
        assert "Done: it is CONFIRMED now." in bob.get(page).text
    assert shop.tape.get(key).external_ref == "bank-5"
    assert shop.tape.journal(key)[-1].actor == "human:bob"


def test_a_proposal_from_before_people_were_marked_is_still_ones_own(ann: httpx.Client, shop: Shop) -> None:
    """Made as ``ann``, by the same name: another one confirms it, and it is taken back."""
    key = shop.unknown("large-1", request={"amount": 5_000})
    page = page_of("effect", key)
    proposal = shop.tape.propose("resolve", key, verdict="failed", reason="they said so", actor="ann")
    own = ann.get(page).text.partition('id="proposals"')[2]
    assert 'value="confirm"' not in own
    assert "I want to take it back, as ann." in own
    decision = {"proposal": proposal.proposal_key, "seen_version": "1", "sure": "yes", "_xsrf": ann.cookies["_xsrf"]}
    assert ann.post(page, data=decision | {"act": "confirm"}).status_code == 409
    assert shop.tape.get(key).status is EffectStatus.UNKNOWN
    assert ann.post(page, data=decision | {"act": "withdraw"}).status_code == 303
    assert shop.tape.proposals(key) == []


def test_a_proposal_is_withdrawn(ann: httpx.Client, shop: Shop) -> None:
    """By whoever made it, or by another; nothing is done then."""
    key = shop.confirmed("large-2", request={"amount": 5_000})
    page = page_of("effect", key)
    act(ann, page, "owe")
    [proposal] = shop.tape.proposals(key)
    decision = {"proposal": proposal.proposal_key, "seen_version": "1", "sure": "yes", "act": "withdraw"}
    ann.get(page)
    assert ann.post(page, data=decision | {"_xsrf": ann.cookies["_xsrf"]}).status_code == 303
    assert shop.tape.proposals(key) == []
    assert shop.tape.obligations(effect_key=key) == []


@pytest.mark.parametrize(
    "change",
    [{"reason": "  "}, {"reason": "it is ok  "}, {"reason": "x" * 5000}, {"sure": ""}, {"act": "obliterate"},
     {"act": "compensate-run"}, {"seen_version": "²"}, {"seen_version": ""}],
)  # fmt: skip
def test_a_form_that_says_too_little_or_nonsense_does_nothing(
    ann: httpx.Client, shop: Shop, change: dict[str, str]
) -> None:
    """It is answered with 400, and a page."""
    key = shop.stuck("nonsense")
    before = shop.tape.get(key)
    form = filled(ann, page_of("effect", key), "resolve-failed") | change
    answer = ann.post(page_of("effect", key), data=form)
    assert answer.status_code == 400
    assert ">Workers</a>" in answer.text
    assert shop.tape.get(key) == before


def test_what_an_act_came_to_cannot_be_made_up(ann: httpx.Client, shop: Shop) -> None:
    """It travels in a signed cookie."""
    key = shop.confirmed("made-up")
    for cookie in ('"All is well."', "2|1:0|10:1700000000|9:tape_said|8:ImhhaCI=|00"):
        assert 'id="said"' not in ann.get(page_of("effect", key), headers={"Cookie": f"tape_said={cookie}"}).text


# --- who may ---


def test_every_route_asks_for_the_login(flower: FlowerProcess, shop: Shop) -> None:
    """For looking and acting; a wrong one is as good as none."""
    key = shop.stuck("who")
    for login, looked in (
        (None, 401),
        (("ann", "wrong"), 401),
        (("eve", "secret-of-ann"), 401),
        (ANN, 200),
        (BOB, 200),
    ):
        with flower.client(login) as web:
            for route in ROUTES:
                assert web.get(route.format(key=key)).status_code == looked, (login, route)
                assert web.head(route.format(key=key)).status_code == looked, (login, route)
                posted = web.post(route.format(key=key), data={"act": "resolve-failed"}).status_code
                assert posted in ((401, 403) if login not in (ANN, BOB) else (403, 405)), (login, route)
    assert shop.tape.get(key).status is EffectStatus.STUCK


def test_a_form_is_taken_only_from_a_page_of_ours(ann: httpx.Client, flower: FlowerProcess, shop: Shop) -> None:
    """With the token of the page and of the cookie, and from the same site as browsers and Origin have it."""
    key = shop.stuck("forged")
    page = page_of("effect", key)
    host = flower.url.removeprefix("http://")
    theirs = filled(ann, page, "resolve-failed")["_xsrf"]
    forged: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"_xsrf": ""}, {}),
        ({"_xsrf": "2|00000000|00|1"}, {}),
        ({"_xsrf": theirs}, {}),
        ({}, {"Cookie": "_xsrf="}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
        ({}, {"Sec-Fetch-Site": "none"}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null"}),
        ({}, {"Origin": "http://[::"}),
        ({}, {"Origin": f"http://{host}.evil.example"}),
    ]
    for fields, headers in forged:
        with flower.client(ANN) as fresh:
            answer = fresh.post(page, data=filled(fresh, page, "resolve-failed", **fields), headers=headers)
            assert answer.status_code == 403, (fields, headers)
            assert ">Workers</a>" in answer.text
    assert shop.tape.get(key).status is EffectStatus.STUCK
    form = filled(ann, page, "resolve-failed")
    taken = ann.post(page, data=form, headers={"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"})
    assert taken.status_code == 303


def test_nothing_changes_on_a_get(ann: httpx.Client, shop: Shop) -> None:
    """Not with the fields of a form in the address either."""
    key = shop.stuck("got")
    form = filled(ann, page_of("effect", key), "resolve-failed")
    assert ann.get(page_of("effect", key), params=form).status_code == 200
    for method in ("PUT", "DELETE", "PATCH"):
        assert ann.request(method, page_of("effect", key), data=form).status_code == 405
    assert shop.tape.get(key).status is EffectStatus.STUCK


def test_without_a_login_nobody_acts(shop: Shop, started: Processes) -> None:
    """Pages offer no form, a form that is sent all the same is refused, and so is another host name."""
    key = shop.stuck("anonymous")
    page = page_of("effect", key)
    with FlowerProcess(started, shop).client() as web:
        text = web.get(page).text
        assert "Acts need a login" in text
        assert '<form method="post"' not in text
        token = web.cookies["_xsrf"]
        form = {
            "_xsrf": token,
            "act": "resolve-failed",
            "seen_version": "1",
            "reason": "not on their list",
            "sure": "yes",
        }
        answer = web.post(page, data=form)
        assert answer.status_code == 403
        assert "Acts need a login" in answer.text
        for route in (page, "/effects", "/workers", "/tasks", "/metrics", "/api/task/types", "/healthcheck"):
            rebound = web.get(route, headers={"Host": "evil.example"})
            assert rebound.status_code == 403, route
            assert key not in rebound.text
    assert shop.tape.get(key).status is EffectStatus.STUCK


def test_acts_without_a_login_can_be_allowed_and_are_protected_all_the_same(shop: Shop, started: Processes) -> None:
    """Flower itself would check nothing."""
    key = shop.stuck("allowed")
    page = page_of("effect", key)
    with FlowerProcess(started, shop, "--tape-allow-anonymous-actions").client() as web:
        form = filled(web, page, "resolve-failed")
        for data, headers in ((form | {"_xsrf": ""}, {}), (form, {"Origin": "https://evil.example"}),
                              (form, {"Sec-Fetch-Site": "cross-site"}), (form, {"Host": "evil.example"})):  # fmt: skip
            assert web.post(page, data=data, headers=headers).status_code == 403
        assert shop.tape.get(key).status is EffectStatus.STUCK
        assert web.post(page, data=form).status_code == 303
    assert last(shop, key)[1] == "human:anonymous"


def test_nobody_acts_unless_that_is_allowed_and_a_prefix_is_on_every_link(shop: Shop, started: Processes) -> None:
    """Nor on Flower's own pages and by its API; the page says why, and the log by which option."""
    key = shop.stuck("prefix")
    flower = FlowerProcess(started, shop, LOGIN, "--url_prefix=ops/flower")
    with flower.client(ANN) as web:
        assert web.get("/effects").status_code == 404
        for route in ROUTES:
            text = web.get("/ops/flower" + route.format(key=key)).text
            assert 'href="/ops/flower/effects"' in text
            assert 'href="/effects' not in text
            style = text.partition('href="/ops/flower/effects/static/')[2].partition('"')[0]
            assert web.get(f"/ops/flower/effects/static/{style}").status_code == 200
        text = web.get("/ops/flower" + page_of("effect", key)).text
        assert "This Flower is for looking only" in text
        assert "ann · looking only" in text
        assert "--tape-allow" not in text
        assert 'method="post"' not in text
        token = web.cookies["_xsrf"]
        form = {
            "_xsrf": token,
            "act": "resolve-failed",
            "seen_version": "1",
            "reason": "not on their list",
            "sure": "yes",
        }
        assert web.post("/ops/flower" + page_of("effect", key), data=form).status_code == 403
        for api in ("worker/shutdown/w", "task/revoke/t", "task/send-task/tape.sweep"):
            refused = web.post(f"/ops/flower/api/{api}", headers={"Sec-Fetch-Site": "same-origin"})
            assert refused.status_code == 403, api
            assert "Read only" in refused.text, api
    assert "started without --tape-allow-actions" in flower.process.text()
    assert shop.tape.get(key).status is EffectStatus.STUCK


def test_whoever_oauth_vouches_for_is_the_actor(shop: Shop, started: Processes) -> None:
    """Others are sent to the login, and may not act."""
    key = shop.stuck("oauth")
    page = page_of("effect", key)
    secret = "a secret for this test"
    flower = FlowerProcess(
        started,
        shop,
        "--tape-allow-actions",
        "--auth=.*@example.com",
        "--auth_provider=flower.views.auth.GoogleAuth2LoginHandler",
        "--oauth2_key=k",
        "--oauth2_secret=s",
        "--oauth2_redirect_uri=http://127.0.0.1/login",
        f"--cookie_secret={secret}",
    )
    strangers = ("eve@evil.example", "ann@example.com.evil.example", "ann@exampleXcom", "ann@sub.example.com", "ann")
    for mail, looked in ((None, 302), *((mail, 302) for mail in strangers), ("ann@example.com", 200)):
        with flower.client() as web:
            if mail:
                web.cookies.set("user", create_signed_value(secret, "user", mail).decode(), domain="127.0.0.1")
            answer = web.get(page)
            assert answer.status_code == looked, mail
            if looked == 302:
                assert "/login?next=" in answer.headers["location"]
                assert key not in answer.text
                web.get("/no-such-page")  # has a token for everybody
                form = {
                    "_xsrf": web.cookies["_xsrf"],
                    "act": "resolve-failed",
                    "reason": "not on their list",
                    "sure": "yes",
                }
                form["seen_version"] = str(shop.tape.get(key).version)
                assert web.post(page, data=form).status_code == 403
                assert shop.tape.get(key).status is EffectStatus.STUCK
            else:
                assert act(web, page, "resolve-failed").status_code == 303
    assert last(shop, key)[1] == "human:ann@example.com"


def test_a_broker_that_is_away_holds_up_no_page_and_no_act(shop: Shop, started: Processes) -> None:
    """The store is what is shown and decided on; the sweep finds what nobody could be told of."""
    key = shop.effect("no-broker")
    away = (shop.directory / "shop_app.py").read_text().replace("memory://", "redis://127.0.0.1:1/0")
    (shop.directory / "shop_away.py").write_text(away)
    with FlowerProcess(started, shop, LOGIN, "--tape-allow-actions", app="shop_away").client(ANN) as web:
        assert key in web.get("/effects").text
        assert act(web, page_of("effect", shop.failed("no-broker-2")), "reissue").status_code == 303
        assert act(web, page_of("effect", key), "cancel").status_code == 303
    assert shop.tape.get(key).status is EffectStatus.CANCELLED


def test_a_store_that_is_away_is_told_on_the_page(shop: Shop, started: Processes) -> None:
    """With 503, whatever is asked for, and no traceback; when it is back, so are the pages."""
    key = shop.stuck("away")
    with FlowerProcess(started, shop, LOGIN, "--tape-allow-actions").client(ANN) as web:
        form = filled(web, page_of("effect", key), "resolve-failed")
        here, away = shop.directory / "tape.db", shop.directory / "away.db"
        shop.tape.database.close()
        here.rename(away)
        here.mkdir()
        try:
            for route in ROUTES:
                answer = web.get(route.format(key=key))
                assert answer.status_code == 503, route
                assert "The store" in answer.text
                assert "Traceback" not in answer.text
            answer = web.post(page_of("effect", key), data=form)
            assert answer.status_code == 503
            assert "not known" in unescape(answer.text)
        finally:
            here.rmdir()
            away.rename(here)
        assert web.get("/effects").status_code == 200
        assert web.post(page_of("effect", key), data=form).status_code == 303


def test_flowers_metrics_tell_what_people_did_and_what_the_store_says(flower: FlowerProcess, shop: Shop) -> None:
    """Beside its own, without a login, which a scraper has none of; without a key in them."""
    with flower.client(ANN) as ann:
        key = shop.effect("act-metrics")
        act(ann, page_of("effect", key), "cancel", reason="not any more")
    with flower.client() as scraper:
        told = scraper.get("/metrics").text
    act_of = '{connector="bank.wire",from="PENDING",kind="cancelled",record="effect",to="CANCELLED"}'
    assert re.search(rf"^tape_transitions_total{re.escape(act_of)} [1-9]", told, re.MULTILINE), told
    assert re.search(r'^tape_effects{connector="bank.wire",status="CANCELLED"} [1-9]', told, re.MULTILINE)
    assert "\ntape_store_up 1.0\n" in told
    assert "\n# HELP flower_events_total" in told
    assert key not in told
